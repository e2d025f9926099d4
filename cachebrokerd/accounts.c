/* The account cache: two tables, accounts that there are and names that are none. A hash table's
 * own order is that of storing, so its first entry is the oldest.
 *
 * A user's entries, of both tables, hang together: strangers can make many of them that say no more
 * than that a password was wrong, so these stand behind all others.
 */
#include "cachebrokerd/accounts.h"

#include <stdlib.h>
#define HASH_NONFATAL_OOM 1
#define HASH_FUNCTION	  KEY_HASH
#include <uthash.h>
#include <utlist.h>

/* All entries of a user, the newest first, behind them those of refused passwords. */
struct user {
	struct key name;
	struct accounts_entry *entries;
	UT_hash_handle hh;
};

struct accounts_entry {
	struct key login;
	struct user *user;
	struct accounts_entry *prev, *next; /* of the user */
	uint64_t number;		    /* in the order of storing, of both tables */
	int64_t fresh_until, until;
	size_t hosts_length, backend_user_length;
	bool other_password, private;
	uint32_t place;
	bool none;    /* it is in the table of the unknown, */
	bool refused; /* and the password is what is wrong */
	UT_hash_handle hh;
	char texts[]; /* hosts, backend user */
};

struct accounts {
	struct accounts_entry *entries;
	struct accounts_entry *unknown; /* without texts */
	struct user *users;		/* that have any */
	uint64_t stored;
};

struct accounts *accounts_new(void)
{
	return calloc(1, sizeof(struct accounts));
}

static struct user *find_user(const struct accounts *a, const struct key *name)
{
	struct user *u = NULL;

	HASH_FIND(hh, a->users, name, sizeof(*name), u);
	return u;
}

static struct user *find_or_add_user(struct accounts *a, const struct key *name)
{
	struct user *u = find_user(a, name);

	if (u)
		return u;
	u = calloc(1, sizeof(*u));
	if (!u)
		return NULL;
	u->name = *name;
	HASH_ADD(hh, a->users, name, sizeof(u->name), u);
	if (!u->hh.tbl) { /* no memory */
		free(u);
		return NULL;
	}
	return u;
}

static void drop_if_empty(struct accounts *a, struct user *u)
{
	if (u->entries)
		return;
	HASH_DEL(a->users, u);
	free(u);
}

static void forget(struct accounts *a, struct accounts_entry *e)
{
	struct user *u = e->user;

	DL_DELETE(u->entries, e);
	drop_if_empty(a, u);
	HASH_DEL(*(e->none ? &a->unknown : &a->entries), e);
	free(e);
}

void accounts_forget(struct accounts *a)
{
	while (a->entries)
		forget(a, a->entries);
	while (a->unknown)
		forget(a, a->unknown);
}

void accounts_free(struct accounts *a)
{
	if (!a)
		return;
	accounts_forget(a);
	free(a);
}

/* The entry of this login in one of the tables, unless its time is over. */
static struct accounts_entry *find(struct accounts *a, struct accounts_entry *table,
				   const struct key *login, int64_t now)
{
	struct accounts_entry *e = NULL;

	HASH_FIND(hh, table, login, sizeof(*login), e);
	if (e && now >= e->until) {
		forget(a, e);
		return NULL;
	}
	return e;
}

void accounts_forget_login(struct accounts *a, const struct key *login)
{
	struct accounts_entry *found = find(a, a->entries, login, INT64_MIN);
	struct accounts_entry *none = find(a, a->unknown, login, INT64_MIN);

	if (found)
		forget(a, found);
	if (none)
		forget(a, none);
}

void accounts_forget_user(struct accounts *a, const struct key *user)
{
	struct user *u;

	while ((u = find_user(a, user)) != NULL)
		forget(a, u->entries);
}

static struct account account_of(const struct accounts_entry *e)
{
	return (struct account){ .hosts = { e->texts, e->hosts_length },
				 .backend_user = { e->texts + e->hosts_length,
						   e->backend_user_length },
				 .other_password = e->other_password,
				 .private = e->private,
				 .place = e->place };
}

static enum accounts_state say(const struct accounts_entry *e, int64_t now, struct account *ret)
{
	if (e->none)
		return e->refused ? ACCOUNTS_REFUSED : ACCOUNTS_UNKNOWN;
	*ret = account_of(e);
	return now < e->fresh_until ? ACCOUNTS_FRESH : ACCOUNTS_STALE;
}

enum accounts_state accounts_find(struct accounts *a, const struct key *login, int64_t now,
				  struct account *ret)
{
	const struct accounts_entry *e = find(a, a->entries, login, now);

	if (!e)
		e = find(a, a->unknown, login, now);
	return e ? say(e, now, ret) : ACCOUNTS_NOTHING;
}

enum accounts_state accounts_find_user(const struct accounts *a, const struct key *user,
				       int64_t now, struct account *ret)
{
	const struct user *u = find_user(a, user);

	for (const struct accounts_entry *e = u ? u->entries : NULL; e && !e->refused; e = e->next)
		if (now < e->until)
			return say(e, now, ret);
	return ACCOUNTS_NOTHING;
}

/* Puts e, which is taken over, in, in the place of the oldest if its table is full. */
static void add(struct accounts *a, struct accounts_entry *e, const struct key *user)
{
	struct accounts_entry **table = e->none ? &a->unknown : &a->entries;

	accounts_forget_login(a, &e->login);
	if (HASH_COUNT(*table) >= (e->none ? ACCOUNTS_UNKNOWN_MOST : ACCOUNTS_MOST))
		forget(a, *table);
	e->number = ++a->stored;
	e->user = find_or_add_user(a, user);
	if (!e->user) {
		free(e);
		return;
	}
	HASH_ADD(hh, *table, login, sizeof(e->login), e);
	if (!e->hh.tbl) { /* no memory */
		drop_if_empty(a, e->user);
		free(e);
	} else if (e->refused) {
		DL_APPEND(e->user->entries, e);
	} else {
		DL_PREPEND(e->user->entries, e);
	}
}

/* A password that the directory takes now: others that it took before may have been replaced by it,
 * and are not believed for longer than any answer is. */
static void age_others(const struct accounts *a, const struct key *login, const struct key *user)
{
	const struct user *u = key_same(login, user) ? NULL : find_user(a, user);

	for (struct accounts_entry *e = u ? u->entries : NULL; e; e = e->next)
		if (!e->none && !key_same(&e->login, login) && !key_same(&e->login, user) &&
		    e->until > e->fresh_until)
			e->until = e->fresh_until;
}

/* Copies the account's texts, which may be those of an entry that goes. NULL: no memory. */
static struct accounts_entry *new_entry(const struct key *login, const struct account *account,
					int64_t fresh_until, int64_t until)
{
	struct accounts_entry *e =
		calloc(1, sizeof(*e) + account->hosts.n + account->backend_user.n);

	if (!e)
		return NULL;
	if (account->hosts.n > 0)
		memcpy(e->texts, account->hosts.p, account->hosts.n);
	if (account->backend_user.n > 0)
		memcpy(e->texts + account->hosts.n, account->backend_user.p,
		       account->backend_user.n);
	e->login = *login;
	e->fresh_until = fresh_until;
	e->until = until;
	e->hosts_length = account->hosts.n;
	e->backend_user_length = account->backend_user.n;
	e->other_password = account->other_password;
	e->private = account->private;
	e->place = account->place;
	return e;
}

void accounts_store(struct accounts *a, const struct key *login, const struct key *user,
		    const struct account *account, int64_t fresh_until, int64_t until)
{
	struct accounts_entry *e = new_entry(login, account, fresh_until, until);

	if (!e)
		return;
	age_others(a, login, user);
	add(a, e, user);
}

void accounts_store_none(struct accounts *a, const struct key *login, const struct key *user,
			 bool refused, int64_t until)
{
	struct accounts_entry *e = new_entry(login, &(struct account){ 0 }, 0, until);

	if (!e) {
		accounts_forget_login(a, login);
		return;
	}
	e->none = true;
	e->refused = refused;
	add(a, e, user);
}

/* --- for a successor ---------------------------------------------------- */

void accounts_begin(const struct accounts *a, struct accounts_cursor *ret)
{
	*ret = (struct accounts_cursor){ a->entries, a->unknown };
}

/* The one that was stored before the others that are left; NULL: none is. */
static const struct accounts_entry *take_oldest(struct accounts_cursor *at)
{
	const struct accounts_entry **oldest = &at->found, *e;

	if (!at->found || (at->none && at->none->number < at->found->number))
		oldest = &at->none;
	e = *oldest;
	if (e)
		*oldest = e->hh.next;
	return e;
}

bool accounts_next(struct accounts_cursor *at, int64_t now, struct accounts_row *ret)
{
	const struct accounts_entry *e;

	do
		e = take_oldest(at);
	while (e && now >= e->until);
	if (!e)
		return false;
	*ret = (struct accounts_row){ .login = e->login,
				      .user = e->user->name,
				      .fresh_until = e->fresh_until,
				      .until = e->until,
				      .none = e->none,
				      .refused = e->refused,
				      .account = account_of(e) };
	return true;
}

void accounts_restore(struct accounts *a, const struct accounts_row *row)
{
	struct accounts_entry *e =
		new_entry(&row->login, &row->account, row->fresh_until, row->until);

	if (!e)
		return;
	e->none = row->none;
	e->refused = row->refused;
	add(a, e, &row->user);
}
