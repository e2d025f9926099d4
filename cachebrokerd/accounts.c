/* The account cache: two tables, accounts that there are and names that are none. A hash table's
 * own order is that of storing, so its first entry is the oldest. */
#include "cachebrokerd/accounts.h"

#include <stdlib.h>
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct entry {
	struct key name;
	int64_t fresh_until, until;
	size_t hosts_length, backend_user_length;
	bool other_password;
	bool refused; /* of the unknown: the password is what is wrong */
	UT_hash_handle hh;
	char texts[]; /* hosts, backend user */
};

struct accounts {
	struct entry *entries;
	struct entry *unknown; /* without texts */
};

struct accounts *accounts_new(void)
{
	return calloc(1, sizeof(struct accounts));
}

static void forget(struct entry **table, struct entry *e)
{
	HASH_DEL(*table, e);
	free(e);
}

void accounts_forget(struct accounts *a)
{
	while (a->entries)
		forget(&a->entries, a->entries);
	while (a->unknown)
		forget(&a->unknown, a->unknown);
}

void accounts_free(struct accounts *a)
{
	if (!a)
		return;
	accounts_forget(a);
	free(a);
}

/* The entry of this name, unless its time is over. */
static struct entry *find(struct entry **table, const struct key *name, int64_t now)
{
	struct entry *e = NULL;

	HASH_FIND(hh, *table, name, sizeof(*name), e);
	if (e && now >= e->until) {
		forget(table, e);
		return NULL;
	}
	return e;
}

static void forget_name(struct entry **table, const struct key *name)
{
	struct entry *e = find(table, name, INT64_MIN);

	if (e)
		forget(table, e);
}

enum accounts_state accounts_find(struct accounts *a, const struct key *name, int64_t now,
				  struct account *ret)
{
	struct entry *e = find(&a->entries, name, now);

	if (!e) {
		e = find(&a->unknown, name, now);
		return !e ? ACCOUNTS_NOTHING : e->refused ? ACCOUNTS_REFUSED : ACCOUNTS_UNKNOWN;
	}
	*ret = (struct account){ .hosts = { e->texts, e->hosts_length },
				 .backend_user = { e->texts + e->hosts_length,
						   e->backend_user_length },
				 .other_password = e->other_password };
	return now < e->fresh_until ? ACCOUNTS_FRESH : ACCOUNTS_STALE;
}

/* Puts e, which is taken over, into the table, in the place of the oldest if it is full. */
static void add(struct entry **table, struct entry *e, unsigned most)
{
	if (HASH_COUNT(*table) >= most)
		forget(table, *table);
	HASH_ADD(hh, *table, name, sizeof(e->name), e);
	if (!e->hh.tbl)
		free(e); /* no memory */
}

void accounts_store(struct accounts *a, const struct key *name, const struct account *account,
		    int64_t fresh_until, int64_t until)
{
	struct entry *e = calloc(1, sizeof(*e) + account->hosts.n + account->backend_user.n);

	if (!e)
		return;
	/* the account's texts may be those of the entry that goes */
	memcpy(e->texts, account->hosts.p, account->hosts.n);
	memcpy(e->texts + account->hosts.n, account->backend_user.p, account->backend_user.n);
	e->name = *name;
	e->fresh_until = fresh_until;
	e->until = until;
	e->hosts_length = account->hosts.n;
	e->backend_user_length = account->backend_user.n;
	e->other_password = account->other_password;
	forget_name(&a->entries, name);
	forget_name(&a->unknown, name);
	add(&a->entries, e, ACCOUNTS_MOST);
}

static void store_none(struct accounts *a, const struct key *name, bool refused, int64_t until)
{
	struct entry *e = calloc(1, sizeof(*e));

	forget_name(&a->entries, name);
	forget_name(&a->unknown, name);
	if (!e)
		return;
	e->name = *name;
	e->until = until;
	e->refused = refused;
	add(&a->unknown, e, ACCOUNTS_UNKNOWN_MOST);
}

void accounts_store_unknown(struct accounts *a, const struct key *name, int64_t until)
{
	store_none(a, name, false, until);
}

void accounts_store_refused(struct accounts *a, const struct key *name, int64_t until)
{
	store_none(a, name, true, until);
}
