/* SASL with a client: the mechanisms' messages, as IMAP and POP3 carry them alike: a prompt
 * "+ base64", then a line of base64 (RFC 9051 section 6.2.2, RFC 5034 section 4).
 */
#ifndef PROXYD_SASL_CLIENT_H
#define PROXYD_SASL_CLIENT_H

#include "proxyd/session.h"

struct sasl_client;

/* The offered mechanism of this name, in any case; the credentials to come are of its kind. NULL:
 * none. */
const struct sasl_client *sasl_client_find(struct session *s, struct span name);

/* Begins an exchange with the initial response, if there is one ("=" for an empty one), which may
 * still stand in s->in. 0; -ECANCELED when the client cancels; -ENODATA for a token without a user
 * name; -ENOBUFS for what is too long; -EINVAL. */
int sasl_client_begin(struct session *s, const struct sasl_client *m, struct span initial,
		      bool has_initial);

/* Asks for the messages that are still to come, until the deadline. END_NONE with the result in
 * *ret, as above, or why the session ends. Whatever it is: the caller wipes the credentials. */
enum session_end sasl_client_go_on(struct session *s, const struct sasl_client *m,
				   bool has_initial, int64_t deadline, int *ret);

/* Takes a client's message, without base64. 0, or -errno as above. */
typedef int sasl_client_take_fn(struct span message, struct credentials *to);

/* Asks for one message with this line and takes it: *ret is what take said, -ECANCELED, or -EINVAL
 * for what is no base64 or a line that is too long, which is skipped. */
enum session_end sasl_client_ask(struct session *s, struct span prompt, sasl_client_take_fn *take,
				 int64_t deadline, int *ret);

/* So many bytes of to->secret may have been written. */
void sasl_client_note_secret(struct credentials *to, size_t n);

#endif
