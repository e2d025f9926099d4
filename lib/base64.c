/* Base64: strict decoder, encoder. Pure. */
#include "lib/base64.h"

#include <errno.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* 0..63, or -1. No table look-up: the index would be a secret. */
static int value_of(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int base64_decode(struct span text, char *out, size_t cap)
{
	size_t length = 0, pad = 0;

	if (text.n % 4 != 0)
		return -EINVAL;
	if (text.n > 0 && text.p[text.n - 1] == '=')
		pad = text.p[text.n - 2] == '=' ? 2 : 1;
	for (size_t i = 0; i < text.n; i += 4) {
		uint32_t group = 0;
		size_t missing = i + 4 == text.n ? pad : 0;

		for (size_t j = 0; j < 4; j++) {
			int v = j >= 4 - missing ? 0 : value_of(text.p[i + j]);

			if (v < 0)
				return -EINVAL;
			group = group << 6 | (uint32_t)v;
		}
		if (missing > 0 && (group & (missing == 2 ? 0xffffu : 0xffu)) != 0)
			return -EINVAL;
		for (size_t j = 0; j < 3 - missing; j++) {
			if (length == cap)
				return -ENOBUFS;
			out[length++] = (char)(group >> (16 - 8 * j) & 0xff);
		}
	}
	return (int)length;
}

int base64_encode(struct span bytes, char *out, size_t cap)
{
	if ((bytes.n + 2) / 3 * 4 > cap)
		return -ENOBUFS;

	size_t length = 0;

	for (size_t i = 0; i < bytes.n; i += 3) {
		size_t have = bytes.n - i < 3 ? bytes.n - i : 3;
		uint32_t group = 0;

		for (size_t j = 0; j < 3; j++)
			group = group << 8 | (j < have ? (unsigned char)bytes.p[i + j] : 0u);
		for (size_t j = 0; j < 4; j++)
			out[length++] = j <= have ? digits[group >> (18 - 6 * j) & 63] : '=';
	}
	return (int)length;
}
