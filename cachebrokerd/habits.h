/* What clients were seen to turn on: of each account, ID and address the last fingerprint that it
 * left on a connection. Pure: the time is an argument.
 *
 * Only a guess comes from it: a session makes sure that its client wants what it is offered. A
 * table of fixed size; a newer habit takes the place of an old one, and whose is forgotten gets
 * plain connections and no promise.
 */
#ifndef CACHEBROKERD_HABITS_H
#define CACHEBROKERD_HABITS_H

#include "cachebrokerd/keys.h"

#define HABITS_SETS   4096
#define HABITS_WAYS   4		       /* in a set; the one not seen for longest gives way */
#define HABITS_TEXT   200	       /* the longest fingerprint, as in lib/msg_table.h */
#define HABITS_TURNS  4		       /* plain sessions in a row that make it forget one */
#define HABITS_MEMORY (24 * 3600000LL) /* ms since it was seen last */

struct habits;

/* NULL: no memory. */
struct habits *habits_new(void);
void habits_free(struct habits *h);

/* Which fingerprint does this client want, as far as one can tell? Empty: none; it lives until the
 * next call. *ret_promise: all of its sessions that are remembered, and there are some, have turned
 * nothing on. */
struct span habits_find(const struct habits *h, const struct key *who, int64_t now,
			bool *ret_promise);

/* One habit, as a successor must know it. */
struct habits_row {
	struct key who;
	int64_t seen;
	bool enables;
	unsigned plain_turns;
	struct span fingerprint;
};

/* The first one at place *at or behind it; *at is behind it then. Its text lives until the next
 * change. False: there are no more. */
bool habits_next(const struct habits *h, size_t *at, struct habits_row *ret);

/* Takes one over that was known before us. What makes no sense is left out. */
void habits_restore(struct habits *h, const struct habits_row *row);

/* A session of it has ended with this fingerprint. */
void habits_note(struct habits *h, const struct key *who, struct span fingerprint, int64_t now);

/* A session of it has ended, nobody knows how. */
void habits_forget(struct habits *h, const struct key *who);

#endif
