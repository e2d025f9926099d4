/* What password.c is made of: one file for each outside library. `typed` is possible
 * (password_is_possible()). Nothing of it stays in our memory. */
#ifndef LOOKUPD_PASSWORD_FORMS_H
#define LOOKUPD_PASSWORD_FORMS_H

#include "lookupd/password.h"

#define PASSWORD_DIGEST_MAX 64

/* The digest of a and b, one behind the other, by OpenSSL's name for it ("SHA256"). Returns its
 * length, 0 when there is none of this name. */
size_t password_digest(const char *name, struct span a, struct span b,
		       unsigned char ret[PASSWORD_DIGEST_MAX]);

/* PBKDF2 with HMAC of this digest, so many rounds, into ret (length bytes). 0 or -EIO. */
int password_pbkdf2(const char *name, struct span typed, struct span salt, uint32_t rounds,
		    unsigned char *ret, size_t length);

/* A string of crypt(3). PASSWORD_UNKNOWN: no method of its begins so. */
enum password_verdict password_crypt(struct span stored, struct span typed);

#ifdef HAVE_LIBARGON2
/* $argon2i$..., $argon2id$... */
enum password_verdict password_argon2(struct span stored, struct span typed);
#endif

#endif
