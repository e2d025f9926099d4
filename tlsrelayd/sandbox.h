/* The jail of a worker: it can read, write, poll and receive descriptors, and nothing else. */
#ifndef TLSRELAYD_SANDBOX_H
#define TLSRELAYD_SANDBOX_H

#include <sys/types.h>

/* Where a worker's link to the master is: the filter goes by this number. */
#define SANDBOX_LINK 3
#define SANDBOX_NEXT 4 /* the first of the descriptors that come and go */

/* The master's: no new privileges, no program can be executed, no file written, and only the calls
 * of sandbox/make_master_filter.c succeed. One that is root has to make others of its workers: it
 * stays as it is, and they lock themselves up. 0, or -errno: then the process must not go on. */
int sandbox_enter_master(void);

/* Moves the link into its place and closes all other descriptors, the log's, too: from now on the
 * master writes the lines. Then gives up the rights of root when there are any (uid, gid), and
 * every other right. 0, or -errno: then the process must not go on. */
int sandbox_arrange(int *link);
int sandbox_enter(uid_t uid, gid_t gid);

#endif
