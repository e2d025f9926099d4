/* The table of idle backend connections. Pure: it counts and orders, the caller owns descriptors
 * and clocks.
 *
 * Of one key the newest comes out first, so that spare ones grow old and expire; to make room the
 * oldest of all goes.
 */
#ifndef CACHEBROKERD_CACHE_H
#define CACHEBROKERD_CACHE_H

#include "cachebrokerd/keys.h"

struct cache;

/* One idle connection. The members belong to whoever made it; the links are the cache's. */
struct cache_entry {
	struct key key;	    /* account and proof: may be handed out for this */
	struct key account; /* for the limit per account */
	struct key user;    /* the name that its client logged in by, and the service */
	int64_t since;	    /* monotonic ms: idle since */
	void *owner;
	struct cache_entry *older, *newer;		   /* all */
	struct cache_entry *key_older, *key_newer;	   /* of the key */
	struct cache_entry *account_older, *account_newer; /* of the account */
	struct cache_entry *user_older, *user_newer;	   /* of the user */
};

/* NULL: no memory. */
struct cache *cache_new(void);

/* Frees the table; the entries must have been taken out. */
void cache_free(struct cache *c);

/* Puts an entry in, as the newest. 0 or -ENOMEM. */
int cache_add(struct cache *c, struct cache_entry *e);

/* Takes an entry out. */
void cache_remove(struct cache *c, struct cache_entry *e);

/* The newest entry of the key, or NULL; it stays in. */
struct cache_entry *cache_newest(const struct cache *c, const struct key *key);

/* The oldest of all, or NULL; it stays in. */
struct cache_entry *cache_oldest(const struct cache *c);

/* The oldest of an account, or NULL; and how many it has. */
struct cache_entry *cache_oldest_of(const struct cache *c, const struct key *account,
				    unsigned *ret_count);

/* The oldest of a user (keys_name()), or NULL; user_newer leads on. */
struct cache_entry *cache_oldest_of_user(const struct cache *c, const struct key *user);

unsigned cache_count(const struct cache *c);

#endif
