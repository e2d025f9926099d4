/* The jail of lookupd's processes. The master enters it before it forks; a worker, which inherits
 * that, gives up what only a master needs. Both: 0 or -errno: the process must not go on. */
#ifndef LOOKUPD_JAIL_H
#define LOOKUPD_JAIL_H

/* No new privileges, no dumps; no file can be written, no program executed (Landlock), and only the
 * calls of jail/make_filter.c succeed. */
int jail_enter_lookupd(void);

/* No processes, and no signals to others. */
int jail_enter_worker(void);

#endif
