/* Processes whose parent has died and that have become ours (PR_SET_CHILD_SUBREAPER). */
#ifndef IMAPPROXYD_ORPHANS_H
#define IMAPPROXYD_ORPHANS_H

#include <stdbool.h>
#include <sys/types.h>

/* Has this process any child but this one (0: any at all)? Those that have ended count until they
 * are reaped. Where the kernel does not list them it says yes as long as it cannot know. */
bool orphans_left(pid_t but);

/* Kills all children of this process but this one. Returns how many there were; 0 as well where the
 * kernel does not list them. */
int orphans_kill(pid_t but);

#endif
