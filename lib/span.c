/* Borrowed bytes: comparison, words, numbers. Pure: no allocation, no locale. */
#include "lib/span.h"

#include <errno.h>

static unsigned char lower(char c)
{
	unsigned char u = (unsigned char)c;

	return u >= 'A' && u <= 'Z' ? (unsigned char)(u | 0x20) : u;
}

bool span_eq(struct span a, struct span b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool span_istarts(struct span a, struct span prefix)
{
	if (a.n < prefix.n)
		return false;
	for (size_t i = 0; i < prefix.n; i++)
		if (lower(a.p[i]) != lower(prefix.p[i]))
			return false;
	return true;
}

bool span_ieq(struct span a, struct span b)
{
	return a.n == b.n && span_istarts(a, b);
}

bool span_ihas(struct span hay, struct span needle)
{
	for (; hay.n >= needle.n; hay.p++, hay.n--)
		if (span_istarts(hay, needle))
			return true;
	return false;
}

bool span_eq_secret(struct span a, struct span b)
{
	volatile unsigned char differ = 0;

	if (a.n != b.n)
		return false;
	for (size_t i = 0; i < a.n; i++)
		differ = (unsigned char)(differ | (a.p[i] ^ b.p[i]));
	return differ == 0;
}

bool span_is_printable(struct span s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < ' ' || s.p[i] > '~')
			return false;
	return true;
}

struct span span_word(struct span *rest, char separator)
{
	while (rest->n > 0 && rest->p[0] == separator) {
		rest->p++;
		rest->n--;
	}
	struct span word = { rest->p, 0 };

	while (word.n < rest->n && rest->p[word.n] != separator)
		word.n++;
	*rest = span_from(*rest, word.n);
	return word;
}

struct span span_from(struct span s, size_t offset)
{
	if (offset > s.n)
		offset = s.n;
	return (struct span){ s.p + offset, s.n - offset };
}

int span_u64(struct span s, uint64_t max, uint64_t *ret)
{
	uint64_t value = 0;

	if (s.n == 0)
		return -EINVAL;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return -EINVAL;
		uint64_t digit = (uint64_t)(s.p[i] - '0');

		if (value > (UINT64_MAX - digit) / 10)
			return -ERANGE;
		value = value * 10 + digit;
	}
	if (value > max)
		return -ERANGE;
	*ret = value;
	return 0;
}
