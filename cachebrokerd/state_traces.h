/* Who is traced, as the state file keeps it. A small table, written whole when it has changed. */
#ifndef CACHEBROKERD_STATE_TRACES_H
#define CACHEBROKERD_STATE_TRACES_H

#include <stddef.h>

#include "lib/span.h"
#include "lib/statefile.h"

#define STATE_TRACES_MOST 32
#define STATE_TRACE_USER  255

struct state_trace {
	struct statefile_trace row;
	size_t length;
	char user[STATE_TRACE_USER];
};

struct state_traces {
	unsigned version; /* differs when it has changed */
	size_t count;
	struct state_trace all[STATE_TRACES_MOST];
};

/* The user's row, or NULL. */
struct state_trace *state_traces_find(struct state_traces *t, struct span user);

/* The row of the user, made if there is none. NULL: the table is full, or the name is too long or
 * empty. */
struct state_trace *state_traces_add(struct state_traces *t, struct span user);

/* Removes a row of the table; others may move. */
void state_traces_remove(struct state_traces *t, struct state_trace *row);

static inline struct span state_trace_user(const struct state_trace *row)
{
	return (struct span){ row->user, row->length };
}

/* For state_db.c, with LMDB's transaction and database: read all rows, or put the table in their
 * place. 0 or LMDB's error. */
struct MDB_txn;
int state_traces_load(struct MDB_txn *txn, unsigned dbi, struct state_traces *ret);
int state_traces_put(struct MDB_txn *txn, unsigned dbi, const struct state_traces *t);

#endif
