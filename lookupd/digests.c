/* OpenSSL's digests; those of stored passwords, by their names, are password_digest.c's.
 *
 * To go on with an HMAC from stored states, a digest must be begun in the middle: only the old,
 * low-level functions can do that. OpenSSL 3 calls them deprecated; it has no others for it.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "lookupd/digests.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/md5.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#define BLOCK_BITS 512 /* of all three */

static const EVP_MD *algorithm(enum digest d)
{
	return d == DIGEST_MD5 ? EVP_md5() : d == DIGEST_SHA1 ? EVP_sha1() : EVP_sha256();
}

int digest_of(enum digest d, struct span text, unsigned char *ret)
{
	return EVP_Digest(text.p, text.n, ret, NULL, algorithm(d), NULL) == 1 ? 0 : -EIO;
}

int digest_hmac(enum digest d, struct span key, struct span text, unsigned char *ret)
{
	return HMAC(algorithm(d), key.p, (int)key.n, (const unsigned char *)text.p, text.n, ret,
		    NULL)
		       ? 0
		       : -EIO;
}

int digest_pbkdf2(enum digest d, struct span password, struct span salt, uint32_t iterations,
		  unsigned char *ret)
{
	return PKCS5_PBKDF2_HMAC(password.p, (int)password.n, (const unsigned char *)salt.p,
				 (int)salt.n, (int)iterations, algorithm(d),
				 (int)digest_length(d), ret) == 1
		       ? 0
		       : -EIO;
}

int digest_random(void *bytes, size_t n)
{
	return RAND_bytes(bytes, (int)n) == 1 ? 0 : -EIO;
}

static uint32_t little(const unsigned char *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint32_t big(const unsigned char *p)
{
	return (uint32_t)p[3] | (uint32_t)p[2] << 8 | (uint32_t)p[1] << 16 | (uint32_t)p[0] << 24;
}

static void resume_md5(const unsigned char *state, struct span text, unsigned char *ret)
{
	MD5_CTX c;

	MD5_Init(&c);
	c.A = little(state);
	c.B = little(state + 4);
	c.C = little(state + 8);
	c.D = little(state + 12);
	c.Nl = BLOCK_BITS;
	MD5_Update(&c, text.p, text.n);
	MD5_Final(ret, &c);
	OPENSSL_cleanse(&c, sizeof(c));
}

static void resume_sha1(const unsigned char *state, struct span text, unsigned char *ret)
{
	SHA_CTX c;

	SHA1_Init(&c);
	c.h0 = big(state);
	c.h1 = big(state + 4);
	c.h2 = big(state + 8);
	c.h3 = big(state + 12);
	c.h4 = big(state + 16);
	c.Nl = BLOCK_BITS;
	SHA1_Update(&c, text.p, text.n);
	SHA1_Final(ret, &c);
	OPENSSL_cleanse(&c, sizeof(c));
}

static void resume_sha256(const unsigned char *state, struct span text, unsigned char *ret)
{
	SHA256_CTX c;

	SHA256_Init(&c);
	for (size_t i = 0; i < 8; i++)
		c.h[i] = big(state + 4 * i);
	c.Nl = BLOCK_BITS;
	SHA256_Update(&c, text.p, text.n);
	SHA256_Final(ret, &c);
	OPENSSL_cleanse(&c, sizeof(c));
}

void digest_hmac_resume(enum digest d, const unsigned char *states, struct span text,
			unsigned char *ret)
{
	static void (*const resume[DIGESTS])(const unsigned char *, struct span,
					     unsigned char *) = { [DIGEST_MD5] = resume_md5,
								  [DIGEST_SHA1] = resume_sha1,
								  [DIGEST_SHA256] =
									  resume_sha256 };
	const size_t n = digest_length(d);
	unsigned char inside[DIGEST_MAX];

	resume[d](states + n, text, inside);
	resume[d](states, (struct span){ (const char *)inside, n }, ret);
	OPENSSL_cleanse(inside, sizeof(inside));
}
