/* What lookupd said about accounts, believed for a while. Pure: the time is an argument.
 *
 * Names come from strangers, so the table's key is a keyed digest of the name: nobody can choose
 * names that fall into one place.
 */
#ifndef CACHEBROKERD_ACCOUNTS_H
#define CACHEBROKERD_ACCOUNTS_H

#include "cachebrokerd/keys.h"

/* So many accounts are remembered; beyond that the one that was stored first goes. */
#define ACCOUNTS_MOST	      65536
#define ACCOUNTS_UNKNOWN_MOST 4096

struct accounts;

struct account {
	struct span hosts; /* as in lib/route.h */
	struct span backend_user;
	bool other_password; /* an errand must log in: the mail host wants another one */
};

/* NULL: no memory. */
struct accounts *accounts_new(void);
void accounts_free(struct accounts *a);

/* What is known of an account. */
enum accounts_state {
	ACCOUNTS_NOTHING,
	ACCOUNTS_FRESH,
	ACCOUNTS_STALE,	  /* good enough when nobody can be asked */
	ACCOUNTS_UNKNOWN, /* there is no such account */
	ACCOUNTS_REFUSED, /* its password is not this one */
};

/* What is known at this time (monotonic ms) of the account of this digest of service and name.
 * Fresh or stale, *ret is it; its texts live until the next call that stores or forgets. */
enum accounts_state accounts_find(struct accounts *a, const struct key *name, int64_t now,
				  struct account *ret);

/* Remembers a copy: it is fresh, then stale, until then. Without memory it is just not remembered.
 */
void accounts_store(struct accounts *a, const struct key *name, const struct account *account,
		    int64_t fresh_until, int64_t until);

/* Remembers that there is none. Such names are strangers' to choose: they never push out an account
 * that there is. */
void accounts_store_unknown(struct accounts *a, const struct key *name, int64_t until);

/* The same for a password that was refused: the digest is one of it, too. */
void accounts_store_refused(struct accounts *a, const struct key *name, int64_t until);

/* Forgets all, after a reload. */
void accounts_forget(struct accounts *a);

#endif
