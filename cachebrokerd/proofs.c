/* The last proof of each account. The hash table's own order is that of the last word, so its first
 * entry is the one that was heard of least recently. */
#include "cachebrokerd/proofs.h"

#include <stdlib.h>
#define HASH_NONFATAL_OOM 1
#define HASH_FUNCTION	  KEY_HASH
#include <uthash.h>

struct entry {
	struct key account;
	struct key key;	  /* accepted last */
	int64_t accepted; /* that login's beginning */
	int64_t tried;	  /* the last try's beginning */
	bool refused;	  /* since then */
	UT_hash_handle hh;
};

struct proofs {
	struct entry *entries;
};

struct proofs *proofs_new(void)
{
	return calloc(1, sizeof(struct proofs));
}

static void forget(struct proofs *p, struct entry *e)
{
	HASH_DEL(p->entries, e);
	free(e);
}

void proofs_free(struct proofs *p)
{
	if (!p)
		return;
	while (p->entries)
		forget(p, p->entries);
	free(p);
}

static struct entry *find(const struct proofs *p, const struct key *account)
{
	struct entry *e = NULL;

	HASH_FIND(hh, p->entries, account, sizeof(*account), e);
	return e;
}

static const struct entry *find_current(const struct proofs *p, const struct key *account,
					const struct key *key)
{
	const struct entry *e = find(p, account);

	return e && !e->refused && key_same(&e->key, key) ? e : NULL;
}

void proofs_accept(struct proofs *p, const struct key *account, const struct key *key, int64_t when)
{
	struct entry *old = find(p, account), *e;

	if (old && old->accepted > when)
		return; /* what is known is newer */
	e = calloc(1, sizeof(*e));
	if (old)
		forget(p, old);
	if (!e)
		return;
	if (HASH_COUNT(p->entries) >= PROOFS_MOST)
		forget(p, p->entries);
	*e = (struct entry){ .account = *account, .key = *key, .accepted = when, .tried = when };
	HASH_ADD(hh, p->entries, account, sizeof(e->account), e);
	if (!e->hh.tbl)
		free(e); /* no memory */
}

void proofs_refuse(struct proofs *p, const struct key *account, const struct key *key)
{
	struct entry *e = find(p, account);

	if (e && key_same(&e->key, key))
		e->refused = true;
}

bool proofs_current(const struct proofs *p, const struct key *account, const struct key *key)
{
	return find_current(p, account, key) != NULL;
}

bool proofs_fresh(const struct proofs *p, const struct key *account, const struct key *key,
		  int64_t since)
{
	const struct entry *e = find_current(p, account, key);

	return e && e->accepted >= since;
}

int64_t proofs_when(const struct proofs *p, const struct key *account, const struct key *key)
{
	const struct entry *e = find_current(p, account, key);

	return e ? e->accepted : 0;
}

bool proofs_try(struct proofs *p, const struct key *account, int64_t since, int64_t now)
{
	struct entry *e = find(p, account);

	if (!e || e->tried > since)
		return false;
	e->tried = now;
	return true;
}
