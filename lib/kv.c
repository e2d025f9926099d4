/* key=value pairs of a log line. */
#include "lib/kv.h"

#define VALUE_MAX 200

static bool is_plain(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c != '\0' && strchr("._-@:/+[]", c) != NULL);
}

static bool all_plain(struct span value)
{
	for (size_t i = 0; i < value.n; i++)
		if (!is_plain(value.p[i]))
			return false;
	return value.n > 0;
}

static int add_quoted_byte(struct buf *out, char c)
{
	static const char hex[] = "0123456789abcdef";
	unsigned char u = (unsigned char)c;

	if (u < ' ' || u > '~') {
		char escape[4] = { '\\', 'x', hex[u >> 4], hex[u & 15] };

		return buf_add(out, (struct span){ escape, sizeof(escape) });
	}
	if (c == '"' || c == '\\') {
		int r = buf_add_char(out, '\\');

		if (r < 0)
			return r;
	}
	return buf_add_char(out, c);
}

static int add_key(struct buf *out, const char *key)
{
	int r = 0;

	(void)((out->len > 0 && (r = buf_add_char(out, ' '))) || (r = buf_add_str(out, key)) ||
	       (r = buf_add_char(out, '=')));
	return r;
}

int kv_add(struct buf *out, const char *key, struct span value)
{
	bool cut = value.n > VALUE_MAX;
	struct span shown = { value.p, cut ? VALUE_MAX : value.n };
	int r = add_key(out, key);

	if (r == 0 && all_plain(shown) && !cut)
		return buf_add(out, shown);
	if (r == 0)
		r = buf_add_char(out, '"');
	for (size_t i = 0; r == 0 && i < shown.n; i++)
		r = add_quoted_byte(out, shown.p[i]);
	if (r == 0)
		r = buf_add_str(out, cut ? "...\"" : "\"");
	return r;
}

int kv_add_u64(struct buf *out, const char *key, uint64_t value)
{
	int r = add_key(out, key);

	return r < 0 ? r : buf_add_u64(out, value);
}
