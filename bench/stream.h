/* A non-blocking socket, with or without TLS: what the programs of the bench read and write. */
#ifndef BENCH_STREAM_H
#define BENCH_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct stream_tls;

struct stream {
	int fd;
	struct stream_tls *tls; /* NULL: none */
};

/* Makes what every TLS stream of this process needs. A client verifies nothing and resumes nothing:
 * each webmail session is a new process at its end. -EINVAL, reason on standard error. */
int stream_init_client(void);
int stream_init_server(const char *cert_path, const char *key_path);

/* From now on the stream speaks TLS; its handshake goes with stream_handshake(). 0 or -ENOMEM. */
int stream_start_tls(struct stream *s);

/* Goes on with the handshake. 0: it is done, or there is no TLS; -EAGAIN: wait; -EPROTO. */
int stream_handshake(struct stream *s);

/* As recv() and send(), but -errno instead of -1 and errno. After the peer's close_notify: 0. A
 * send that was answered with -EAGAIN must come again with the same bytes. */
ssize_t stream_recv(struct stream *s, void *to, size_t room);
ssize_t stream_send(struct stream *s, const void *from, size_t n);

/* Whether bytes that the next stream_recv() brings have left the socket already: no poll tells. */
bool stream_has_more(const struct stream *s);

/* Says close_notify where there is TLS, closes and forgets the socket. */
void stream_close(struct stream *s);

#endif
