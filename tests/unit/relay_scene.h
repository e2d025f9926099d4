/* One connection of tlsrelayd between a peer, which is OpenSSL over a socket pair, and a plain
 * end. */
#ifndef TESTS_UNIT_RELAY_SCENE_H
#define TESTS_UNIT_RELAY_SCENE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "lib/fd.h"
#include "tlsrelayd/relay.h"

static SSL_CTX *server, *client;

struct scene {
	struct relay relay;
	struct errors_text failure;
	SSL *peer;
	int tcp, plain; /* the other ends */
};

static inline int make_contexts(void **state)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();

	(void)state;
	X509_gmtime_adj(X509_getm_notBefore(cert), -60);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_set_pubkey(cert, key);
	X509_sign(cert, key, EVP_sha256());
	server = SSL_CTX_new(TLS_server_method());
	SSL_CTX_set_options(server, SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_mode(server,
			 SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	client = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_mode(client,
			 SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	int good = SSL_CTX_use_certificate(server, cert) == 1 &&
		   SSL_CTX_use_PrivateKey(server, key) == 1;

	X509_free(cert);
	EVP_PKEY_free(key);
	return good && bio_setup() == 0 ? 0 : -1;
}

static inline int free_contexts(void **state)
{
	(void)state;
	SSL_CTX_free(server);
	SSL_CTX_free(client);
	return 0;
}

static inline void begin(struct scene *s)
{
	int tcp[2], plain[2];
	SSL *ssl = SSL_new(server);

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, tcp), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, plain), 0);
	SSL_set_accept_state(ssl);
	assert_int_equal(relay_init(&s->relay, ssl, tcp[0], plain[0], "peer", true, false, 0), 0);
	s->tcp = tcp[1];
	s->plain = plain[1];
	assert_int_equal(send(s->plain, &(char){ TLS_LET_GO }, 1, 0), 1);
	s->peer = SSL_new(client);
	SSL_set_fd(s->peer, s->tcp);
	SSL_set_connect_state(s->peer);
}

static inline enum relay_news step(struct scene *s)
{
	return relay_step(&s->relay, 0, 0, &s->failure);
}

static inline void shake_hands(struct scene *s)
{
	enum relay_news news = RELAY_NOTHING;

	begin(s);
	for (int i = 0; i < 20 && news == RELAY_NOTHING; i++) {
		(void)SSL_do_handshake(s->peer);
		news = step(s);
	}
	assert_int_equal(news, RELAY_READY);
}

static inline void end(struct scene *s)
{
	relay_wipe(&s->relay);
	SSL_free(s->peer);
	fd_drop(&s->tcp);
	fd_drop(&s->plain);
}

/* Byte number n of a stream that does not repeat itself soon. */
static inline char byte_of(size_t n)
{
	return (char)(n * 31 + (n >> 8) * 7 + (n >> 16));
}

#endif
