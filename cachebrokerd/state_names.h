/* Names with a mark, as the state file keeps them: who is traced, and what is ordered of which mail
 * hosts. Small tables, written whole when they have changed. */
#ifndef CACHEBROKERD_STATE_NAMES_H
#define CACHEBROKERD_STATE_NAMES_H

#include <stddef.h>

#include "lib/span.h"
#include "lib/statefile.h"

#define STATE_NAMES_MOST 64
#define STATE_NAME_MAX	 255

struct state_name {
	union { /* by the table */
		struct statefile_trace trace;
		struct statefile_order order;
	};
	size_t length;
	char text[STATE_NAME_MAX];
};

struct state_names {
	unsigned version; /* differs when it has changed */
	size_t count;
	struct state_name all[STATE_NAMES_MOST];
};

static inline struct span state_name_text(const struct state_name *n)
{
	return (struct span){ n->text, n->length };
}

/* The row of exactly this name, or NULL. */
struct state_name *state_names_find(struct state_names *t, struct span text);

/* The same, made if there is none. NULL: the table is full, or the name is too long or empty. */
struct state_name *state_names_add(struct state_names *t, struct span text);

/* Removes a row of the table; others may move. */
void state_names_remove(struct state_names *t, struct state_name *n);

/* For state_db.c, with LMDB's transaction and database: read all rows, or put the table in their
 * place. 0 or LMDB's error. */
struct MDB_txn;
int state_names_load(struct MDB_txn *txn, unsigned dbi, struct state_names *ret);
int state_names_put(struct MDB_txn *txn, unsigned dbi, const struct state_names *t);

#endif
