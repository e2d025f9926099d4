/* Finding a connection for a session: account, cache, a connection on its way back, or a new one.
 *
 *	lease_begin → account (lookup) → cached? (password to be proven again?) → on its way back?
 *	wait 50 ms → room? (in the place of one on its way back? wait 50 ms) → dial
 *
 * An account may have several mail hosts: what is cached is looked for at all of them before one is
 * dialled; they are dialled in order, all within the lease's deadline.
 */
#ifndef CACHEBROKERD_LEASE_H
#define CACHEBROKERD_LEASE_H

#include "cachebrokerd/connection.h"
#include "cachebrokerd/errand.h"
#include "lib/msg.h"
#include "lib/route.h"

struct dial;
struct made;
struct question;
struct recheck;
struct secret;

/* One LEASE being worked on; part of its client. */
struct lease {
	uint32_t serial; /* of the LEASE */
	char user[512], authzid[512], backend_user[512];
	size_t user_length, authzid_length, backend_user_length;
	struct key given; /* the proof of what the client gave */
	struct key name;  /* keys_name() */
	struct key known_as; /* what accounts.h remembers its account under */
	struct key proof, key, account;
	struct key record; /* what proofs.h knows of the key is under this one */
	bool token;	   /* the proof is one, not a password */
	bool verified;	   /* the client is, and has told us no proof */
	struct key habit;  /* who comes, as far as one can tell (habits.h) */
	struct key wanted; /* of connections with the fingerprint that it probably wants, */
	bool wants;	   /* if it wants one */
	bool plain;	   /* only a connection without a fingerprint */
	bool told_plain;   /* the directory is told that it has no TLS, and answers about that */
	bool private;	   /* nobody can listen to the client */
	bool repeats;	   /* it must have the same key as the one before */
	bool promise;	   /* nobody has seen it turn anything on */
	uint64_t client_id;
	uint64_t settings; /* the configuration that the keys belong to */
	uint32_t code;	   /* of lib/codes.h: what the mail host said to its errand */
	struct host *hosts[ROUTE_HOSTS_MOST]; /* that serve the account, in order */
	size_t host_count, host_at;
	struct host *host; /* hosts[host_at], to which the keys belong; NULL: none yet */
	struct question *question;
	int64_t asked_under; /* the broker's settled_at then: another one after a reload */
	struct dial *dial;
	struct secret *secret;	 /* while it may be needed to log in with, or to prove it again */
	struct recheck *recheck; /* while it waits for that */
	enum auth_policy auth;	 /* what was in force when it began */
	bool checked;		 /* the directory judges the password */
	bool by_errand;		 /* an errand logs in for it, with `secret` (the directory's), */
	bool master;		 /* or as the master user (a verified client's: no secret) */
	struct made *login;	 /* and does so now, */
	bool owed;		 /* or an errand is kept free for that, */
	bool awaits_errand;	 /* or it waits for one */
	struct client *errand_previous, *errand_next; /* all that do */
	struct timer *deadline;
	struct timer *patience; /* while it waits for a connection on its way back */
	struct client *next;	/* of those that wait so */
	bool awaits_logout;	/* of this account's idle connections */
	struct client *logout_previous, *logout_next; /* all that do */
	bool awaits_room;	/* in the place of a connection on its way back, */
	bool has_awaited_room;	/* which it does once */
	struct client *room_previous, *room_next; /* all that do */
	bool dialling;				      /* counts as leased */
	bool awaits;
	bool returning;
	struct client *returning_previous,
		*returning_next; /* all clients that are returning a connection */
};

/* Starts to work on a LEASE message; ends in client_lease() or client_refuse(), perhaps at once. */
void lease_begin(struct client *c, const struct msg *m);

/* From here on the lease takes time: all of it together has one deadline, shorter than the
 * session's own. 0 or -errno. */
int lease_start_deadline(struct client *c);

/* Takes a LEASE message down: who comes, who judges that, with which digests. False: the client was
 * refused. */
bool lease_judge(struct client *c, const struct msg *m);

/* An errand will log in for the client. False: it may not have that, and was refused. */
bool lease_let_errand(struct client *c);

/* Makes the proof that its connections are under, as the settings in force want it. 0 or -errno. */
int lease_make_proof(struct client *c);

/* Turns to one of the account's mail hosts: makes the keys. 0 or -errno. */
int lease_turn_to(struct client *c, size_t at);

/* The account's hosts are known: cache, a moment's wait, or a new connection. */
void lease_find(struct client *c);

/* The client is gone or was answered: everything under way for it stops. */
void lease_end(struct client *c);

/* The client's connection is on its way back: from now on logins of the same key wait for it for a
 * moment; and it is not any more (it has come, or its session is gone; calling it for another
 * client is allowed). */
void lease_set_returning(struct client *c);
void lease_unset_returning(struct client *c);

/* Is one of this key on its way back? Or any that could make room for a connection to this host? */
bool lease_is_returning(const struct key *key);
bool lease_room_is_coming(const struct broker *b, const struct host *host);

/* A connection of this key will not come back after all (its session is gone), or has come: those
 * who wait for it, or for the room that it makes, look again. */
void lease_wake(const struct key *key);

/* Hands the client, which waits for a recheck, an idle connection that it wants or a plain one of
 * its key, if there is one. */
bool lease_take(struct client *c);

/* The recheck that the client waited for is over, and was not followed by lease_take(). */
void lease_proven(struct client *c, enum errand_verdict verdict);

/* An errand has ended, or a listener has come: those who wait for one, or for LOGOUT on their
 * account's connections, look again. */
void lease_logged_out(struct broker *b);

/* How long a session may have to wait for the answer to a LEASE, in seconds. */
uint32_t lease_longest(const struct broker *b);

#endif
