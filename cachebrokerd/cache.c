/* The table of idle backend connections: four orders of the same entries.
 *
 * Keys are HMACs, so a hash table over their bytes cannot be attacked from outside.
 */
#include "cachebrokerd/cache.h"

#include <errno.h>
#include <stdlib.h>
#define HASH_NONFATAL_OOM 1
#define HASH_FUNCTION	  KEY_HASH
#include <uthash.h>

/* The entries of one key, one account or one user. */
struct group {
	struct key key;
	struct cache_entry *newest, *oldest;
	unsigned count;
	UT_hash_handle hh;
};

struct cache {
	struct group *by_key;
	struct group *by_account;
	struct group *by_user;
	struct cache_entry *newest, *oldest;
	unsigned count;
};

struct cache *cache_new(void)
{
	return calloc(1, sizeof(struct cache));
}

void cache_free(struct cache *c)
{
	free(c);
}

static struct group *find(struct group *groups, const struct key *key)
{
	struct group *g = NULL;

	HASH_FIND(hh, groups, key, sizeof(*key), g);
	return g;
}

static struct group *find_or_add(struct group **groups, const struct key *key)
{
	struct group *g = find(*groups, key);

	if (g)
		return g;
	g = calloc(1, sizeof(*g));
	if (!g)
		return NULL;
	g->key = *key;
	HASH_ADD(hh, *groups, key, sizeof(g->key), g);
	if (!g->hh.tbl) { /* no memory */
		free(g);
		return NULL;
	}
	return g;
}

static void drop_if_empty(struct group **groups, struct group *g)
{
	if (g->count > 0)
		return;
	HASH_DEL(*groups, g);
	free(g);
}

/* A doubly linked list by two members; newest is its head. */
#define LINK(head, tail, e, OLDER, NEWER) \
	do { \
		(e)->OLDER = (head); \
		(e)->NEWER = NULL; \
		if (head) \
			(head)->NEWER = (e); \
		else \
			(tail) = (e); \
		(head) = (e); \
	} while (0)

#define UNLINK(head, tail, e, OLDER, NEWER) \
	do { \
		if ((e)->NEWER) \
			(e)->NEWER->OLDER = (e)->OLDER; \
		else \
			(head) = (e)->OLDER; \
		if ((e)->OLDER) \
			(e)->OLDER->NEWER = (e)->NEWER; \
		else \
			(tail) = (e)->NEWER; \
	} while (0)

int cache_add(struct cache *c, struct cache_entry *e)
{
	struct group *key = find_or_add(&c->by_key, &e->key);
	struct group *account = key ? find_or_add(&c->by_account, &e->account) : NULL;
	struct group *user = account ? find_or_add(&c->by_user, &e->user) : NULL;

	if (!user) {
		if (account)
			drop_if_empty(&c->by_account, account);
		if (key)
			drop_if_empty(&c->by_key, key);
		return -ENOMEM;
	}
	LINK(c->newest, c->oldest, e, older, newer);
	LINK(key->newest, key->oldest, e, key_older, key_newer);
	LINK(account->newest, account->oldest, e, account_older, account_newer);
	LINK(user->newest, user->oldest, e, user_older, user_newer);
	key->count++;
	account->count++;
	user->count++;
	c->count++;
	return 0;
}

void cache_remove(struct cache *c, struct cache_entry *e)
{
	struct group *key = find(c->by_key, &e->key), *account = find(c->by_account, &e->account);
	struct group *user = find(c->by_user, &e->user);

	UNLINK(c->newest, c->oldest, e, older, newer);
	UNLINK(key->newest, key->oldest, e, key_older, key_newer);
	UNLINK(account->newest, account->oldest, e, account_older, account_newer);
	UNLINK(user->newest, user->oldest, e, user_older, user_newer);
	key->count--;
	account->count--;
	user->count--;
	c->count--;
	drop_if_empty(&c->by_key, key);
	drop_if_empty(&c->by_account, account);
	drop_if_empty(&c->by_user, user);
}

struct cache_entry *cache_newest(const struct cache *c, const struct key *key)
{
	const struct group *g = find(c->by_key, key);

	return g ? g->newest : NULL;
}

struct cache_entry *cache_oldest(const struct cache *c)
{
	return c->oldest;
}

struct cache_entry *cache_oldest_of(const struct cache *c, const struct key *account,
				    unsigned *ret_count)
{
	const struct group *g = find(c->by_account, account);

	*ret_count = g ? g->count : 0;
	return g ? g->oldest : NULL;
}

struct cache_entry *cache_oldest_of_user(const struct cache *c, const struct key *user)
{
	const struct group *g = find(c->by_user, user);

	return g ? g->oldest : NULL;
}

unsigned cache_count(const struct cache *c)
{
	return c->count;
}
