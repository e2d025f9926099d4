/* The jail of a worker: it can read, write, poll and receive descriptors, and nothing else. */
#ifndef TLSRELAYD_SANDBOX_H
#define TLSRELAYD_SANDBOX_H

#include <sys/types.h>

/* Where a worker's descriptors are: the filter goes by these numbers. */
#define SANDBOX_LOG  3
#define SANDBOX_LINK 4
#define SANDBOX_NEXT 5 /* the first of those that come and go */

/* No dumps of a process that holds keys. For master and workers. */
void sandbox_forbid_dumps(void);

/* Moves the link and the log's socket (-1: none) into their places, closes all others, gives up the
 * rights of root when there are any (uid, gid), and every other right. 0, or -errno: then the
 * process must not go on. */
int sandbox_arrange(int *link, int *log);
int sandbox_enter(uid_t uid, gid_t gid);

#endif
