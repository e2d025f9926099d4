/* Processes whose parent has died and that have become ours (PR_SET_CHILD_SUBREAPER). */
#ifndef IMAPPROXYD_ORPHANS_H
#define IMAPPROXYD_ORPHANS_H

#include <stdbool.h>

/* Has this process any child, of which at least one has not ended? Those that have are reaped. */
bool orphans_left(void);

/* Kills all children of this process. Returns how many there were; 0 as well where the kernel does
 * not list them. */
int orphans_kill(void);

#endif
