/* Which connections belong together: keyed digests (HMAC-SHA256) under a random key of this start.
 *
 * Nothing that can be turned back into a password is ever kept: the secret becomes a proof while
 * its LEASE message is being handled, and the message is overwritten behind it.
 */
#ifndef CACHEBROKERD_KEYS_H
#define CACHEBROKERD_KEYS_H

#include <string.h>

#include "lib/msg.h"

#define KEY_BYTES 32

struct keys;

struct key {
	unsigned char bytes[KEY_BYTES];
};

/* The hash function of tables by keys, as uthash.h wants it: a keyed digest is as good as random to
 * everybody outside. */
#define KEY_HASH(key, length, hash) memcpy(&(hash), (key), sizeof(hash))

/* What makes two connections interchangeable, besides the proof. */
struct key_account {
	uint32_t service;
	uint32_t port;
	struct span host;
	struct span backend_user;
	struct span authzid;
	struct span preauth; /* what was said on them before the login */
	uint64_t tls;	     /* how TLS is made with the mail host; 0: there is none */
};

/* Makes the key of this start. 0 or -errno. */
int keys_new(struct keys **ret);

/* The same with the key of a broker before us, whose digests are gone on with. */
int keys_adopt(const struct key *secret, struct keys **ret);

/* The key itself, for that. The caller wipes what he makes of it. */
const struct key *keys_secret(const struct keys *k);
void keys_free(struct keys *k);

/* The digest of what the client proved itself with. */
int keys_proof(const struct keys *k, enum msg_proof kind, struct span secret, struct key *ret);

/* The same when clients prove themselves with a secret of all of them, and a master user logs in.
 */
int keys_master(const struct keys *k, struct span shared, struct span user, struct span password,
		struct key *ret);

/* The proof of connections that an errand logs in on for who gave this proof to the directory: by a
 * master user (else both are empty), or with the directory's own password. Another one than any
 * that the mail host has judged. */
int keys_made(const struct keys *k, const struct key *given, struct span user, struct span password,
	      struct key *ret);

/* The key of an account's connections under this proof; with proof NULL: of all of the account's
 * connections. */
int keys_account(const struct keys *k, const struct key_account *account, const struct key *proof,
		 struct key *ret);

/* The digest that stands for an account's tokens, as that of the account stands for its password:
 * what is known of one of them (proofs.h) is known apart from the password. */
int keys_tokens(const struct keys *k, const struct key *account, struct key *ret);

/* The same for an account's clients that were verified without a password of theirs. */
int keys_verified(const struct keys *k, const struct key *account, struct key *ret);

/* The key of those connections of `key` that have this fingerprint. */
int keys_fingerprint(const struct keys *k, const struct key *key, struct span fingerprint,
		     struct key *ret);

/* The digest of who comes for an account, as far as that can be told: what its ID said, and from
 * where. The key of its habit (habits.h). */
int keys_habit(const struct keys *k, const struct key *account, uint64_t client_id,
	       struct span address, struct key *ret);

/* The digest of a list of settings, one by one: adds this one's name and a value to *sum, which is
 * all zero at first. */
int keys_setting(const struct keys *k, struct span name, struct span value, struct key *sum);

/* The digest of an account's name as the client gave it: the key of the account cache. */
int keys_name(const struct keys *k, uint32_t service, struct span user, struct key *ret);

/* The same with a proof: what is known under it is for who has that only. */
int keys_login(const struct keys *k, uint32_t service, struct span user, const struct key *proof,
	       struct key *ret);

/* The same of a login by a client without TLS, where the answer was about that as well. */
int keys_plain(const struct keys *k, const struct key *login, struct key *ret);

/* The same key? In constant time. */
bool key_same(const struct key *a, const struct key *b);

#endif
