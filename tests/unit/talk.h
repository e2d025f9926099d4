/* A conversation between a client and a server, as the relay shows it to the follower.
 *
 * Client bytes wait in a window of `cap` bytes, like the relay's buffer: what the follower approves
 * leaves it at the front. Used by the unit tests of follow.h and by its fuzz target.
 */
#ifndef TESTS_UNIT_TALK_H
#define TESTS_UNIT_TALK_H

#include <assert.h>

#include "proxyd/follow.h"

#define TALK_MOST 131072
#define TALK_CAP  65536

struct talk {
	struct follow f;
	size_t cap;
	size_t sent_length;
	size_t approved_length;
	char sent[TALK_MOST];
};

static inline void talk_begin(struct talk *t, size_t cap)
{
	follow_init(&t->f, SPAN("XSITE XOTHER"));
	t->cap = cap;
	t->sent_length = t->approved_length = 0;
}

/* Shows what waits to the follower until it approves no more. */
static inline void talk_turn(struct talk *t)
{
	size_t n;

	do {
		size_t waits = t->sent_length - t->approved_length;
		struct span window = {t->sent + t->approved_length,
				      waits < t->cap ? waits : t->cap};

		n = follow_client(&t->f, window, window.n == t->cap);
		assert(n <= window.n);
		t->approved_length += n;
	} while (n > 0);
}

/* The client sends bytes; what is too much for a conversation is lost. */
static inline void talk_client(struct talk *t, struct span bytes)
{
	if (bytes.n > TALK_MOST - t->sent_length)
		bytes.n = TALK_MOST - t->sent_length;
	memcpy(t->sent + t->sent_length, bytes.p, bytes.n);
	t->sent_length += bytes.n;
	talk_turn(t);
}

/* The server sends bytes. While client bytes wait they are shown line by line, since what it says
 * behind a continuation request it says after having had what it asked for. */
static inline void talk_server(struct talk *t, struct span bytes)
{
	while (bytes.n > 0) {
		const char *end = memchr(bytes.p, '\n', bytes.n);
		size_t n = end && t->sent_length > t->approved_length ? (size_t)(end - bytes.p) + 1
								      : bytes.n;

		follow_server(&t->f, (struct span){bytes.p, n});
		talk_turn(t);
		bytes = span_from(bytes, n);
	}
}

static inline struct span talk_approved(const struct talk *t)
{
	return (struct span){t->sent, t->approved_length};
}

static inline bool talk_same_halves(const struct follow *a, const struct follow *b)
{
	return a->client == b->client && a->literal_left == b->literal_left &&
	       (a->client != FOLLOW_WAIT || a->waits_for_idle == b->waits_for_idle) &&
	       a->owes_done == b->owes_done && a->selected == b->selected &&
	       a->logout_line_length == b->logout_line_length &&
	       a->logout_tag_length == b->logout_tag_length &&
	       memcmp(a->logout_tag, b->logout_tag, a->logout_tag_length) == 0 &&
	       a->line.length == b->line.length &&
	       a->server_literal_left == b->server_literal_left && a->server_rest == b->server_rest;
}

static inline bool talk_same_fingerprint(const struct fingerprint *a, const struct fingerprint *b)
{
	return a->unknown == b->unknown && a->pending == b->pending &&
	       a->condstore == b->condstore && a->length == b->length &&
	       memcmp(a->text, b->text, a->length) == 0 &&
	       a->opening_length == b->opening_length &&
	       memcmp(a->opening, b->opening, a->opening_length) == 0;
}

/* Do two conversations, whose pieces may have differed, mean the same now? */
static inline bool talk_same(const struct talk *a, const struct talk *b)
{
	return a->approved_length == b->approved_length && talk_same_halves(&a->f, &b->f) &&
	       follow_quiet(&a->f) == follow_quiet(&b->f) && a->f.spoiled == b->f.spoiled &&
	       talk_same_fingerprint(&a->f.fingerprint, &b->f.fingerprint) &&
	       a->f.bye == b->f.bye && a->f.outstanding_count == b->f.outstanding_count &&
	       memcmp(a->f.outstanding, b->f.outstanding,
		      a->f.outstanding_count * sizeof(a->f.outstanding[0])) == 0;
}

#endif
