/* A pool of spare processes on one listening socket. */
#ifndef PROXYD_POOL_H
#define PROXYD_POOL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define POOLS_MAX	16
#define POOL_SPARES_MAX 4096 /* the bound of spare_processes */

/* What a pool's processes share. A spare has a slot from its fork to its client. */
struct pool_shared {
	atomic_int spares; /* waiting now, roughly: only decides whether to wake the parent */
	atomic_int wanted; /* a spare beyond this number leaves */
	atomic_int low;	   /* so few left: wake the parent */
	atomic_uint used;  /* slots: the highest one ever used, plus one */
	_Atomic(pid_t) slots[POOL_SPARES_MAX]; /* 0: free, -1: being forked, else the spare's pid */
};

/* Spares that are leaving and those that are coming do not count each other. */
#define POOL_GENERATIONS 4

struct pool_generation {
	atomic_bool woken; /* the parent has been told that spares are few */
	struct pool_shared pools[POOLS_MAX];
};

/* What all pools' processes share: anonymous memory, which a process with a client has given up. */
struct pool_table {
	atomic_uint generation; /* a spare of another one leaves */
	atomic_int busy;	/* processes that are no spares and have not been reaped */
	struct pool_generation generations[POOL_GENERATIONS]; /* by the number's remainder */
};

struct pool {
	int socket; /* listening */
	int wake;   /* eventfd: a child found that few spares are left */
	struct pool_table *table;
	struct pool_shared *shared; /* of the table: this pool's */
	atomic_bool *woken;	    /* of the table: this generation's */
	unsigned generation;
	uint32_t target; /* spares wanted now, between least and most */
	uint32_t least, most;
	bool fork_failed; /* the last time */
	bool exhausted;	  /* no spare was left when the pool was looked at */
};

/* The table that pool_init() wants, or NULL with errno. */
struct pool_table *pool_table_new(void);

/* Makes pool number n of a table for a listening socket. 0 or -errno. */
int pool_init(struct pool *p, struct pool_table *table, unsigned n, int socket, int wake,
	      uint32_t least, uint32_t most);

/* In a child that has a client: from now on it can neither see nor change what parent and children
 * share. */
void pool_leave(struct pool_table *table);

/* The process pid is gone: if it was a spare of one of the table's first `pools`, its slot is free,
 * else there is one busy process less. */
void pool_reaped(struct pool_table *table, unsigned pools, pid_t pid);

/* The parent is about to look at its pools: it may be woken again from now on. */
void pool_listen(struct pool *p);

/* Forks until there are as many spares as wanted; *room is how many processes may still be
 * started. Returns 0 in the parent; in a new child the descriptor of its client, once it has one,
 * or -1 when it is not needed any more: it must then exit. *ret_child says which of the two
 * returned. */
int pool_fill(struct pool *p, uint32_t *room, bool *ret_child);

/* Once a second: adapts the number of spares to the load. */
void pool_adapt(struct pool *p);

/* No spare of the table's first `pools` shall wait any longer: each leaves when it hears SIGURG, or
 * at its next look (POOL_LOOK). Pools that are made later are of the next generation. For the
 * process that made the table, which need not be the spares' parent. */
void pool_retire(struct pool_table *table, unsigned pools);

/* The same once more for those of the generation that was retired last: one may have been about to
 * wait, and one may have been forked meanwhile. */
void pool_remind(struct pool_table *table, unsigned pools);

#endif
