/* CRAM (RFC 2195): the texts of the mechanisms CRAM-MD5, CRAM-SHA1 and CRAM-SHA256. Pure.
 *
 *	server  <random.time@host>
 *	client  NAME SP lower-case hex of HMAC(password, that)
 */
#ifndef LOOKUPD_CRAM_H
#define LOOKUPD_CRAM_H

#include "lookupd/digests.h"

/* Takes a client's answer apart: at its last blank, since a name may have some. *ret_user borrows
 * it, ret_digest has room for DIGEST_MAX. 0, or -EINVAL for anything else than a name without
 * control characters and a digest of this length. */
int cram_read(struct span answer, size_t length, struct span *ret_user, unsigned char *ret_digest);

/* Reads two states of an HMAC (digests.h), as Courier's userdbpw and Dovecot's {CRAM-MD5} have
 * them, in hex of either case: ret has room for twice `length`. 0 or -EINVAL. */
int cram_read_states(struct span hex, size_t length, unsigned char *ret);

#endif
