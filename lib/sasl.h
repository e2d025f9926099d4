/* The SASL mechanisms that clients may use: their names in the configuration, in capability lists
 * and with AUTHENTICATE, and what kind of proof each ends in. Pure.
 */
#ifndef LIB_SASL_H
#define LIB_SASL_H

#include "lib/msg.h"

/* A set of mechanisms is the sum of these. */
enum sasl_mechanism {
	SASL_PLAIN = 1,	      /* RFC 4616 */
	SASL_LOGIN = 2,	      /* AUTH=LOGIN, not the command */
	SASL_XOAUTH2 = 4,     /* Google's, before there was an RFC */
	SASL_OAUTHBEARER = 8, /* RFC 7628 */
	SASL_CRAM_MD5 = 16,   /* RFC 2195 */
	SASL_CRAM_SHA1 = 32,  /* the same with another hash, as Courier has them */
	SASL_CRAM_SHA256 = 64,
	SASL_SCRAM_SHA_1 = 128,	  /* RFC 5802 */
	SASL_SCRAM_SHA_256 = 256, /* RFC 7677 */
	SASL_EXTERNAL = 512,	  /* RFC 4422 appendix A: by the client's certificate */
	SASL_APOP = 1024,	  /* RFC 1939 section 7: POP3's command, no mechanism of SASL */
};

#define SASL_TOKENS (SASL_XOAUTH2 | SASL_OAUTHBEARER)
#define SASL_CRAMS  (SASL_CRAM_MD5 | SASL_CRAM_SHA1 | SASL_CRAM_SHA256)
#define SASL_SCRAMS (SASL_SCRAM_SHA_1 | SASL_SCRAM_SHA_256)

/* Those that lookupd verifies, with what a directory has. */
#define SASL_CHALLENGES (SASL_CRAMS | SASL_SCRAMS | SASL_APOP)

struct sasl_row {
	struct span name;
	enum sasl_mechanism bit;
	enum msg_proof proof; /* what a login by it is proven with */
};

/* Row i of the table and true, or false behind the last one. */
bool sasl_row_at(size_t i, struct sasl_row *ret);

/* The mechanism of a kind of token; false for another kind of proof. */
bool sasl_token_of(uint32_t proof, struct sasl_row *ret);

/* Reads names separated by blanks, in any case, or "none". APOP, which is in no list of mechanisms,
 * is one of the names. 0; -EINVAL, then *ret_bad is the word that is no such name. */
int sasl_list_read(struct span list, uint32_t *ret, struct span *ret_bad);

#endif
