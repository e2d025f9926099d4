/* The arguments of IMAP commands before login. */
#include "proxyd/imap_args.h"

#include <errno.h>

#define ID_PAIRS_MAX  30
#define ID_STRING_MAX 1024

/* What the old imapproxyd takes for a tag: printable ASCII without these. A "+" passes. */
static bool is_tag(struct span tag)
{
	for (size_t i = 0; i < tag.n; i++)
		if (tag.p[i] <= ' ' || tag.p[i] >= 0x7f || strchr("(){%*\"\\", tag.p[i]))
			return false;
	return tag.n > 0 && tag.n <= IMAP_TAG_MAX;
}

/* The bytes up to the next blank; rest goes on behind that blank. */
static struct span cut_at_blank(struct span *rest)
{
	const char *blank = memchr(rest->p, ' ', rest->n);
	struct span word = { rest->p, blank ? (size_t)(blank - rest->p) : rest->n };

	*rest = span_from(*rest, word.n + 1);
	return word;
}

int imap_split(struct span whole, struct imap_command *ret)
{
	struct span rest = whole;
	struct imap_command c = { .tag = cut_at_blank(&rest) };

	if (!is_tag(c.tag))
		return -EINVAL;
	c.verb = cut_at_blank(&rest);
	c.args = rest;
	*ret = c;
	return c.verb.n > 0 ? 0 : -ENODATA;
}

static int take_quoted(struct span *rest, struct buf *out)
{
	size_t i = 1;

	for (; i < rest->n && rest->p[i] != '"'; i++) {
		char c = rest->p[i];

		if (c == '\\' && i + 1 < rest->n) {
			c = rest->p[++i];
			if (c != '"' && c != '\\')
				return -EINVAL;
		}
		if (c == '\r' || c == '\n' || c == '\0')
			return -EINVAL;
		if (buf_add_char(out, c) < 0)
			return -ENOBUFS;
	}
	if (i >= rest->n)
		return -EINVAL;
	*rest = span_from(*rest, i + 1);
	return 0;
}

static int take_literal(struct span *rest, struct buf *out)
{
	const char *close = memchr(rest->p, '}', rest->n);
	uint64_t length;

	if (!close)
		return -EINVAL;
	struct span number = { rest->p + 1, (size_t)(close - rest->p) - 1 };

	if (number.n > 0 && number.p[number.n - 1] == '+')
		number.n--;
	if (span_u64(number, UINT32_MAX, &length) < 0)
		return -EINVAL;
	struct span after = span_from(*rest, (size_t)(close - rest->p) + 1);

	if (after.n > 0 && after.p[0] == '\r')
		after = span_from(after, 1);
	if (after.n == 0 || after.p[0] != '\n' || after.n - 1 < length)
		return -EINVAL;
	struct span value = { after.p + 1, (size_t)length };

	if (memchr(value.p, '\0', value.n))
		return -EINVAL;
	*rest = span_from(after, 1 + (size_t)length);
	return buf_add(out, value);
}

static int take_atom(struct span *rest, struct buf *out)
{
	size_t n = 0;

	for (; n < rest->n && rest->p[n] != ' '; n++)
		if ((unsigned char)rest->p[n] < ' ' || rest->p[n] == 0x7f)
			return -EINVAL;
	struct span value = { rest->p, n };

	if (n == 0)
		return -ENODATA;
	*rest = span_from(*rest, n);
	return buf_add(out, value);
}

int imap_take_astring(struct span *rest, struct buf *out)
{
	if (rest->n == 0)
		return -ENODATA;
	if (rest->p[0] == '"')
		return take_quoted(rest, out);
	if (rest->p[0] == '{')
		return take_literal(rest, out);
	return take_atom(rest, out);
}

int imap_add_quoted(struct buf *out, struct span value)
{
	for (size_t i = 0; i < value.n; i++)
		if ((unsigned char)value.p[i] < ' ' || (unsigned char)value.p[i] >= 0x7f)
			return -EINVAL;
	if (buf_add_char(out, '"') < 0)
		return -ENOBUFS;
	for (size_t i = 0; i < value.n; i++) {
		bool special = value.p[i] == '"' || value.p[i] == '\\';

		if ((special && buf_add_char(out, '\\') < 0) || buf_add_char(out, value.p[i]) < 0)
			return -ENOBUFS;
	}
	return buf_add_char(out, '"');
}

/* One string of an ID list, or NIL where that is allowed. */
static int read_id_string(struct span *rest, bool nil_allowed, struct buf *out)
{
	char bytes[ID_STRING_MAX];
	struct buf value = BUF_OVER(bytes);
	bool is_string = rest->n > 0 && (rest->p[0] == '"' || rest->p[0] == '{');

	if (!is_string) {
		if (!nil_allowed || !span_istarts(*rest, SPAN("NIL")))
			return -EINVAL;
		*rest = span_from(*rest, 3);
		return buf_add_str(out, "NIL");
	}
	int r = imap_take_astring(rest, &value);

	return r < 0 ? -EINVAL : imap_add_quoted(out, buf_span(&value));
}

static bool take_char(struct span *rest, char c)
{
	if (rest->n == 0 || rest->p[0] != c)
		return false;
	*rest = span_from(*rest, 1);
	return true;
}

int imap_read_id(struct span args, struct buf *out)
{
	size_t strings = 0;
	int r = 0;

	if (span_ieq(args, SPAN("NIL")))
		return buf_add_str(out, "NIL");
	if (!take_char(&args, '('))
		return -EINVAL;
	r = buf_add_char(out, '(');
	while (r == 0 && !take_char(&args, ')')) {
		if (strings == 2 * ID_PAIRS_MAX || (strings > 0 && !take_char(&args, ' ')))
			return -EINVAL;
		if (strings > 0)
			r = buf_add_char(out, ' ');
		if (r == 0)
			r = read_id_string(&args, strings % 2 == 1, out);
		strings++;
	}
	if (r < 0)
		return r;
	return args.n > 0 || strings % 2 == 1 ? -EINVAL : buf_add_char(out, ')');
}
