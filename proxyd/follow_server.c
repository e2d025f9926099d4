/* Following an IMAP session: the server's half.
 *
 * Responses are never stored: a line's head says what it is, its tail whether a literal follows.
 * Only untagged data can hold literals; "{5}" at the end of a status response's human text is text
 * (RFC 9051 section 7.1), so nothing is skipped there, but as a server may see it otherwise such a
 * connection is not given back.
 */
#include "proxyd/follow.h"

#include "proxyd/follow_line.h"

static void spoil(struct follow *f, enum not_cached reason)
{
	if (f->spoiled == NOT_CACHED_NOTHING)
		f->spoiled = reason;
}

static struct span head_of(const struct follow_line *l)
{
	return (struct span){ l->head,
			      l->length < sizeof(l->head) ? (size_t)l->length : sizeof(l->head) };
}

bool follow_is_status(struct span head)
{
	static const struct span words[] = {
		{ "* OK", 4 }, { "* NO", 4 }, { "* BAD", 5 }, { "* BYE", 5 }, { "* PREAUTH", 9 },
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (span_istarts(head, words[i]) &&
		    (head.n == words[i].n || head.p[words[i].n] == ' ' ||
		     head.p[words[i].n] == '\r'))
			return true;
	return false;
}

static void end_untagged(struct follow *f, struct span head, struct span tail)
{
	uint64_t length;
	bool sync, literal = follow_literal_at_end(tail, &length, &sync);

	if (f->server_rest || !follow_is_status(head)) {
		f->server_literal_left = literal ? length : 0;
		f->server_rest = literal;
		return;
	}
	if (literal ||
	    span_istarts(head, SPAN("* BAD"))) /* BAD: to something that we saw otherwise */
		spoil(f, NOT_CACHED_ODD);
	if (span_istarts(head, SPAN("* BYE")))
		f->bye = true;
}

/* A continuation request answers what the client waits with; any other is none of ours. */
static void end_continuation(struct follow *f)
{
	if (f->client != FOLLOW_WAIT) {
		spoil(f, NOT_CACHED_ODD);
	} else if (f->waits_for_idle) {
		f->client = FOLLOW_DONE;
		f->owes_done = true;
	} else {
		f->client = f->literal_left > 0 ? FOLLOW_LITERAL : FOLLOW_REST;
	}
}

static bool text_unfinished(const struct follow *f)
{
	return f->client == FOLLOW_REST || f->client == FOLLOW_LITERAL ||
	       f->client == FOLLOW_LONG || f->client == FOLLOW_DONE;
}

/* Is the result BAD? May say yes behind a tag that fills the head. */
static bool says_bad(struct span head)
{
	(void)span_word(&head, ' ');
	struct span result = span_word(&head, ' ');

	return !span_istarts(result, SPAN("OK")) && !span_istarts(result, SPAN("NO"));
}

/* Does the head show that the result is OK? */
static bool says_ok(struct span head)
{
	(void)span_word(&head, ' ');
	return span_ieq(span_word(&head, ' '), SPAN("OK"));
}

static void end_tagged(struct follow *f, struct span head, uint64_t tag)
{
	size_t i = 0;

	f->last_ok = says_ok(head);
	if (f->pushed_lines && says_bad(head))
		spoil(f, NOT_CACHED_ODD);
	while (i < f->outstanding_count && f->outstanding[i] != tag)
		i++;
	if (i == f->outstanding_count) {
		spoil(f, NOT_CACHED_ODD);
		return;
	}
	f->outstanding_count--;
	memmove(&f->outstanding[i], &f->outstanding[i + 1],
		(f->outstanding_count - i) * sizeof(f->outstanding[0]));
	/* the last that was sent, not an earlier one under the same tag, which servers answer first
	 */
	if (tag != f->current || i != f->outstanding_count)
		return;
	if (f->client == FOLLOW_WAIT)
		f->client = FOLLOW_LINE; /* refused: no literal comes, no DONE */
	else if (text_unfinished(f))
		spoil(f, NOT_CACHED_PARTIAL);
	f->owes_done = false;
}

/* A line has ended while ENABLE or the like is under way. */
static void end_enabling_line(struct follow *f, struct span head)
{
	struct fingerprint *fp = &f->fingerprint;

	if (f->server_rest || (head.n > 0 && head.p[0] == '*')) {
		fingerprint_untagged(fp, f->server_rest);
	} else if (f->line.tag == fp->tag) {
		fingerprint_tagged(fp);
	} else {
		fp->line_length = 0;
		fp->unknown = true;
	}
}

static void end_line(struct follow *f)
{
	char bytes[sizeof(f->line.tail)];
	struct span tail = follow_line_tail(&f->line, bytes), head = head_of(&f->line);
	bool has_cr =
		f->line.length > 0 && f->line.tail[(f->line.length - 1) % sizeof(bytes)] == '\r';

	if (!has_cr)
		spoil(f, NOT_CACHED_ODD);
	if (f->fingerprint.pending)
		end_enabling_line(f, head);
	if (f->server_rest || (head.n > 0 && head.p[0] == '*'))
		end_untagged(f, head, tail);
	else if (head.n > 0 && head.p[0] == '+')
		end_continuation(f);
	else
		end_tagged(f, head, f->line.tag);
	follow_line_init(&f->line);
}

size_t follow_server_step(struct follow *f, struct span bytes)
{
	if (f->server_literal_left > 0) {
		size_t n = bytes.n < f->server_literal_left ? bytes.n
							    : (size_t)f->server_literal_left;

		f->server_literal_left -= n;
		return n;
	}
	bool ended;
	size_t n = follow_line_add(&f->line, bytes, &ended);

	if (f->fingerprint.pending)
		fingerprint_piece(&f->fingerprint, (struct span){ bytes.p, n - ended });
	if (ended)
		end_line(f);
	return n;
}

void follow_server(struct follow *f, struct span bytes)
{
	while (bytes.n > 0)
		bytes = span_from(bytes, follow_server_step(f, bytes));
}
