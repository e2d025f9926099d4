/* The text of a mailbox that is left open.
 *
 * An allow-list of lines: each is one that cannot change without the mail host saying so to NOOP
 * (EXISTS, FETCH, FLAGS, EXPUNGE) or without its STATUS being another. HIGHESTMODSEQ is not among
 * them, since asking for it turns CONDSTORE on, nor are rights, which nothing announces; in a
 * mailbox that is open for reading they show in PERMANENTFLAGS alone, which must be empty.
 */
#include "proxyd/selectcache.h"

#include <errno.h>

enum { SEEN_FLAGS = 1, SEEN_PERMANENT = 2, SEEN_EXISTS = 4, SEEN_RECENT = 8, SEEN_VALIDITY = 16,
       SEEN_UNSEEN = 32, SEEN_NEXT = 64, SEEN_ID = 128 };

#define SEEN_NEEDED (SEEN_FLAGS | SEEN_EXISTS | SEEN_RECENT | SEEN_VALIDITY)

/* Untagged lines by what stands behind "* ". */
static const struct {
	struct span before;
	unsigned seen;
	bool number; /* digits and "]" come next */
} lines[] = {
	{ { "FLAGS (", 7 }, SEEN_FLAGS, false },
	{ { "0 RECENT", 8 }, SEEN_RECENT, false },
	{ { "OK [PERMANENTFLAGS ()]", 22 }, SEEN_PERMANENT, false },
	{ { "OK [MAILBOXID (", 15 }, SEEN_ID, false },
	{ { "OK [UNSEEN ", 11 }, SEEN_UNSEEN, true },
	{ { "OK [UIDVALIDITY ", 16 }, SEEN_VALIDITY, true },
	{ { "OK [UIDNEXT ", 12 }, SEEN_NEXT, true },
};

static bool is_printable(struct span s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < ' ' || s.p[i] > '~')
			return false;
	return s.n > 0;
}

/* The name without its quotes; empty when it is none that is read alike everywhere. */
static struct span bare(struct span name)
{
	bool quoted = name.n > 1 && name.p[0] == '"' && name.p[name.n - 1] == '"';

	if (!is_printable(name) || name.n > SELECT_NAME)
		return SPAN_NONE;
	if (quoted)
		name = (struct span){ name.p + 1, name.n - 2 };
	for (size_t i = 0; i < name.n; i++)
		if (strchr("\"\\{%*()", name.p[i]) || (!quoted && strchr(" ]", name.p[i])))
			return SPAN_NONE;
	return name;
}

bool select_is_examine(struct span line, struct span *ret_tag, struct span *ret_name)
{
	struct span rest = line, tag = span_word(&rest, ' '), verb = span_word(&rest, ' ');
	struct span name = span_from(rest, 1);

	if (line.n == 0 || line.p[0] == ' ' || !is_printable(tag) ||
	    !span_ieq(verb, SPAN("EXAMINE")))
		return false;
	for (size_t i = 0; i < tag.n; i++)
		if (strchr("(){%*\"\\+", tag.p[i]))
			return false;
	*ret_tag = tag;
	*ret_name = name;
	return bare(name).n > 0 && name.p == verb.p + verb.n + 1 && verb.p == tag.p + tag.n + 1;
}

bool select_is_same(struct span a, struct span b)
{
	struct span one = bare(a), other = bare(b);

	return one.n > 0 && (span_eq(one, other) ||
			     (span_ieq(one, SPAN("INBOX")) && span_ieq(other, SPAN("INBOX"))));
}

static int add(struct select_text *t, struct span line)
{
	size_t before = t->text.len;

	if (buf_add(&t->text, line) == 0 && buf_add_str(&t->text, "\r\n") == 0)
		return 0;
	t->text.len = before;
	return -EINVAL;
}

int select_begin(struct select_text *t, char *array, size_t size, struct span name)
{
	*t = (struct select_text){ .text = { .data = array, .cap = size } };
	if (bare(name).n == 0 || add(t, name) < 0)
		return -EINVAL;
	t->name = t->answer = t->text.len;
	return 0;
}

/* "7 EXISTS" */
static bool is_exists(struct span rest)
{
	struct span number = span_word(&rest, ' ');
	uint64_t value;

	return span_u64(number, UINT32_MAX, &value) == 0 && span_ieq(rest, SPAN(" EXISTS"));
}

/* Which of the lines is it? 0: none. */
static unsigned kind_of(struct span rest)
{
	uint64_t value;

	if (is_exists(rest))
		return SEEN_EXISTS;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct span behind = span_from(rest, lines[i].before.n);

		if (!span_istarts(rest, lines[i].before))
			continue;
		if (lines[i].seen == SEEN_RECENT && behind.n > 0)
			return 0;
		if (lines[i].number && (span_u64(span_word(&behind, ']'), UINT32_MAX, &value) < 0 ||
					behind.n == 0))
			return 0;
		return lines[i].seen;
	}
	return 0;
}

int select_add_line(struct select_text *t, struct span line)
{
	unsigned kind = span_istarts(line, SPAN("* ")) ? kind_of(span_from(line, 2)) : 0;

	if (t->result > 0 || kind == 0 || (t->seen & kind) || !is_printable(line) ||
	    line.p[line.n - 1] == '}' || add(t, line) < 0)
		return -EINVAL;
	t->seen |= kind;
	t->answer = t->text.len;
	return 0;
}

int select_add_result(struct select_text *t, struct span result)
{
	if (t->result > 0 || (t->seen & SEEN_NEEDED) != SEEN_NEEDED || !is_printable(result) ||
	    !span_istarts(result, SPAN("OK [READ-ONLY]")) || add(t, result) < 0)
		return -EINVAL;
	t->result = t->text.len;
	return 0;
}

int select_add_status(struct select_text *t, struct span line)
{
	if (t->result == 0 || t->text.len > t->result || !is_printable(line) ||
	    !span_istarts(line, SPAN("* STATUS ")) || line.p[line.n - 1] != ')')
		return -EINVAL;
	return add(t, line);
}

bool select_is_whole(const struct select_text *t)
{
	return t->result > 0 && t->text.len > t->result;
}

/* Cuts the next line off. */
static bool next_line(struct span *rest, struct span *ret)
{
	const char *lf = memchr(rest->p, '\n', rest->n);
	size_t n = lf ? (size_t)(lf - rest->p) : 0;

	if (n < 1 || rest->p[n - 1] != '\r')
		return false;
	*ret = (struct span){ rest->p, n - 1 };
	*rest = span_from(*rest, n + 1);
	return true;
}

int select_load(struct select_text *t, char *array, size_t size, struct span text)
{
	struct span rest = text, line;

	if (!next_line(&rest, &line) || select_begin(t, array, size, line) < 0)
		return -EINVAL;
	while (next_line(&rest, &line)) {
		bool untagged = span_istarts(line, SPAN("* "));
		int r = !untagged	? select_add_result(t, line)
			: t->result > 0 ? select_add_status(t, line)
					: select_add_line(t, line);
		if (r < 0)
			return r;
	}
	return rest.n == 0 && select_is_whole(t) ? 0 : -EINVAL;
}

static struct span part(const struct select_text *t, size_t from, size_t to)
{
	return (struct span){ t->text.data + from, to - from };
}

struct span select_name(const struct select_text *t)
{
	return part(t, 0, t->name - 2);
}

struct span select_lines(const struct select_text *t)
{
	return part(t, t->name, t->answer);
}

struct span select_result(const struct select_text *t)
{
	return part(t, t->answer, t->result - 2);
}

struct span select_status(const struct select_text *t)
{
	return part(t, t->result, t->text.len - 2);
}
