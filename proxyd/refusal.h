/* A login that failed: the log line, and what the client is told. */
#ifndef PROXYD_REFUSAL_H
#define PROXYD_REFUSAL_H

#include "proxyd/oldlog.h"
#include "proxyd/session.h"

/* How a login failed. Texts are borrowed for the call. */
struct refusal {
	const char *code; /* of RFC 5530; empty: none */
	struct span why;  /* for the log */
	enum oldlog line; /* what the old program's log said of it, */
	struct span more; /* and its end; empty: why */
};

/* Logs it, passes on the mail host's report about a token, if there is one, and gives the client
 * its tagged NO. LOGIN_REFUSED, or LOGIN_OVER with the reason in *ret_end. */
enum login_result refusal_tell(struct session *s, struct span tag, const struct refusal *f,
			       enum session_end *ret_end);

/* The same where the broker gave no lease. */
enum login_result refusal_tell_refused(struct session *s, struct span tag,
				       const struct msg_REFUSED *refused,
				       enum session_end *ret_end);

/* The same for this reason (of enum msg_refusal). */
enum login_result refusal_tell_reason(struct session *s, struct span tag, uint32_t reason,
				      struct span why, enum session_end *ret_end);

/* The same for a client that was challenged and not verified: the credentials say why. */
enum login_result refusal_tell_verdict(struct session *s, struct span tag,
				       enum session_end *ret_end);

/* Who wants to log in, as the client said it. Borrows s. */
struct span session_claimed_user(const struct session *s);

#endif
