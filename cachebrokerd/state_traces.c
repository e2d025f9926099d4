/* Who is traced: a table of few rows, so it is searched from its front and written whole.
 *
 * Its sub-database outlives a fresh start, which empties the others: a trace that was turned on
 * goes on until somebody turns it off. (Not another boot of the machine: the file is made anew
 * then.)
 */
#include "cachebrokerd/state_traces.h"

#include <lmdb.h>
#include <stdint.h>

struct state_trace *state_traces_find(struct state_traces *t, struct span user)
{
	for (size_t i = 0; i < t->count; i++)
		if (span_eq(state_trace_user(&t->all[i]), user))
			return &t->all[i];
	return NULL;
}

struct state_trace *state_traces_add(struct state_traces *t, struct span user)
{
	struct state_trace *row = state_traces_find(t, user);

	if (row || t->count == STATE_TRACES_MOST || user.n > STATE_TRACE_USER || user.n == 0)
		return row;
	row = &t->all[t->count++];
	*row = (struct state_trace){ .length = user.n };
	memcpy(row->user, user.p, user.n);
	return row;
}

void state_traces_remove(struct state_traces *t, struct state_trace *row)
{
	*row = t->all[--t->count];
}

int state_traces_load(struct MDB_txn *txn, unsigned dbi, struct state_traces *ret)
{
	MDB_val key, data;
	MDB_cursor *cursor;
	int r = mdb_cursor_open(txn, dbi, &cursor);

	if (r != 0)
		return r;
	ret->count = 0;
	while ((r = mdb_cursor_get(cursor, &key, &data, MDB_NEXT)) == 0) {
		struct state_trace *row = NULL;

		if (data.mv_size == sizeof(row->row))
			row = state_traces_add(ret, (struct span){ key.mv_data, key.mv_size });
		if (row)
			memcpy(&row->row, data.mv_data, sizeof(row->row));
	}
	mdb_cursor_close(cursor);
	return r == MDB_NOTFOUND ? 0 : r;
}

int state_traces_put(struct MDB_txn *txn, unsigned dbi, const struct state_traces *t)
{
	int r = mdb_drop(txn, dbi, 0);

	for (size_t i = 0; r == 0 && i < t->count; i++) {
		const struct state_trace *row = &t->all[i];
		MDB_val key = { row->length, (void *)(uintptr_t)row->user };
		MDB_val data = { sizeof(row->row), (void *)(uintptr_t)&row->row };

		r = mdb_put(txn, dbi, &key, &data, 0);
	}
	return r;
}
