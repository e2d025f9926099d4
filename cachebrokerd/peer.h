/* A peer: one of the broker's local connections. Its role is the socket it came in by; only
 * messages of that role are decoded; a bad one ends the peer, never the broker.
 */
#ifndef CACHEBROKERD_PEER_H
#define CACHEBROKERD_PEER_H

#include "cachebrokerd/broker.h"
#include "lib/msg.h"

struct peer;

/* A message came: m's texts live until the call returns. *fd is its descriptor or -1: take it with
 * take_fd(), else it is closed. Returns 0, or -errno for what this peer must not send now: it is
 * cut off. */
typedef int peer_message_fn(struct peer *p, const struct msg *m, int *fd);

/* The peer is gone or was cut off; p is freed later, its socket is closed already. */
typedef void peer_gone_fn(struct peer *p);

struct peer_kind {
	enum msg_role role;
	peer_message_fn *message;
	peer_gone_fn *gone;
};

struct peer {
	struct broker *broker;
	const struct peer_kind *kind;
	void *owner;	   /* the kind's */
	struct peer *next; /* the kind's */
	struct watch *watch;
	int fd;
	bool ended;
};

/* A peer over a connected socket, which is taken over in any case. 0 with *ret, or -errno. */
int peer_new(struct broker *b, int fd, const struct peer_kind *kind, struct peer **ret);

/* Sends a message, with descriptor fd if it carries one (it stays the caller's). A peer that does
 * not read is cut off. 0 or -errno. */
int peer_send(struct peer *p, const struct msg *m, int fd);

/* Cuts the peer off: calls gone() at once; the memory goes later. */
void peer_end(struct peer *p);

/* Are so many peers here that no further one may come in? */
bool peer_house_is_full(const struct broker *b);

/* Closes all sockets of peer_listen() for good. Whoever has connected and was not let in is cut
 * off.
 */
void peer_stop_listening(void);

/* Lets no further peer of this kind in: those who connect wait for our successor. */
void peer_hold_gate(const struct peer_kind *kind);

/* That is over: they come again. 0 or -errno. */
int peer_release_gate(const struct peer_kind *kind);

/* A peer whose watch was ended is heard again. */
void peer_release(struct peer *p);

/* Lets peers in again where peer_listen() had stopped because of that. Call it now and then. */
void peer_reopen(void);

/* Accepts peers of this kind from a listening socket for good. on_new is called for each. 0 or
 * -errno. */
typedef void peer_new_fn(struct peer *p);
int peer_listen(struct broker *b, int listening, const struct peer_kind *kind, peer_new_fn *on_new);

#endif
