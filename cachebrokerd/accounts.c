/* The account cache. The hash table's own order is that of storing, so its first entry is the
 * oldest. */
#include "cachebrokerd/accounts.h"

#include <stdlib.h>
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct entry {
	struct key name;
	int64_t until;
	size_t hosts_length, backend_user_length;
	UT_hash_handle hh;
	char texts[]; /* hosts, backend user */
};

struct accounts {
	struct entry *entries;
};

struct accounts *accounts_new(void)
{
	return calloc(1, sizeof(struct accounts));
}

static void forget(struct accounts *a, struct entry *e)
{
	HASH_DEL(a->entries, e);
	free(e);
}

void accounts_forget(struct accounts *a)
{
	while (a->entries)
		forget(a, a->entries);
}

void accounts_free(struct accounts *a)
{
	if (!a)
		return;
	accounts_forget(a);
	free(a);
}

static struct entry *find(struct accounts *a, const struct key *name)
{
	struct entry *e = NULL;

	HASH_FIND(hh, a->entries, name, sizeof(*name), e);
	return e;
}

bool accounts_find(struct accounts *a, const struct key *name, int64_t now, struct account *ret)
{
	struct entry *e = find(a, name);

	if (!e)
		return false;
	if (now >= e->until) {
		forget(a, e);
		return false;
	}
	*ret = (struct account){ .hosts = { e->texts, e->hosts_length },
				 .backend_user = { e->texts + e->hosts_length,
						   e->backend_user_length } };
	return true;
}

void accounts_store(struct accounts *a, const struct key *name, const struct account *account,
		    int64_t until)
{
	struct entry *old = find(a, name);
	struct entry *e = calloc(1, sizeof(*e) + account->hosts.n + account->backend_user.n);

	if (!e)
		return;
	if (old)
		forget(a, old);
	else if (HASH_COUNT(a->entries) >= ACCOUNTS_MOST)
		forget(a, a->entries);
	e->name = *name;
	e->until = until;
	e->hosts_length = account->hosts.n;
	e->backend_user_length = account->backend_user.n;
	memcpy(e->texts, account->hosts.p, account->hosts.n);
	memcpy(e->texts + account->hosts.n, account->backend_user.p, account->backend_user.n);
	HASH_ADD(hh, a->entries, name, sizeof(e->name), e);
	if (!e->hh.tbl)
		free(e); /* no memory */
}
