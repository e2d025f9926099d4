/* A session's process, as the broker sees it. */
#ifndef CACHEBROKERD_CLIENT_H
#define CACHEBROKERD_CLIENT_H

#include "cachebrokerd/admin.h"
#include "cachebrokerd/caller.h"
#include "cachebrokerd/lease.h"
#include "cachebrokerd/peer.h"
#include "cachebrokerd/tries.h"

/* Its states, in the order of a session; which message may come in which stands in client.c's
 * table. */
enum client_state {
	CLIENT_NEW = 1,	       /* has not said HELLO, or was refused */
	CLIENT_READY = 2,      /* may ask for a lease */
	CLIENT_WAITING = 4,    /* its LEASE is being worked on */
	CLIENT_LEASED = 8,     /* has a connection */
	CLIENT_RETURNING = 16, /* is bringing it back */
	CLIENT_DONE = 32,      /* has had its connection: no further one */
	CLIENT_SECURING = 64,  /* between new and ready: tlsrelayd does its TLS_ACCEPT */
	CLIENT_CHALLENGED = 128, /* a look-up worker has its AUTH_STEP */
	CLIENT_ANNOUNCING = 256, /* behind new: reads a PROXY header, and says HELLO again */
};

struct client {
	struct peer *peer;
	struct broker *broker;
	struct client *previous, *next;		      /* all clients */
	struct client *silent_previous, *silent_next; /* in state new */
	enum client_state state;
	uint64_t id;
	int64_t since; /* monotonic ms: it came in */
	uint32_t service;
	char address[80]; /* "192.0.2.1:4711", for people */
	char origin[65];  /* "192.0.2.1": a part of who it is (habits.h) */
	struct caller connected; /* the same, with its ports and our end */
	struct caller caller;	 /* for whom its lease is: itself, or whom it serves */
	struct tries_visit visit;
	unsigned leases; /* asked for, also over earlier sockets of its process */
	bool bound;	 /* has had a lease of this account: no other any more */
	struct key bound_to;
	bool accepted;	/* its connection is logged in */
	bool swapped;	/* it has returned an offered connection: it is offered no other */
	bool refused;	/* there was no room for it */
	bool limited;	/* the mail host had too many connections of its user */
	bool made_room; /* and some idle ones were closed for it */
	bool made_again;  /* a login by errand for it, since the errand was lost */
	bool spare_died;  /* it was leased a spare connection that was dead, */
	bool must_repeat; /* and its next LEASE must be for this key */
	struct key repeated;
	bool orphan;	/* has a connection that a broker before us leased */
	bool knocked;	/* came through a door, not by the session socket */
	bool counted;	/* its TALLY came */
	bool joined;	/* it is counted for max_per_ip, with its service and origin */
	uint64_t kicked_by; /* the last order that ended it */
	unsigned lines; /* it had logged here */
	bool traced;	/* it has been sent a socket of the protocol log */
	bool tls_asked;	/* it has had its TLS_ACCEPT, */
	bool tls_begun;	/* and may have let go of its client's connection, */
	uint32_t tls_serial; /* of this serial, */
	struct tls_request *handshake; /* which is under way */
	char *tls; /* version, cipher and name of its TLS; NULL: none that we know of */
	char *identity; /* whom its verified certificate names, in tlsrelayd's words; or NULL */
	int64_t identity_of; /* the broker's settled_at then: another one after a reload */
	struct challenge *challenge; /* the last one (client_challenge.h); NULL: there was none */
	struct admin_caller admin;
	struct lease lease;
	struct connection *connection; /* leased */
};

/* The role of sessions, for peer_listen() and the door. */
extern const struct peer_kind client_peer_kind;
void client_peer_new(struct peer *p);

/* A socket that process pid brought through a door with what it says of itself; it is taken over in
 * any case. A process has one at a time: a further one is closed. What it has used of
 * login_attempts stays used. */
void client_knock(struct broker *b, int fd, pid_t pid, const struct msg_KNOCK *knock);

/* Sends the settings. 0 or -errno. */
int client_welcome(struct peer *p, uint32_t serial, uint64_t session);

/* The lease that the client waits for is there: hands the connection out; fd is closed here. */
void client_lease(struct client *c, struct connection *connection, int fd, int64_t idle_ms);

/* There is none. The client is told lease.code, if that is set. */
void client_refuse(struct client *c, enum msg_refusal reason, const char *text);

/* Nothing can be said yet: the same LEASE comes once more, and is the same attempt. */
void client_ask_again(struct client *c);

/* Cuts off peers that have not introduced themselves, or have been refused, for ten seconds. */
void client_cut_off_silent(struct broker *b);

/* Tells the client to end its session. */
void client_end(struct client *c, enum session_end reason, const char *text);

#endif
