/* Streams with and without TLS, over OpenSSL's non-blocking calls.
 *
 * A write may be taken in part (one record), as send() does; the caller's bytes may have moved when
 * it comes again. WANT_WRITE within a handshake or a read is answered like WANT_READ: what is
 * written then is a few kB on a socket that nothing else has filled, so it does not happen.
 */
#include "bench/stream.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <sys/socket.h>

#include "lib/fd.h"

static SSL_CTX *context;
static bool serves;

static SSL *ssl_of(const struct stream *s)
{
	return (SSL *)s->tls;
}

static int init(const SSL_METHOD *method)
{
	signal(SIGPIPE, SIG_IGN); /* OpenSSL writes with write() */
	context = SSL_CTX_new(method);
	if (!context)
		return -ENOMEM;
	SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
	SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
					  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	return 0;
}

int stream_init_client(void)
{
	return init(TLS_client_method());
}

int stream_init_server(const char *cert_path, const char *key_path)
{
	int r = init(TLS_server_method());

	serves = true;
	if (r == 0 && (SSL_CTX_use_certificate_chain_file(context, cert_path) != 1 ||
		       SSL_CTX_use_PrivateKey_file(context, key_path, SSL_FILETYPE_PEM) != 1)) {
		ERR_print_errors_fp(stderr);
		r = -EINVAL;
	}
	return r;
}

int stream_start_tls(struct stream *s)
{
	SSL *ssl = SSL_new(context);

	if (!ssl || SSL_set_fd(ssl, s->fd) != 1) {
		SSL_free(ssl);
		return -ENOMEM;
	}
	if (serves)
		SSL_set_accept_state(ssl);
	else
		SSL_set_connect_state(ssl);
	s->tls = (struct stream_tls *)ssl;
	return 0;
}

/* What a call that returned r <= 0 means: 0 for the peer's close_notify, or -errno. */
static int outcome(SSL *ssl, int r)
{
	switch (SSL_get_error(ssl, r)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	case SSL_ERROR_SYSCALL:
		return -ECONNRESET;
	default:
		return -EPROTO;
	}
}

int stream_handshake(struct stream *s)
{
	if (!s->tls || SSL_is_init_finished(ssl_of(s)))
		return 0;
	ERR_clear_error();
	int r = SSL_do_handshake(ssl_of(s));

	if (r == 1)
		return 0;
	r = outcome(ssl_of(s), r);
	return r == 0 ? -EPROTO : r;
}

static int at_most_int(size_t n)
{
	return n < INT_MAX ? (int)n : INT_MAX;
}

ssize_t stream_recv(struct stream *s, void *to, size_t room)
{
	if (!s->tls) {
		ssize_t n = recv(s->fd, to, room, 0);

		return n < 0 ? -errno : n;
	}
	ERR_clear_error();
	int r = SSL_read(ssl_of(s), to, at_most_int(room));

	return r > 0 ? r : outcome(ssl_of(s), r);
}

ssize_t stream_send(struct stream *s, const void *from, size_t n)
{
	if (!s->tls) {
		ssize_t sent = send(s->fd, from, n, MSG_NOSIGNAL);

		return sent < 0 ? -errno : sent;
	}
	ERR_clear_error();
	int r = SSL_write(ssl_of(s), from, at_most_int(n));

	if (r > 0)
		return r;
	r = outcome(ssl_of(s), r);
	return r == 0 ? -EPIPE : r;
}

bool stream_has_more(const struct stream *s)
{
	return s->tls && SSL_pending(ssl_of(s)) > 0;
}

void stream_close(struct stream *s)
{
	if (s->tls) {
		ERR_clear_error();
		if (SSL_is_init_finished(ssl_of(s)))
			(void)SSL_shutdown(ssl_of(s));
		SSL_free(ssl_of(s));
		s->tls = NULL;
	}
	fd_drop(&s->fd);
}
