/* What an administrator has ordered of mail hosts, as the state file keeps it. A small table,
 * written whole when it has changed. */
#ifndef CACHEBROKERD_STATE_ORDERS_H
#define CACHEBROKERD_STATE_ORDERS_H

#include <stddef.h>

#include "lib/span.h"
#include "lib/statefile.h"

#define STATE_ORDERS_MOST 64
#define STATE_ORDER_HOST  264 /* bytes of "[name]:port" */

struct state_order {
	struct statefile_order row;
	size_t length;
	char host[STATE_ORDER_HOST];
};

struct state_orders {
	unsigned version; /* differs when it has changed */
	size_t count;
	struct state_order all[STATE_ORDERS_MOST];
};

static inline struct span state_order_host(const struct state_order *o)
{
	return (struct span){ o->host, o->length };
}

/* The order of exactly this name, or NULL. */
struct state_order *state_orders_find(struct state_orders *t, struct span host);

/* The same, made if there is none. NULL: the table is full, or the name is too long or empty. */
struct state_order *state_orders_add(struct state_orders *t, struct span host);

/* Removes an order of the table; others may move. */
void state_orders_remove(struct state_orders *t, struct state_order *o);

/* For state_db.c, with LMDB's transaction and database: read all rows, or put the table in their
 * place. 0 or LMDB's error. */
struct MDB_txn;
int state_orders_load(struct MDB_txn *txn, unsigned dbi, struct state_orders *ret);
int state_orders_put(struct MDB_txn *txn, unsigned dbi, const struct state_orders *t);

#endif
