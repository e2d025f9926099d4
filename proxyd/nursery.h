/* The nursery: the listener's child that makes the spare processes, so that they inherit its jail,
 * its settings and its small memory. It is replaced whenever one of these changes.
 */
#ifndef PROXYD_NURSERY_H
#define PROXYD_NURSERY_H

#include "proxyd/pool.h"
#include "proxyd/service.h"
#include "proxyd/session.h"

struct nursery {
	struct pool_table *table;
	const struct session_settings *settings;
	struct msg_POOL bounds;
	int door;    /* the children's way to the broker */
	int reports; /* pipe, written: struct nursery_report for each child that was killed */
	int life;    /* pipe, never written: the listener is gone or wants the nursery to leave */
	int sockets[POOLS_MAX];
	const struct service *services[POOLS_MAX]; /* what each of them is for */
	size_t count;
};

/* One of its processes was killed by a signal; written whole. */
struct nursery_report {
	int32_t pid;
	int32_t signal;
};

/* Runs in a new process, which must exit with what this returns: as the nursery when there is no
 * more use for it, as one of its children when its session is over. */
int nursery_run(struct nursery *n);

#endif
