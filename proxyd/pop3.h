/* POP3 (RFC 1939, 2449, 2595, 5034): the steps of a session, in the place of IMAP's.
 *
 * pop3.c is the dialogue before login, pop3_login.c the login at the mail host, pop3_relay.c what
 * comes behind it. A connection of POP3 serves one session: the mail host deletes what is to be
 * deleted when it ends.
 */
#ifndef PROXYD_POP3_H
#define PROXYD_POP3_H

#include "proxyd/session.h"

/* Greets the client: with APOP's challenge, if that is offered, which only the broker can make. */
enum session_end pop3_greet(struct session *s);
bool pop3_greets_by_broker(const struct session *s);

/* The dialogue until a login succeeded: END_NONE, then s->backend is ready and the client has its
 * +OK. */
enum session_end pop3_run(struct session *s);

/* Tries the credentials on a connection that is dialled for them. The client gets its answer. The
 * credentials are wiped. LOGIN_OVER: *ret_end says why the session ends. */
enum login_result pop3_login_try(struct session *s, enum session_end *ret_end);

/* Appends the client's answer to a login that failed with this code of RFC 5530, or with "" for
 * none. 0 or -ENOBUFS. */
int pop3_add_refusal(struct buf *out, const char *code);

/* Passes on bytes, both ways, until both ends have had all that was on its way. */
enum session_end pop3_relay(struct session *s);

#endif
