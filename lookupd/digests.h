/* Digests, and what is made of them: HMAC (RFC 2104), PBKDF2 (RFC 8018), random bytes. */
#ifndef LOOKUPD_DIGESTS_H
#define LOOKUPD_DIGESTS_H

#include "lib/span.h"

enum digest { DIGEST_MD5, DIGEST_SHA1, DIGEST_SHA256, DIGESTS };

#define DIGEST_MAX 32 /* bytes of the longest */

/* In bytes. */
static inline size_t digest_length(enum digest d)
{
	return d == DIGEST_MD5 ? 16 : d == DIGEST_SHA1 ? 20 : 32;
}

/* The digest of a text, and its HMAC under a key. 0 or -EIO. */
int digest_of(enum digest d, struct span text, unsigned char *ret);
int digest_hmac(enum digest d, struct span key, struct span text, unsigned char *ret);

/* The HMAC of a text under a key of which only the states behind its first block are known: those
 * of the outer and then of the inner digest, each of the digest's length. */
void digest_hmac_resume(enum digest d, const unsigned char *states, struct span text,
			unsigned char *ret);

/* PBKDF2 with HMAC, as long as the digest. 0 or -EIO. */
int digest_pbkdf2(enum digest d, struct span password, struct span salt, uint32_t iterations,
		  unsigned char *ret);

/* Bytes that nobody can guess. 0 or -errno. */
int digest_random(void *bytes, size_t n);

#endif
