/* What challenged clients say, and the stored forms that a directory has: the first byte chooses
 * who reads the rest. */
#include <assert.h>

#include "lookupd/cram.h"
#include "lookupd/scram.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void check_within(struct span part, struct span whole)
{
	assert(part.n == 0 || (part.p >= whole.p && part.p + part.n <= whole.p + whole.n));
}

static void read_cram(struct span text)
{
	unsigned char digest[DIGEST_MAX], states[2 * DIGEST_MAX];
	struct span user;

	for (enum digest d = 0; d < DIGESTS; d++) {
		if (cram_read(text, digest_length(d), &user, digest) == 0) {
			check_within(user, text);
			assert(user.n + 1 + 2 * digest_length(d) == text.n);
		}
		(void)cram_read_states(text, digest_length(d), states);
	}
}

static void read_first(struct span text)
{
	char name[64];
	struct buf user = BUF_OVER(name);
	struct scram_first first;

	if (scram_read_first(text, &user, &first) < 0)
		return;
	assert(user.len > 0 && first.nonce.n > 0 && first.nonce.n <= SCRAM_NONCE_MAX);
	assert(first.header.n + first.bare.n == text.n);
	check_within(first.nonce, first.bare);
}

static void read_final(struct span text)
{
	struct scram_final last;

	if (scram_read_final(text, 20, &last) < 0)
		return;
	check_within(last.without_proof, text);
	check_within(last.nonce, last.without_proof);
	check_within(last.binding, last.without_proof);
}

static void read_keys(struct span text)
{
	struct scram_keys keys;

	if (scram_read_keys(text, SPAN("SCRAM-SHA-1"), DIGEST_SHA1, &keys) == 0)
		assert(keys.iterations > 0 && keys.iterations <= SCRAM_ITERATIONS_MOST &&
		       keys.salt_length > 0 && keys.salt_length <= sizeof(keys.salt));
	(void)scram_is_prepared(text);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	static void (*const readers[])(struct span) = { read_cram, read_first, read_final,
							read_keys };

	if (size > 0)
		readers[data[0] % 4]((struct span){ (const char *)data + 1, size - 1 });
	return 0;
}
