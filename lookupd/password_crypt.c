/* crypt(3): libxcrypt knows a dozen methods. Only those of the table below are tried, since a
 * string of any other form is the clear text of somebody or an accident; and only as long as what
 * the string itself asks for can be computed in about three seconds: whoever can write hashes must
 * not be able to stop logins with one.
 *
 * Some methods look at a part of a password only: the traditional one at 8 bytes, bcrypt at 72.
 */
#include <crypt.h>
#include <string.h>

#include "lookupd/password_forms.h"

#define BCRYPT_COST_MOST  15
#define SHA_ROUNDS_MOST	  1000000 /* of 511 bytes, ten times as dear as of 8: 2.6 s */
#define SHA1_ROUNDS_MOST  1000000
#define SUN_ROUNDS_MOST	  100000
#define BSDI_COUNT_MOST	  2000000
#define SCRYPT_BYTES_MOST (256u << 20)
#define SCRYPT_LANES_MOST 8

enum cost { COST_FINE, COST_TOO_HIGH, COST_BROKEN };

/* The methods' own alphabet: 0..63, or -1. */
static int digit(char c)
{
	static const char digits[] =
		"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

/* Little-endian digits. False: one is none. */
static bool read_digits(struct span text, size_t count, uint32_t *ret)
{
	uint32_t value = 0;

	if (text.n < count)
		return false;
	for (size_t i = count; i-- > 0;) {
		int d = digit(text.p[i]);

		if (d < 0)
			return false;
		value = value << 6 | (uint32_t)d;
	}
	*ret = value;
	return true;
}

/* A decimal number up to the next $. */
static enum cost judge_number(struct span text, uint32_t most)
{
	struct span number = span_word(&text, '$');
	uint64_t value;

	for (size_t i = 0; i < number.n; i++)
		if (number.p[i] < '0' || number.p[i] > '9')
			return COST_BROKEN;
	return number.n == 0			    ? COST_BROKEN
	       : span_u64(number, most, &value) < 0 ? COST_TOO_HIGH
						    : COST_FINE;
}

static enum cost judge_fixed(struct span rest)
{
	(void)rest;
	return COST_FINE;
}

static enum cost judge_bcrypt(struct span rest)
{
	return judge_number(rest, BCRYPT_COST_MOST);
}

static enum cost judge_rounds(struct span rest, uint32_t most)
{
	const struct span word = SPAN("rounds=");

	return span_istarts(rest, word) ? judge_number(span_from(rest, word.n), most) : COST_FINE;
}

static enum cost judge_sha(struct span rest)
{
	return judge_rounds(rest, SHA_ROUNDS_MOST);
}

static enum cost judge_sun(struct span rest)
{
	/* crypt(3) takes them behind either */
	return rest.n > 0 && (rest.p[0] == ',' || rest.p[0] == '$')
		       ? judge_rounds(span_from(rest, 1), SUN_ROUNDS_MOST)
		       : COST_BROKEN;
}

static enum cost judge_sha1(struct span rest)
{
	return judge_number(rest, SHA1_ROUNDS_MOST);
}

static enum cost judge_bsdi(struct span rest)
{
	uint32_t count;

	if (!read_digits(rest, 4, &count))
		return COST_BROKEN;
	return count > BSDI_COUNT_MOST ? COST_TOO_HIGH : COST_FINE;
}

/* N is a power of 2; N blocks of 128 r bytes are the memory, each is gone over p times. */
static enum cost judge_blocks(uint32_t log_n, uint32_t r, uint32_t p)
{
	if (log_n > 24 || r > 1024 || p > SCRYPT_LANES_MOST)
		return COST_TOO_HIGH;
	return (uint64_t)r * p * 128 << log_n > SCRYPT_BYTES_MOST ? COST_TOO_HIGH : COST_FINE;
}

static enum cost judge_scrypt(struct span rest)
{
	uint32_t log_n, r, p;

	if (!read_digits(rest, 1, &log_n) || !read_digits(span_from(rest, 1), 5, &r) ||
	    !read_digits(span_from(rest, 6), 5, &p))
		return COST_BROKEN;
	return judge_blocks(log_n, r, p);
}

/* Only what its own programs write: a flavour, N and r, one digit each. A higher digit would begin
 * a longer number; further numbers would be p, t and more. */
static enum cost judge_yescrypt(struct span rest)
{
	uint32_t log_n, r;

	if (rest.n < 4 || digit(rest.p[0]) < 0 || !read_digits(span_from(rest, 1), 1, &log_n) ||
	    !read_digits(span_from(rest, 2), 1, &r))
		return COST_BROKEN;
	if (rest.p[3] != '$' || log_n > 47 || r > 47)
		return COST_TOO_HIGH;
	return judge_blocks(log_n + 1, r + 1, 1);
}

static enum cost judge_traditional(struct span whole)
{
	for (size_t i = 0; i < whole.n; i++)
		if (digit(whole.p[i]) < 0)
			return COST_BROKEN;
	return COST_FINE;
}

static const struct method {
	struct span prefix;
	enum cost (*judge)(struct span rest);
	size_t length; /* of the whole, or 0: any */
} methods[] = {
	{ SPAN("$1$"), judge_fixed, 0 },     { SPAN("$5$"), judge_sha, 0 },
	{ SPAN("$6$"), judge_sha, 0 },	     { SPAN("$2a$"), judge_bcrypt, 60 },
	{ SPAN("$2b$"), judge_bcrypt, 60 },  { SPAN("$2x$"), judge_bcrypt, 60 },
	{ SPAN("$2y$"), judge_bcrypt, 60 },  { SPAN("$y$"), judge_yescrypt, 0 },
	{ SPAN("$gy$"), judge_yescrypt, 0 }, { SPAN("$7$"), judge_scrypt, 0 },
	{ SPAN("$md5"), judge_sun, 0 },	     { SPAN("$sha1$"), judge_sha1, 0 },
	{ SPAN("$3$"), judge_fixed, 0 },     { SPAN("_"), judge_bsdi, 20 },
	{ SPAN(""), judge_traditional, 13 },
};

static const struct method *method_of(struct span stored)
{
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		const struct method *m = &methods[i];

		if (stored.n >= m->prefix.n && memcmp(stored.p, m->prefix.p, m->prefix.n) == 0)
			return m->prefix.n > 0 || stored.n == m->length ? m : NULL;
	}
	return NULL;
}

static enum password_verdict compute(struct span stored, struct span typed)
{
	static struct crypt_data data; /* 32 KiB */
	char setting[CRYPT_OUTPUT_SIZE], phrase[CRYPT_MAX_PASSPHRASE_SIZE];
	enum password_verdict verdict = PASSWORD_BROKEN;

	if (stored.n >= sizeof(setting) || memchr(stored.p, '\0', stored.n))
		return PASSWORD_BROKEN;
	if (typed.n >= sizeof(phrase))
		return PASSWORD_LONG;
	memcpy(setting, stored.p, stored.n);
	setting[stored.n] = '\0';
	memcpy(phrase, typed.p, typed.n);
	phrase[typed.n] = '\0';
	const char *made = crypt_r(phrase, setting, &data);

	/* a failure is "*0" or "*1": it is no method's string, so never a stored one */
	if (made && made[0] != '*')
		verdict = span_eq_secret(span_str(made), stored) ? PASSWORD_RIGHT : PASSWORD_WRONG;
	explicit_bzero(&data, sizeof(data));
	explicit_bzero(phrase, sizeof(phrase));
	explicit_bzero(setting, sizeof(setting));
	return verdict;
}

enum password_verdict password_crypt(struct span stored, struct span typed)
{
	const struct method *m = method_of(stored);

	if (!m)
		return PASSWORD_UNKNOWN;
	if (m->length > 0 && stored.n != m->length)
		return PASSWORD_BROKEN;
	switch (m->judge(span_from(stored, m->prefix.n))) {
	case COST_TOO_HIGH:
		return PASSWORD_COSTLY;
	case COST_BROKEN:
		return m->prefix.n > 0 ? PASSWORD_BROKEN : PASSWORD_UNKNOWN;
	case COST_FINE:
		break;
	}
	return compute(stored, typed);
}
