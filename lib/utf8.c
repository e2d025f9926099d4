/* Judging UTF-8: one character at a time, by its first byte.
 *
 * A longer form of a shorter character is the classic way to bring past a check what it forbids, so
 * each length has its least value.
 */
#include "lib/utf8.h"

/* The character at the front, how many bytes it takes in *ret_length; -1: it is none. */
static int32_t take(struct span s, size_t *ret_length)
{
	static const struct {
		unsigned char mask, begin;
		int32_t least;
	} forms[] = {
		{ 0x80, 0x00, 0 }, { 0xe0, 0xc0, 0x80 }, { 0xf0, 0xe0, 0x800 },
		{ 0xf8, 0xf0, 0x10000 },
	};
	const unsigned char *p = (const unsigned char *)s.p;
	size_t form = 0;

	while (form < 4 && (p[0] & forms[form].mask) != forms[form].begin)
		form++;
	if (form == 4 || s.n < form + 1)
		return -1;
	int32_t value = p[0] & (unsigned char)~forms[form].mask;

	for (size_t i = 1; i <= form; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return -1;
		value = value << 6 | (p[i] & 0x3f);
	}
	*ret_length = form + 1;
	return value < forms[form].least ? -1 : value;
}

bool utf8_is_text(struct span s)
{
	while (s.n > 0) {
		size_t length = 1;
		int32_t c = take(s, &length);

		if (c < ' ' || (c >= 0x7f && c <= 0x9f) || (c >= 0xd800 && c <= 0xdfff) ||
		    c > 0x10ffff)
			return false;
		s = span_from(s, length);
	}
	return true;
}
