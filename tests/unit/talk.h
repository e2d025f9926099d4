/* A conversation between a client and a server, as the relay shows it to the follower.
 *
 * Client bytes wait in a window of `cap` bytes, like the relay's buffer: what the follower approves
 * leaves it at the front. Server bytes pass through a small buffer, rewritten, to the client. Used
 * by the unit tests of follow.h and rewrite.h and by their fuzz targets.
 */
#ifndef TESTS_UNIT_TALK_H
#define TESTS_UNIT_TALK_H

#include <assert.h>

#include "proxyd/rewrite.h"

#define TALK_MOST 131072
#define TALK_CAP  65536
#define TALK_DOWN (REWRITE_WORD + REWRITE_ROOM + 50)
#define TALK_HIDE "XHIDDEN XSECRET"

struct talk {
	struct follow f;
	size_t cap;
	size_t sent_length;
	size_t approved_length;
	size_t shown_length;
	struct rewrite w;
	struct buf down;
	char down_bytes[TALK_DOWN];
	char sent[TALK_MOST];
	char shown[TALK_MOST * 2];
};

static inline void talk_begin(struct talk *t, size_t cap)
{
	follow_init(&t->f, SPAN("XSITE XOTHER"));
	t->cap = cap;
	t->sent_length = t->approved_length = t->shown_length = 0;
	rewrite_init(&t->w, SPAN(TALK_HIDE));
	t->down = (struct buf)BUF_OVER(t->down_bytes);
}

/* The client gets bytes; what is too much for a conversation is lost. */
static inline void talk_show(struct talk *t, struct span bytes)
{
	if (bytes.n > sizeof(t->shown) - t->shown_length)
		bytes.n = sizeof(t->shown) - t->shown_length;
	memcpy(t->shown + t->shown_length, bytes.p, bytes.n);
	t->shown_length += bytes.n;
}

/* A refused command is answered when all before it is. */
static inline void talk_refuse(struct talk *t)
{
	const struct follow *f = &t->f;

	if (f->client != FOLLOW_REFUSED || f->outstanding_count > 0 || f->line.length > 0 ||
	    f->server_literal_left > 0 || f->server_rest || t->down.len > 0)
		return;
	assert(f->refused_tag_length < t->sent_length - t->approved_length);
	talk_show(t, (struct span){t->sent + t->approved_length, f->refused_tag_length});
	talk_show(t, SPAN(" BAD\r\n"));
	follow_refused(&t->f);
}

/* Shows what waits to the follower until it approves no more. */
static inline void talk_turn(struct talk *t)
{
	bool again;
	size_t n;

	do {
		size_t waits = t->sent_length - t->approved_length;
		char *first = t->sent + t->approved_length;
		struct span window = {first, waits < t->cap ? waits : t->cap};
		bool refused = t->f.client == FOLLOW_REFUSED;

		talk_refuse(t);
		bool dropping = t->f.dropping;

		n = follow_client(&t->f, window, window.n == t->cap);
		assert(n <= window.n);
		if (dropping) {
			memmove(first, first + n, waits - n);
			t->sent_length -= n;
		} else {
			t->approved_length += n;
		}
		again = n > 0 || (!refused && t->f.client == FOLLOW_REFUSED);
	} while (again);
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

/* What has come of the server goes to the client, which takes everything at once. */
static inline void talk_pass(struct talk *t)
{
	for (;;) {
		size_t n = rewrite_server(&t->w, &t->f, &t->down, 0);

		assert(n <= t->down.len);
		talk_show(t, (struct span){buf_span(&t->down).p, n});
		buf_consume(&t->down, n);
		if (n == 0)
			break;
	}
	assert(t->down.len == t->w.held && t->w.held <= REWRITE_WORD);
}

/* The server sends bytes. While client bytes wait they are shown line by line, since what it says
 * behind a continuation request it says after having had what it asked for. */
static inline void talk_server(struct talk *t, struct span bytes)
{
	while (bytes.n > 0) {
		const char *end = memchr(bytes.p, '\n', bytes.n);
		size_t n = end && t->sent_length > t->approved_length ? (size_t)(end - bytes.p) + 1
								      : bytes.n;

		if (n > TALK_DOWN - REWRITE_ROOM - t->down.len)
			n = TALK_DOWN - REWRITE_ROOM - t->down.len;
		assert(n > 0 && buf_add(&t->down, (struct span){bytes.p, n}) == 0);
		talk_pass(t);
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

static inline struct span talk_shown(const struct talk *t)
{
	return (struct span){t->shown, t->shown_length};
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
	return span_eq(talk_approved(a), talk_approved(b)) && talk_same_halves(&a->f, &b->f) &&
	       span_eq(talk_shown(a), talk_shown(b)) && a->f.dropping == b->f.dropping &&
	       a->w.held == b->w.held &&
	       follow_quiet(&a->f) == follow_quiet(&b->f) && a->f.spoiled == b->f.spoiled &&
	       talk_same_fingerprint(&a->f.fingerprint, &b->f.fingerprint) &&
	       a->f.bye == b->f.bye && a->f.outstanding_count == b->f.outstanding_count &&
	       memcmp(a->f.outstanding, b->f.outstanding,
		      a->f.outstanding_count * sizeof(a->f.outstanding[0])) == 0;
}

#endif
