/* Argon2: $argon2id$v=19$m=65536,t=3,p=4$SALT$HASH, both base64 without padding. Built only where
 * libargon2 is. The string is taken apart here, not by the library, since what it asks for must be
 * known before it is done; and all of it is done by one thread.
 */
#include <argon2.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base64.h"
#include "lookupd/password_forms.h"

#define MEMORY_KIB_MOST 262144
#define WORK_KIB_MOST	1048576 /* memory times passes: a second or two */
#define LANES_MOST	64
#define BYTES_MOST	64
#define HASH_LEAST	16

struct parameters {
	argon2_type type;
	uint32_t version, memory, passes, lanes;
	char salt[BYTES_MOST], hash[BYTES_MOST];
	size_t salt_length, hash_length;
};

/* The next part of $...$...; empty: there is none. */
static struct span cut(struct span *rest)
{
	return span_word(rest, '$');
}

/* NAME=number. */
static bool read_number(struct span part, struct span name, uint32_t *ret)
{
	uint64_t value;

	if (part.n < name.n || memcmp(part.p, name.p, name.n) != 0 ||
	    span_u64(span_from(part, name.n), UINT32_MAX, &value) < 0)
		return false;
	*ret = (uint32_t)value;
	return true;
}

static bool read_bytes(struct span text, char *out, size_t *ret_length)
{
	char padded[2 * BYTES_MOST];

	if (text.n == 0 || text.n > sizeof(padded) - 3)
		return false;
	memcpy(padded, text.p, text.n);
	for (; text.n % 4 != 0; text.n++)
		padded[text.n] = '=';
	int n = base64_decode((struct span){ padded, text.n }, out, BYTES_MOST);

	*ret_length = n > 0 ? (size_t)n : 0;
	return n > 0;
}

static bool read_type(struct span name, argon2_type *ret)
{
	static const struct {
		struct span name;
		argon2_type type;
	} types[] = { { SPAN("argon2i"), Argon2_i },
		      { SPAN("argon2id"), Argon2_id },
		      { SPAN("argon2d"), Argon2_d } };

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (span_eq(name, types[i].name)) {
			*ret = types[i].type;
			return true;
		}
	return false;
}

static bool read_all(struct span stored, struct parameters *p)
{
	struct span part, costs;

	p->version = ARGON2_VERSION_10;
	if (!read_type(cut(&stored), &p->type))
		return false;
	costs = cut(&stored);
	if (read_number(costs, SPAN("v="), &p->version))
		costs = cut(&stored);
	part = span_word(&costs, ',');
	if (!read_number(part, SPAN("m="), &p->memory))
		return false;
	part = span_word(&costs, ',');
	if (!read_number(part, SPAN("t="), &p->passes))
		return false;
	part = span_word(&costs, ',');
	if (!read_number(part, SPAN("p="), &p->lanes) || costs.n > 0)
		return false;
	return read_bytes(cut(&stored), p->salt, &p->salt_length) &&
	       read_bytes(cut(&stored), p->hash, &p->hash_length) && stored.n == 0 &&
	       p->hash_length >= HASH_LEAST;
}

static enum password_verdict compute(struct parameters *p, struct span typed)
{
	unsigned char made[BYTES_MOST];
	argon2_context context = { .out = made,
				   .outlen = (uint32_t)p->hash_length,
				   .pwd = (uint8_t *)(uintptr_t)typed.p,
				   .pwdlen = (uint32_t)typed.n,
				   .salt = (uint8_t *)p->salt,
				   .saltlen = (uint32_t)p->salt_length,
				   .t_cost = p->passes,
				   .m_cost = p->memory,
				   .lanes = p->lanes,
				   .threads = 1,
				   .version = p->version,
				   .flags = ARGON2_DEFAULT_FLAGS };
	enum password_verdict verdict = PASSWORD_BROKEN;

	if (argon2_ctx(&context, p->type) == ARGON2_OK)
		verdict = span_eq_secret((struct span){ (const char *)made, p->hash_length },
					 (struct span){ p->hash, p->hash_length })
				  ? PASSWORD_RIGHT
				  : PASSWORD_WRONG;
	explicit_bzero(made, sizeof(made));
	return verdict;
}

enum password_verdict password_argon2(struct span stored, struct span typed)
{
	struct parameters p = { .type = Argon2_id };

	if (!read_all(stored, &p))
		return PASSWORD_BROKEN;
	if (p.memory > MEMORY_KIB_MOST || p.lanes > LANES_MOST ||
	    (uint64_t)p.memory * p.passes > WORK_KIB_MOST)
		return PASSWORD_COSTLY;
	enum password_verdict verdict = compute(&p, typed);

	explicit_bzero(&p, sizeof(p));
	return verdict;
}
