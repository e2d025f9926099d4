/* What the client gets of a server's bytes, beside a second opinion on them.
 *
 * An input is one byte that says into which pieces it comes, and the server's bytes. The rewriter
 * gets them in one piece, byte by byte and in pieces of that size, through a small buffer: the
 * output must be the same. The second opinion looks at whole lines in one buffer, as the login does
 * with its lists: what it says of all lines that are complete must be how the output begins.
 */
#include <assert.h>
#include <stdint.h>

#include "proxyd/capability.h"
#include "tests/unit/talk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MOST 20000

static char opinion_bytes[MOST * 3];

static void add(struct buf *out, struct span s)
{
	assert(buf_add(out, s) == 0);
}

/* Where the words of a list begin in this line; 0: it has none. */
static size_t list_in(struct span line, bool *ret_code)
{
	static const char *const status[] = {"OK", "NO", "BAD", "BYE", "PREAUTH"};
	struct span rest = line;
	const char *blank = memchr(line.p, ' ', line.n);
	size_t first = blank ? (size_t)(blank - line.p) : 0;

	*ret_code = false;
	if (!blank || line.p[0] == '+')
		return 0;
	if (span_istarts(line, SPAN("* CAPABILITY ")))
		return 13;
	rest = span_from(line, first + 1);
	for (size_t i = 0; i < sizeof(status) / sizeof(status[0]); i++) {
		struct span word = span_str(status[i]);

		if (span_istarts(rest, word) &&
		    span_istarts(span_from(rest, word.n), SPAN(" [CAPABILITY "))) {
			*ret_code = true;
			return first + 1 + word.n + 13;
		}
	}
	return 0;
}

/* The words of a list between begin and end that may stay, then XIMAPPROXY. */
static void add_words(struct buf *out, struct span words, bool last)
{
	static char plain_bytes[MOST];
	struct buf plain = BUF_OVER(plain_bytes);
	uint64_t length;
	bool sync;

	while (words.n > 0) {
		size_t n = 0;

		while (n < words.n && words.p[n] != ' ' && words.p[n] != '\r')
			n++;
		if (n > 0 && n <= REWRITE_WORD &&
		    !follow_literal_at_end((struct span){words.p, n}, &length, &sync)) {
			add(&plain, (struct span){words.p, n});
			add(&plain, SPAN(" "));
		}
		words = span_from(words, n + 1);
	}
	if (last) {
		assert(capability_filter(buf_span(&plain), SPAN(TALK_HIDE), out) == 0);
		return;
	}
	size_t before = out->len;

	assert(capability_filter(buf_span(&plain), SPAN(TALK_HIDE), out) == 0);
	assert(out->len - before >= 10);
	out->len -= 10; /* XIMAPPROXY */
}

/* One line with its LF, outside of literals. */
static void add_line(struct buf *out, struct span line, bool announces, uint64_t length)
{
	bool code;
	size_t begin = list_in(line, &code), end = begin;

	if (begin == 0) {
		add(out, line);
		return;
	}
	while (line.p[end] != '\n' && !(code && line.p[end] == ']'))
		end++;
	add(out, (struct span){line.p, begin});
	add_words(out, (struct span){line.p + begin, end - begin}, !announces || code);
	if (line.p[end] == ']') {
		add(out, span_from(line, end));
		return;
	}
	if (announces && !code) {
		add(out, SPAN("{"));
		assert(buf_add_u64(out, length) == 0);
		add(out, SPAN("}"));
	}
	add(out, SPAN("\r\n"));
}

/* All complete lines and literals of the input. */
static void give_opinion(struct span in, struct buf *out)
{
	bool rest = false;

	while (in.n > 0) {
		const char *lf = memchr(in.p, '\n', in.n);
		uint64_t length = 0;
		bool sync;

		if (!lf)
			return;
		struct span whole = {in.p, (size_t)(lf - in.p) + 1}, line = {in.p, whole.n - 1};

		if (line.n > 0 && line.p[line.n - 1] == '\r')
			line.n--;
		/* the follower looks at the last bytes of a line only */
		struct span tail = line.n > 31 ? span_from(line, line.n - 31) : line;
		bool data = rest || (line.n > 0 && line.p[0] == '*' && !follow_is_status(line));
		bool announces = data && follow_literal_at_end(tail, &length, &sync);

		if (rest)
			add(out, whole);
		else
			add_line(out, whole, announces, length);
		in = span_from(in, whole.n);
		rest = announces;
		if (length > in.n && announces)
			length = in.n;
		if (announces) {
			add(out, (struct span){in.p, (size_t)length});
			in = span_from(in, (size_t)length);
		}
	}
}

static void pass(struct talk *t, struct span bytes, size_t piece)
{
	talk_begin(t, TALK_CAP);
	while (bytes.n > 0) {
		struct span part = {bytes.p, piece < bytes.n ? piece : bytes.n};

		talk_server(t, part);
		bytes = span_from(bytes, part.n);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct talk whole, parts;
	struct buf opinion = BUF_OVER(opinion_bytes);

	if (size < 1 || size > MOST)
		return 0;

	struct span bytes = {(const char *)data + 1, size - 1};

	pass(&whole, bytes, SIZE_MAX);
	pass(&parts, bytes, 1);
	assert(talk_same(&whole, &parts));
	pass(&parts, bytes, (size_t)data[0] + 2);
	assert(talk_same(&whole, &parts));
	give_opinion(bytes, &opinion);
	assert(opinion.len <= whole.shown_length);
	assert(memcmp(opinion_bytes, whole.shown, opinion.len) == 0);
	return 0;
}
