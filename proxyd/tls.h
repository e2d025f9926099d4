/* TLS with the client, which this process never speaks: tlsrelayd does. It is handed the client's
 * TCP connection and gives back the stream of what is inside, which takes the client's place.
 */
#ifndef PROXYD_TLS_H
#define PROXYD_TLS_H

#include "proxyd/session.h"

/* Hands the client's connection over and waits for the stream inside, until login_timeout at the
 * longest, also when the broker or tlsrelayd dies meanwhile; pushes of the broker are handled. What
 * the client has said before is forgotten (RFC 9051 section 6.2.1). There must be a link to the
 * broker. END_NONE; else s->client is -1. */
enum session_end tls_begin(struct session *s);

/* Is there anything of the client's behind its STARTTLS, which takes s->command_end bytes of s->in?
 * It would have to be thrown away, or could be taken for what came inside of TLS. END_NONE,
 * END_TLS_INJECTED, or another reason to end. */
enum session_end tls_check_silence(struct session *s);

/* May the client begin TLS? */
bool tls_is_offered(const struct session *s);

/* May the client say its password? Not in clear text with require_tls, unless it comes from one of
 * plaintext_addresses. */
bool tls_may_log_in(const struct session *s);

/* Whom the client's certificate names, as tlsrelayd has verified it; empty: it showed none. */
struct span tls_identity(void);

/* The broker is another one, which knows nothing of it. */
void tls_forget_identity(void);

/* The mechanisms (enum sasl_mechanism) that this client is offered: EXTERNAL only with a
 * certificate. */
uint32_t tls_mechanisms(const struct session *s);

/* Appends to the session's log line what is known of its TLS, or why there was none: nothing for a
 * session in clear text. 0 or -ENOBUFS. */
int tls_add_facts(struct buf *line);

#endif
