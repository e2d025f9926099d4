/* A session's link to the broker: one SOCK_SEQPACKET connection, made through the listener's door
 * or by connecting to the session socket (docs/PROTOCOL.md).
 */
#ifndef PROXYD_LINK_H
#define PROXYD_LINK_H

#include "lib/msg.h"

struct link {
	int sock;	     /* -1: no broker at the moment */
	int door;	     /* -1: none, the socket was connected before the session began */
	uint32_t serial;     /* of the last request */
	bool ended;	     /* the broker told this session to end, */
	uint32_t end_reason; /* for this reason of enum session_end, */
	char end_text[201];  /* with this text for the client */
};

/* Meets the broker: a socket pair whose other end goes through the door. Waits until the deadline
 * for room in the door. 0; -EPIPE when nobody holds the door's other end any more: there will
 * never be a broker; -errno. */
int link_open_by_door(struct link *l, int door, int64_t deadline);

/* Takes a socket that is connected to the broker's session socket already. */
void link_open_connected(struct link *l, int sock);

/* Sends a request and waits for its reply, whose texts live until the next call. *ret_fd is its
 * descriptor (the caller's) or -1. Late replies to earlier requests are dropped with their
 * descriptors. 0; -ECONNRESET or -EPIPE when the broker is gone; -ETIMEDOUT; -ECANCELED. */
int link_request(struct link *l, struct msg *request, struct msg *reply, int *ret_fd,
		 int64_t deadline);

/* Sends a request and does not wait: its reply is dropped when it comes, but for a REFUSED, which
 * ends the session. 0 or -errno. */
int link_ask(struct link *l, struct msg *request);

/* Sends a message that has no reply, with fd if it carries one. 0 or -errno. */
int link_push(struct link *l, struct msg *m, int fd);

/* The link is readable: takes what the broker pushed. 0; -ECONNRESET when it is gone (the link is
 * closed). */
int link_take_pushes(struct link *l);

void link_close(struct link *l);

#endif
