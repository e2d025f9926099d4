/* A pool of spare processes on one listening socket. */
#ifndef PROXYD_POOL_H
#define PROXYD_POOL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define POOLS_MAX 16

/* What parent and children share: one anonymous mapping per pool. */
struct pool_shared;

struct pool {
	int socket;	 /* listening */
	int door;	 /* the children's way to the broker */
	int wake;	 /* eventfd: a child found that few spares are left */
	uint32_t target; /* spares wanted now, between least and most */
	uint32_t least, most;
	struct pool_shared *shared;
	pid_t *pids;	     /* of the slots; the children do not see them */
	uint32_t slots;	     /* in the shared table that may be used */
	uint32_t slots_used; /* the highest used one, plus one */
	bool fork_failed;    /* the last time */
	bool exhausted;	     /* no spare was left when the pool was looked at */
};

/* Makes a pool for a listening socket. 0 or -errno. */
int pool_init(struct pool *p, int socket, int door, int wake, uint32_t least, uint32_t most,
	      uint32_t processes_most);

/* New bounds; they hold from the next pool_fill(). Spares of before leave by themselves. */
void pool_set_bounds(struct pool *p, uint32_t least, uint32_t most, uint32_t processes_most);

/* In a child that has a client: from now on it can neither see nor change what parent and children
 * share. */
void pool_leave(struct pool *p);

/* Notes that the process pid is gone. Returns true when it was one of this pool's. */
bool pool_reaped(struct pool *p, pid_t pid);

/* Forks until there are as many spares as wanted. Returns 0 in the parent; in a new child the
 * descriptor of its client, once it has one, or -1 when it is not needed any more: it must then
 * exit. *ret_child says which of the two returned. */
int pool_fill(struct pool *p, bool *ret_child);

/* Once a second: adapts the number of spares to the load. */
void pool_adapt(struct pool *p);

/* No spare shall wait any longer: each leaves at its next look (POOL_LOOK). */
void pool_retire(struct pool *p);

#endif
