/* A worker: carries connections, in a jail. */
#ifndef TLSRELAYD_WORKER_H
#define TLSRELAYD_WORKER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "tlsrelayd/contexts.h"

struct worker_setup {
	struct contexts *contexts; /* only the half that it needs */
	int link;
	uint32_t handshake_seconds;
	uid_t uid; /* whom it becomes if it is root */
	gid_t gid;
};

/* In the child of a fork: locks itself up, serves until it was told to leave, or the master is
 * gone, and its last connection has ended. Returns the exit status. */
int worker_run(const struct worker_setup *setup);

#endif
