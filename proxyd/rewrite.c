/* Capability lists in the mail host's stream. Pure.
 *
 * The follower sees each piece first, as the mail host said it: where a line begins and where a
 * literal ends is known to it alone. Outside of lists a line costs one look at its first words.
 * In a list the kept words move to the front of what was read, over those that were left out; only
 * its end needs room, for XIMAPPROXY. The unfinished word at the end of a piece stays in the buffer
 * (held), so that the pieces never show.
 */
#include "proxyd/rewrite.h"

#include "proxyd/capability.h"

/* What follows the line's first word and a blank when a list begins behind it. */
static const struct {
	struct span text;
	bool code;
} heads[] = {
	{ { "CAPABILITY ", 11 }, false },	  { { "OK [CAPABILITY ", 15 }, true },
	{ { "NO [CAPABILITY ", 15 }, true },	  { { "BAD [CAPABILITY ", 16 }, true },
	{ { "PREAUTH [CAPABILITY ", 20 }, true }, { { "BYE [CAPABILITY ", 16 }, true },
};

void rewrite_init(struct rewrite *w, struct span hide)
{
	memset(w, 0, sizeof(*w));
	w->hide = hide;
}

/* The bytes of the line's first word count until the blank behind it is there. */
static size_t skip_first_word(struct rewrite *w, struct span piece)
{
	const char *blank = memchr(piece.p, ' ', piece.n);
	size_t n = blank ? (size_t)(blank - piece.p) : piece.n;

	if (w->seen == 0)
		w->first = piece.p[0];
	w->seen = w->seen + n > 1 ? 2 : (unsigned char)(w->seen + n);
	if (!blank)
		return n;
	w->untagged = w->seen == 1 && w->first == '*';
	w->state = w->first == '+' ? REWRITE_PASS : REWRITE_HEAD;
	w->seen = 0;
	return n + 1;
}

/* One more byte behind the first word: can, or does, a list begin here? */
static void look_at_head(struct rewrite *w, char c)
{
	struct span seen = { w->head, (size_t)w->seen + 1 };

	w->head[w->seen++] = c;
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		if ((!heads[i].code && !w->untagged) || !span_istarts(heads[i].text, seen))
			continue;
		if (seen.n == heads[i].text.n) {
			w->state = REWRITE_LIST;
			w->in_code = heads[i].code;
		}
		return;
	}
	w->state = REWRITE_PASS;
}

/* Returns how many of the piece's bytes stand in front of a list: all, unless one begins. */
static size_t find_list(struct rewrite *w, struct span piece)
{
	size_t i = w->state == REWRITE_TAG ? skip_first_word(w, piece) : 0;

	while (i < piece.n && w->state == REWRITE_HEAD)
		look_at_head(w, piece.p[i++]);
	return w->state == REWRITE_LIST ? i : piece.n;
}

static bool ends_word(const struct rewrite *w, char c)
{
	return c == ' ' || c == '\r' || c == '\n' || (w->in_code && c == ']');
}

/* May the word stay? An announcement of a literal, which has no place in a list, is put back at its
 * end only. */
static bool is_kept(const struct rewrite *w, struct span word)
{
	uint64_t length;
	bool sync;

	return w->state == REWRITE_LIST && word.n > 0 && capability_offered(word, w->hide) &&
	       !follow_literal_at_end(word, &length, &sync);
}

/* What stands at the end of a list that c ends. */
static int add_end(const struct rewrite *w, const struct follow *f, char c, struct buf *end)
{
	int r;

	if (c == ']')
		return buf_add_str(end, "XIMAPPROXY]");
	if (w->in_code || !f->server_rest)
		return buf_add_str(end, "XIMAPPROXY\r\n");
	/* else what is announced would be taken for responses */
	(void)((r = buf_add_char(end, '{')) || (r = buf_add_u64(end, f->server_literal_left)) ||
	       (r = buf_add_str(end, "}\r\n")));
	return r;
}

/* Judges the words in the n bytes at `from`, of which the first w->held have been looked at.
 * Returns how many bytes are for the client now; behind them is the unfinished word. */
static size_t filter(struct rewrite *w, const struct follow *f, struct buf *b, size_t from,
		     size_t n)
{
	char *p = b->data + b->off + from, bytes[REWRITE_ROOM];
	struct buf end = BUF_OVER(bytes);
	size_t kept = 0, word = 0, i = w->held;
	bool ended = false;
	char c = 0; /* a blank may be put over it */

	for (; i < n && !ended; i++) {
		c = p[i];
		if (!ends_word(w, c)) {
			if (i - word >= REWRITE_WORD)
				w->state = REWRITE_SKIP;
			continue;
		}
		ended = c == '\n' || c == ']';
		if (is_kept(w, (struct span){ p + word, i - word })) {
			memmove(p + kept, p + word, i - word);
			kept += i - word;
			p[kept++] = ' ';
		}
		word = i + 1;
		w->state = REWRITE_LIST;
	}
	if (w->state == REWRITE_SKIP)
		word = i;
	w->held = ended ? 0 : i - word;
	if (ended) {
		w->state = REWRITE_PASS;
		(void)add_end(w, f, c, &end);
	}
	(void)buf_replace(b, from + kept, word - kept, buf_span(&end));
	return kept + end.len + (n - i);
}

size_t rewrite_server(struct rewrite *w, struct follow *f, struct buf *b, size_t ready)
{
	while (ready + w->held < b->len && b->cap - b->len >= REWRITE_ROOM / 2) {
		struct span fresh = span_from(buf_span(b), ready + w->held);
		bool literal = f->server_literal_left > 0;

		if (!literal && !f->server_rest && f->line.length == 0) {
			w->state = REWRITE_TAG;
			w->seen = 0;
		}
		size_t n = follow_server_step(f, fresh);

		if (literal || w->state == REWRITE_PASS) {
			ready += n;
			continue;
		}
		if (w->state == REWRITE_TAG || w->state == REWRITE_HEAD) {
			size_t plain = find_list(w, (struct span){ fresh.p, n });

			ready += plain;
			n -= plain;
		}
		if (w->state == REWRITE_LIST || w->state == REWRITE_SKIP)
			ready += filter(w, f, b, ready, w->held + n);
	}
	return ready;
}
