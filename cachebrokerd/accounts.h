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
	bool private;	     /* it may log in only where nobody can listen */
	uint32_t place;	     /* of the directory that has said so, among them, from 1 */
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

/* What is known at this time (monotonic ms) of the account under this digest: of service and name,
 * or of these and a proof (keys_login()) where the answer was about that proof as well.
 * Fresh or stale, *ret is it; its texts live until the next call that stores or forgets. */
enum accounts_state accounts_find(struct accounts *a, const struct key *login, int64_t now,
				  struct account *ret);

/* What was said last of the user (keys_name()), whoever asked: of refused passwords nothing. */
enum accounts_state accounts_find_user(const struct accounts *a, const struct key *user,
				       int64_t now, struct account *ret);

/* Remembers a copy: it is fresh, then stale, until then. Where a login is a name with a password,
 * the user's other ones are not good any more when they are stale. Without memory it is just not
 * remembered. */
void accounts_store(struct accounts *a, const struct key *login, const struct key *user,
		    const struct account *account, int64_t fresh_until, int64_t until);

/* Remembers that there is none, or that its password was refused. Both are strangers' to choose:
 * they never push out an account that there is. */
void accounts_store_none(struct accounts *a, const struct key *login, const struct key *user,
			 bool refused, int64_t until);

/* Forgets what is known under this digest. */
void accounts_forget_login(struct accounts *a, const struct key *login);

/* All that is known, for a successor, in the order in which it was stored: what accounts_find()
 * says, and until when. The texts live as accounts_find()'s. */
struct accounts_row {
	struct key login;
	struct key user;
	int64_t fresh_until, until;
	bool none, refused; /* then there is no account */
	struct account account;
};

struct accounts_entry;

struct accounts_cursor {
	const struct accounts_entry *found, *none;
};

/* Begins with the first; while a cursor is used nothing may be stored, found or forgotten. */
void accounts_begin(const struct accounts *a, struct accounts_cursor *ret);

/* The next one that is believed at this time. False: that was all. */
bool accounts_next(struct accounts_cursor *at, int64_t now, struct accounts_row *ret);

/* Stores a row as it is, behind those that are there. */
void accounts_restore(struct accounts *a, const struct accounts_row *row);

/* Forgets what is known of one user, under whatever proof. */
void accounts_forget_user(struct accounts *a, const struct key *user);

/* Forgets all, after a reload. */
void accounts_forget(struct accounts *a);

#endif
