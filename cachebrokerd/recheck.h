/* Proving a password again: a reused login shows only that the password is the one that was right
 * when the connection was made (auth_recheck; docs/ARCHITECTURE.md, "Passwords").
 */
#ifndef CACHEBROKERD_RECHECK_H
#define CACHEBROKERD_RECHECK_H

#include "cachebrokerd/broker.h"

struct client;
struct secret;

/* A login that could take a connection out of the cache: what about its password? */
enum recheck_need {
	RECHECK_NOT,	/* it was proven lately */
	RECHECK_BEHIND, /* answer, and have it proven behind the answer */
	RECHECK_BEFORE, /* have it proven, then answer */
	RECHECK_ITSELF, /* no errand can do it now, or it is a token: the session itself, by a
			 * fresh login */
};
enum recheck_need recheck_need(const struct client *c);

/* Has the password of the client's LEASE proven by an errand on a fresh connection, which becomes
 * the account's next idle one. Takes *secret over on success and wipes it as soon as the errand
 * has it. A client with `waits` hears of the verdict by lease_proven(), unless recheck_leave() is
 * called. 0; -errno: it cannot be done now. */
struct recheck;
int recheck_start(struct client *c, struct secret **secret, bool waits, struct recheck **ret);

/* The client does not wait for it any more. NULL is allowed; *r becomes NULL. */
void recheck_leave(struct recheck **r);

/* The mail host refused this key to a session, or to an errand (`end`: the sessions that use it
 * end, too): the account's idle connections of that record (proofs.h) are closed, those in use are
 * not kept. */
void recheck_refused(struct broker *b, const struct key *account, const struct key *record,
		     const struct key *key, bool end);

#endif
