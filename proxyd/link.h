/* A session's link to the broker: one SOCK_SEQPACKET connection, made through the listener's door
 * or by connecting to the session socket (docs/PROTOCOL.md).
 */
#ifndef PROXYD_LINK_H
#define PROXYD_LINK_H

#include "lib/ends.h"
#include "lib/msg.h"

/* WELCOME came as a push: its texts live until this returns. */
typedef void link_settings_fn(void *context, const struct msg_WELCOME *settings);

/* TRACE came: the socket is the callee's. */
typedef void link_trace_fn(void *context, int sock);

/* TLS_BEGUN came: the stream is the callee's. */
typedef void link_stream_fn(void *context, int stream);

struct link {
	int sock;	     /* -1: no broker at the moment */
	int door;	     /* -1: none */
	int client;	     /* whose reset ends a wait for a reply; -1: nobody's */
	bool takes_door;     /* the broker may give it one: it is not in the jail yet */
	uint32_t serial;     /* of the last request */
	bool ended;	     /* the broker told this session to end, */
	uint32_t end_reason; /* for this reason of enum session_end, */
	char end_text[201];  /* with this text for the client */
	link_settings_fn *take_settings;
	link_trace_fn *take_trace;
	link_stream_fn *take_stream; /* NULL: none is expected */
	void *context;
};

/* Why a session ends that was refused at the door or at HELLO, for this reason of enum msg_refusal.
 */
enum session_end link_end_of(uint32_t reason);

/* Meets the broker: a socket pair whose other end goes through the door with the message KNOCK.
 * Waits until the deadline for room in the door. The broker may answer with a push of WELCOME or
 * REFUSED. 0; -EPIPE when nobody holds the door's other end any more: there will never be a broker;
 * -errno. */
int link_knock(struct link *l, const struct msg *knock, int64_t deadline);

/* Sends a request and waits for its reply, whose texts live until the next call. *ret_fd is its
 * descriptor (the caller's) or -1. A broker that is restarted meanwhile is asked once more. Late
 * replies to earlier requests are dropped with their descriptors. 0; -ECONNRESET or -EPIPE when the
 * broker is gone; -ETIMEDOUT; -ECANCELED, also when the broker told this session to end; -ENOTCONN
 * when l->client has been reset, so that the reply is nobody's. */
int link_request(struct link *l, struct msg *request, struct msg *reply, int *ret_fd,
		 int64_t deadline);

/* The same for a request that carries fd, said once: a restarted broker is not asked again. */
int link_hand_over(struct link *l, struct msg *request, int fd, struct msg *reply, int *ret_fd,
		   int64_t deadline);

/* Sends a message that has no reply, with fd if it carries one: for that the kernel is waited for,
 * 2 s at most. 0 or -errno. */
int link_push(struct link *l, struct msg *m, int fd);

/* The link is readable: takes what the broker pushed. 0; -ECONNRESET when it is gone (the link is
 * closed). */
int link_take_pushes(struct link *l);

/* Gives memory back to the kernel before a long wait. */
void link_release(void);

void link_close(struct link *l);

#endif
