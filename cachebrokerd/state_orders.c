/* What an administrator has ordered of mail hosts: a table of few rows, written whole.
 *
 * Like that of traced users it outlives a fresh start: a host that is drained for maintenance must
 * not get sessions because somebody restarted the service. (Not another boot of the machine: the
 * file is made anew then.)
 */
#include "cachebrokerd/state_orders.h"

#include <lmdb.h>
#include <stdint.h>

struct state_order *state_orders_find(struct state_orders *t, struct span host)
{
	for (size_t i = 0; i < t->count; i++)
		if (span_eq(state_order_host(&t->all[i]), host))
			return &t->all[i];
	return NULL;
}

struct state_order *state_orders_add(struct state_orders *t, struct span host)
{
	struct state_order *o = state_orders_find(t, host);

	if (o || t->count == STATE_ORDERS_MOST || host.n > STATE_ORDER_HOST || host.n == 0)
		return o;
	o = &t->all[t->count++];
	*o = (struct state_order){ .length = host.n };
	memcpy(o->host, host.p, host.n);
	return o;
}

void state_orders_remove(struct state_orders *t, struct state_order *o)
{
	*o = t->all[--t->count];
}

int state_orders_load(struct MDB_txn *txn, unsigned dbi, struct state_orders *ret)
{
	MDB_val key, data;
	MDB_cursor *cursor;
	int r = mdb_cursor_open(txn, dbi, &cursor);

	if (r != 0)
		return r;
	ret->count = 0;
	while ((r = mdb_cursor_get(cursor, &key, &data, MDB_NEXT)) == 0) {
		struct state_order *o = NULL;

		if (data.mv_size == sizeof(o->row))
			o = state_orders_add(ret, (struct span){ key.mv_data, key.mv_size });
		if (o)
			memcpy(&o->row, data.mv_data, sizeof(o->row));
	}
	mdb_cursor_close(cursor);
	return r == MDB_NOTFOUND ? 0 : r;
}

int state_orders_put(struct MDB_txn *txn, unsigned dbi, const struct state_orders *t)
{
	int r = mdb_drop(txn, dbi, 0);

	for (size_t i = 0; r == 0 && i < t->count; i++) {
		const struct state_order *o = &t->all[i];
		MDB_val key = { o->length, (void *)(uintptr_t)o->host };
		MDB_val data = { sizeof(o->row), (void *)(uintptr_t)&o->row };

		r = mdb_put(txn, dbi, &key, &data, 0);
	}
	return r;
}
