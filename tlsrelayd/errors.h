/* What went wrong with a handshake, in a sentence for people that names the setting. */
#ifndef TLSRELAYD_ERRORS_H
#define TLSRELAYD_ERRORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/msg.h"

struct ssl_st;
struct x509_store_ctx_st;

#define ERRORS_TEXT_MAX 300 /* as in TLS_FAILED, without the NUL */

struct errors_text {
	enum msg_tls_failure reason;
	char text[ERRORS_TEXT_MAX + 1];
};

/* Appends to "peer: " in *ret, cut where it is full; foreign bytes become '?'. */
void errors_say(struct errors_text *ret, const char *peer, enum msg_tls_failure reason,
		const char *sentence);

/* OpenSSL's callback for verification (SSL_CTX_set_verify(3)): takes note of what is refused, for
 * the errors_of_handshake() that follows; it changes nothing. */
int errors_on_verify(int good, struct x509_store_ctx_st *store);

/* The handshake with the mail host `peer` (is_client: the client) has failed: `ended` says that the
 * peer ended the connection, `error` is the errno of the connection or 0. Looks at OpenSSL's queue
 * of errors and empties it. */
void errors_of_handshake(struct ssl_st *ssl, const char *peer, uint32_t port, bool is_client,
			 bool ended, int error, struct errors_text *ret);

/* The same of a connection that was open: false when there is nothing to say but that it broke. */
bool errors_of_stream(const char *peer, uint32_t port, bool is_client, struct errors_text *ret);

#endif
