/* CRAM's texts. */
#include "lookupd/cram.h"

#include <errno.h>

static int digit_of(char c, bool any_case)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return any_case && c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int read_hex(struct span hex, bool any_case, size_t length, unsigned char *ret)
{
	if (hex.n != 2 * length)
		return -EINVAL;
	for (size_t i = 0; i < length; i++) {
		int high = digit_of(hex.p[2 * i], any_case);
		int low = digit_of(hex.p[2 * i + 1], any_case);

		if (high < 0 || low < 0)
			return -EINVAL;
		ret[i] = (unsigned char)(high * 16 + low);
	}
	return 0;
}

int cram_read(struct span answer, size_t length, struct span *ret_user, unsigned char *ret_digest)
{
	const char *blank = answer.n > 0 ? memrchr(answer.p, ' ', answer.n) : NULL;

	if (!blank || blank == answer.p)
		return -EINVAL;
	const struct span user = { answer.p, (size_t)(blank - answer.p) };

	for (size_t i = 0; i < user.n; i++)
		if ((unsigned char)user.p[i] < ' ' || user.p[i] == 0x7f)
			return -EINVAL;
	*ret_user = user;
	return read_hex(span_from(answer, user.n + 1), false, length, ret_digest);
}

int cram_read_states(struct span hex, size_t length, unsigned char *ret)
{
	return read_hex(hex, true, 2 * length, ret);
}
