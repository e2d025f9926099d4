/* What each account's mail host last said about a password: which one it accepted, and when. Pure:
 * the time is an argument.
 *
 * An account is a keyed digest, and so is a proof's key (keys.h): no password can be got from this.
 */
#ifndef CACHEBROKERD_PROOFS_H
#define CACHEBROKERD_PROOFS_H

#include "cachebrokerd/keys.h"

/* So many accounts are remembered; beyond that the one that was heard of least recently goes, and
 * its connections are not kept any more. */
#define PROOFS_MOST 65536

struct proofs;

/* NULL: no memory. */
struct proofs *proofs_new(void);
void proofs_free(struct proofs *p);

/* The mail host accepted a login of this account with this key that began at `when` (monotonic ms).
 * From now on the account's connections under other keys count as those of an old password, unless
 * one of them began later. */
void proofs_accept(struct proofs *p, const struct key *account, const struct key *key,
		   int64_t when);

/* The mail host refused a login with this key. */
void proofs_refuse(struct proofs *p, const struct key *account, const struct key *key);

/* Is this the key that was accepted last, and not refused since? Only then a connection under it
 * may lie in the cache. */
bool proofs_current(const struct proofs *p, const struct key *account, const struct key *key);

/* The same, and when was that? 0: it is not. */
int64_t proofs_when(const struct proofs *p, const struct key *account, const struct key *key);

/* The same, and was that at `since` or later? */
bool proofs_fresh(const struct proofs *p, const struct key *account, const struct key *key,
		  int64_t since);

/* May the account's current key be proven again now? Not if that was begun after `since`. If so,
 * `now` is noted as the beginning of another try. */
bool proofs_try(struct proofs *p, const struct key *account, int64_t since, int64_t now);

#endif
