/* A backend connection: leased to a session, or idle in the cache. What it is shows in where it
 * hangs; one function moves it each way.
 */
#ifndef CACHEBROKERD_CONNECTION_H
#define CACHEBROKERD_CONNECTION_H

#include "cachebrokerd/broker.h"

struct connection {
	struct cache_entry entry; /* keys; links while idle */
	struct broker *broker;
	struct host *host;
	struct connection *host_previous, *host_next; /* idle ones of the host */
	struct connection *previous, *next;	      /* all there are */
	struct watch *watch;			      /* idle: any event evicts it */
	int fd; /* idle: the only copy; leased: -1, the session has it */
	uint64_t id;
	uint64_t cookie; /* SO_COOKIE of the socket: what is given back must be it */
	int64_t born;	 /* monotonic ms: the backend login */
	uint64_t tls;	 /* how TLS was made with the host: host_tls() */
	uint64_t from_client; /* moved over it by sessions that are over */
	uint64_t from_backend;
	bool proven;	 /* the backend has accepted the login */
	bool cached;	 /* it was handed out logged in: from the cache, or */
	bool spare;	 /* it had waited for its login: its greeting is gone, */
	char *offered;	 /* and this is the list before login */
	bool unwanted;	 /* whatever comes: it is not cached any more */
	bool made;	 /* by an errand that logged in for the client that has it */
	char *user;	 /* as the client logged in; for people */
	char *backend_user;
	char *capabilities; /* after login; NULL until it was given back once */
	struct key plain;   /* the key without its fingerprint */
	struct key record;  /* what proofs.h knows of it: the account, or its tokens */
	char *fingerprint;  /* what is turned on on it; NULL or empty: nothing */
	char *opening;	    /* and how that came about */
	char *examined;	    /* the mailbox that is open on it, as in LEASED; NULL: none */
};

/* A connection that was just dialled, leased from now on: counts as such. Its record is that of a
 * login with a password: the account. fd stays the caller's,
 * who hands it out. NULL: no memory. */
struct connection *connection_new(struct broker *b, struct host *host, const struct key *key,
				  const struct key *account, struct span user,
				  struct span backend_user, int fd);

/* A leased connection is gone or not wanted back. */
void connection_lost(struct connection *c);

/* Is fd the socket of this connection, and not another one? */
bool connection_is(const struct connection *c, int fd);

/* Has it a fingerprint, so that it can only be offered? */
static inline bool connection_is_marked(const struct connection *c)
{
	return c->fingerprint && *c->fingerprint;
}

/* Was it there before the login that it serves? */
static inline bool connection_is_reused(const struct connection *c)
{
	return c->cached && !c->made;
}

/* A leased connection is on its way back with this fingerprint: it gets the key of such. 0 or
 * -errno. */
int connection_mark(struct connection *c, struct span fingerprint);

/* What is kept of it besides. Empty capabilities: they are as they were; empty `examined`: no
 * mailbox is open. 0 or -ENOMEM. */
int connection_describe(struct connection *c, struct span capabilities, struct span opening,
			struct span examined);

/* A leased connection comes back with its descriptor, which is taken over in any case: into the
 * cache, if caching is on, it is the same socket, not too old and under the account's current
 * password. 0; -EBADF when it is another socket; -errno: it was closed, politely where it is one.
 */
int connection_given(struct connection *c, int *fd);

/* Puts a leased connection into the cache and watches it there: it is idle since then (monotonic
 * ms). *fd is taken over if that went well. 0 or -errno. */
int connection_shelve(struct connection *c, int64_t since, int *fd);

/* Has the mail host neither said anything nor hung up? */
bool connection_is_silent(int fd);

/* Would it be made in another way now, or not at all? */
bool connection_is_outdated(const struct connection *c);

/* Takes the newest usable idle connection of the key out of the cache; dead ones met on the way are
 * closed. It is leased from now on; *ret_fd is the caller's to send and close, *ret_idle the
 * milliseconds it lay. NULL: there is none. */
struct connection *connection_take(struct broker *b, const struct key *key, int *ret_fd,
				   int64_t *ret_idle);

/* Is there room for one more leased connection, in all (cache_size) and to this host
 * (host_max_connections), if need be in place of a spare or the oldest idle one? That is logged
 * out. NULL, or why there is none, for people. */
const char *connection_make_room(struct broker *b, const struct host *host);

/* Would connection_make_room() make it? And does host_max_connections count among what it has to
 * look at now, so that only connections to this host make room? */
bool connection_has_room(const struct broker *b, const struct host *host);
bool connection_fills_host(const struct broker *b, const struct host *host);

/* Is there room without that? */
bool connection_has_free_room(const struct broker *b, const struct host *host);

/* Dialling begins and ends: a connection that is being dialled counts like a leased one. */
void connection_dialling(struct broker *b, struct host *host);
void connection_dialled(struct broker *b, struct host *host);

/* Logs out the account's idle connections, but not those of key `except` if that is not NULL.
 * (a plain one; those with a fingerprint belong to it). Returns how many there were. */
unsigned connection_close_account(struct broker *b, const struct key *account,
				  const struct key *except, enum counter why);

/* The same with those of one record of proofs.h, whose password or token is another one by now. */
unsigned connection_close_record(struct broker *b, const struct key *account,
				 const struct key *record, const struct key *except);

/* Where an account may be, and as whom it is logged in there; texts as in accounts.h. */
struct account;

/* Logs out the user's (keys_name()) idle connections to other hosts than the account's, or as
 * somebody else; with account NULL, all of them. Returns how many there were. */
unsigned connection_close_misplaced(struct broker *b, const struct key *user,
				    const struct account *account);

/* Logs out so many of the user's idle connections at most, and forgets that their passwords were
 * accepted. Returns how many there were. */
unsigned connection_close_user(struct broker *b, const struct key *user, unsigned most);

/* The same with the account that is known of the user: under other names of it (aliases) others, or
 * he himself, may have made what his login finds. Those in use are not to come back. */
unsigned connection_close_known(struct broker *b, const struct key *user);

/* Logs out so many of the host's idle connections at most, of those that lie there since `until` or
 * longer. Returns how many there were. */
unsigned connection_close_host(struct host *host, unsigned most, int64_t until);

/* A leased connection is not to come back, and that its password was accepted is forgotten. */
void connection_disown(struct connection *c);

/* The same with all of this user's, also those that an errand has. */
void connection_disown_user(const struct key *user);

/* Logs out idle connections that lay too long. */
void connection_expire(struct broker *b);

/* Logs out the oldest idle connections if there are more in all than there may be (cache_size). */
void connection_keep_to_size(struct broker *b);

/* Logs out idle connections to hosts that are spoken to in another way now, after a reload. */
void connection_flush_outdated(struct broker *b);

/* Closes all idle connections. */
void connection_flush(struct broker *b);

#endif
