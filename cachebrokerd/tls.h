/* TLS by tlsrelayd: requests that it shall do a handshake on a TCP connection and give back the
 * stream of what is inside.
 *
 * One tlsrelayd at a time gets new requests, the one that introduced itself last; another one, that
 * a restart leaves behind for a while, still answers what it was asked.
 */
#ifndef CACHEBROKERD_TLS_H
#define CACHEBROKERD_TLS_H

#include "cachebrokerd/peer.h"

struct tls_request;

/* TLS_BEGUN first, for a client: *fd is the stream already. Then the answer: TLS_READY, and *fd is
 * the stream (non-blocking; take it with take_fd(), else it is closed); or TLS_FAILED, perhaps one
 * of our own; its texts are printable and live until the call returns. NULL: tlsrelayd died over
 * the request, which may go well with the next one. */
typedef void tls_done_fn(void *context, const struct msg *answer, int *fd);

/* 0 or -errno. */
int tls_new(struct broker *b, struct tls **ret);
void tls_free(struct tls *t);

/* The role of tlsrelayd, for peer_listen(). */
extern const struct peer_kind tls_peer_kind;
void tls_peer_new(struct peer *p);

/* Asks (TLS_ACCEPT or TLS_CONNECT; its text is copied) for TLS on the connection *fd, which is
 * taken over on success. When no tlsrelayd is there, the request waits for it for 2 seconds. done
 * is called once with the answer, never before this returns. 0; -EAGAIN for too many requests;
 * -errno. */
int tls_ask(struct broker *b, const struct msg *m, int *fd, tls_done_fn *done, void *context,
	    struct tls_request **ret);

/* Nobody waits for the answer any more: done is not called, a stream that comes late is closed.
 * NULL is allowed; *r becomes NULL. */
void tls_forget(struct tls_request **r);

/* The longest time that a request may take, in seconds. */
uint32_t tls_longest(const struct broker *b);

/* Can clients have TLS? tlsrelayd has said so, and was seen a moment ago. A change is told to the
 * listeners like new settings. */
bool tls_serves(const struct broker *b);

#endif
