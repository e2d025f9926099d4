/* Who is traced, and what an administrator has ordered of mail hosts: tables of few rows, so they
 * are searched from their front and written whole.
 *
 * Their sub-databases outlive a fresh start, which empties the others: a trace that was turned on
 * goes on until somebody turns it off, and a host that is drained for maintenance must not get
 * sessions because somebody restarted the service. (Not another boot of the machine: the file is
 * made anew then.)
 */
#include "cachebrokerd/state_names.h"

#include <assert.h>
#include <lmdb.h>
#include <stdint.h>

static_assert(sizeof(struct statefile_trace) == sizeof(struct statefile_order),
	      "both tables' rows are read and written by the one's size");

struct state_name *state_names_find(struct state_names *t, struct span text)
{
	for (size_t i = 0; i < t->count; i++)
		if (span_eq(state_name_text(&t->all[i]), text))
			return &t->all[i];
	return NULL;
}

struct state_name *state_names_add(struct state_names *t, struct span text)
{
	struct state_name *n = state_names_find(t, text);

	if (n || t->count == STATE_NAMES_MOST || text.n > STATE_NAME_MAX || text.n == 0)
		return n;
	n = &t->all[t->count++];
	*n = (struct state_name){ .length = text.n };
	memcpy(n->text, text.p, text.n);
	return n;
}

void state_names_remove(struct state_names *t, struct state_name *n)
{
	*n = t->all[--t->count];
}

int state_names_load(struct MDB_txn *txn, unsigned dbi, struct state_names *ret)
{
	MDB_val key, data;
	MDB_cursor *cursor;
	int r = mdb_cursor_open(txn, dbi, &cursor);

	if (r != 0)
		return r;
	ret->count = 0;
	while ((r = mdb_cursor_get(cursor, &key, &data, MDB_NEXT)) == 0) {
		struct state_name *n = NULL;

		if (data.mv_size == sizeof(n->trace))
			n = state_names_add(ret, (struct span){ key.mv_data, key.mv_size });
		if (n)
			memcpy(&n->trace, data.mv_data, sizeof(n->trace));
	}
	mdb_cursor_close(cursor);
	return r == MDB_NOTFOUND ? 0 : r;
}

int state_names_put(struct MDB_txn *txn, unsigned dbi, const struct state_names *t)
{
	int r = mdb_drop(txn, dbi, 0);

	for (size_t i = 0; r == 0 && i < t->count; i++) {
		const struct state_name *n = &t->all[i];
		MDB_val key = { n->length, (void *)(uintptr_t)n->text };
		MDB_val data = { sizeof(n->trace), (void *)(uintptr_t)&n->trace };

		r = mdb_put(txn, dbi, &key, &data, 0);
	}
	return r;
}
