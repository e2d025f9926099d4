/* What lookupd said about accounts, believed for lookup_ttl. Pure: the time is an argument.
 *
 * Names come from strangers, so the table's key is a keyed digest of the name: nobody can choose
 * names that fall into one place.
 */
#ifndef CACHEBROKERD_ACCOUNTS_H
#define CACHEBROKERD_ACCOUNTS_H

#include "cachebrokerd/keys.h"

/* So many accounts are remembered; beyond that the one that was stored first goes. */
#define ACCOUNTS_MOST 65536

struct accounts;

struct account {
	struct span hosts; /* as in lib/route.h */
	struct span backend_user;
};

/* NULL: no memory. */
struct accounts *accounts_new(void);
void accounts_free(struct accounts *a);

/* The account of this digest of service and name, if it is known at this time (monotonic ms). Its
 * texts live until the next call that stores or forgets. */
bool accounts_find(struct accounts *a, const struct key *name, int64_t now, struct account *ret);

/* Remembers a copy until then. Without memory it is just not remembered. */
void accounts_store(struct accounts *a, const struct key *name, const struct account *account,
		    int64_t until);

/* Forgets all, after a reload. */
void accounts_forget(struct accounts *a);

#endif
