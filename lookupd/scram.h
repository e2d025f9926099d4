/* SCRAM (RFC 5802, RFC 7677), the server's side: what the messages hold, and the arithmetic.
 *
 *	client-first  GS2-HEADER "n=" NAME ",r=" NONCE           GS2-HEADER: n,, or y,, or n,a=NAME,
 *	server-first  "r=" NONCE MORE ",s=" SALT ",i=" ITERATIONS
 *	client-final  "c=" GS2-HEADER in base64 ",r=" NONCE MORE ",p=" PROOF
 *	server-final  "v=" SIGNATURE
 *
 * The readers are pure. They borrow what they read.
 */
#ifndef LOOKUPD_SCRAM_H
#define LOOKUPD_SCRAM_H

#include "lib/buf.h"
#include "lookupd/digests.h"

#define SCRAM_NONCE_MAX	 128 /* of a client's */
#define SCRAM_SALT_MAX	 64  /* bytes */
#define SCRAM_ITERATIONS 4096 /* with keys of ours */

/* More would keep a worker busy for long: such a stored form is not taken. */
#define SCRAM_ITERATIONS_MOST 1000000

struct scram_first {
	struct span header; /* GS2's */
	struct span bare;   /* what is behind it */
	struct span nonce;
};

/* Reads a client's first message; the name, unescaped, is appended to user. 0; -EOPNOTSUPP when it
 * wants channel binding; -EACCES when it wants to act for another one than itself; -ENOBUFS for a
 * name that does not fit; -EINVAL. */
int scram_read_first(struct span message, struct buf *user, struct scram_first *ret);

struct scram_final {
	struct span without_proof; /* as it is in the authentication message */
	struct span binding;	   /* base64 */
	struct span nonce;
	unsigned char proof[DIGEST_MAX];
};

/* Reads its last one, with a proof of this length. 0 or -EINVAL. */
int scram_read_final(struct span message, size_t length, struct scram_final *ret);

/* What a server must know of a password; whoever has that cannot log in with it, but can pass for
 * the server. */
struct scram_keys {
	uint32_t iterations;
	size_t salt_length;
	char salt[SCRAM_SALT_MAX];
	unsigned char stored[DIGEST_MAX], server[DIGEST_MAX];
};

/* Reads the form in which a directory has it: Dovecot's {NAME}ITERATIONS,SALT,STORED,SERVER or
 * PostgreSQL's NAME$ITERATIONS:SALT$STORED:SERVER. 0; -ENOENT when it is something else; -EINVAL.
 */
int scram_read_keys(struct span hash, struct span name, enum digest d, struct scram_keys *ret);

/* Is this a password that a client prepares (SASLprep, RFC 4013) to nothing else than itself, as
 * far as is known here: of ASCII and of European letters in one piece (UTF-8)? */
bool scram_is_prepared(struct span password);

/* Makes the stored and the server key from salt and iterations. 0 or -EIO. */
int scram_make_keys(enum digest d, struct span password, struct scram_keys *k);

/* Is this the proof of who has the password of these keys, over this authentication message? 0, and
 * the server's signature in ret (DIGEST_MAX); -EACCES; -EIO. */
int scram_prove(enum digest d, const struct scram_keys *k, struct span auth_message,
		const unsigned char *proof, unsigned char *ret);

#endif
