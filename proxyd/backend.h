/* Talking IMAP to a backend when no client's bytes are involved: reading responses, logging in. */
#ifndef PROXYD_BACKEND_H
#define PROXYD_BACKEND_H

#include "proxyd/sasl_oauth.h"
#include "proxyd/session.h"
#include "proxyd/tag.h"

/* Bytes of base64 of a mail host's report why it refuses a token; a longer one is left out. */
#define BACKEND_REPORT_MAX 2048

/* Bytes of what a mail host says to the user while he logs in; what is behind that is left out. */
#define BACKEND_NOTICES_MAX 1000

/* Bytes of a mechanism's message, before it is base64. */
#define BACKEND_MESSAGE_MAX (SESSION_SECRET_MAX + 3 * BACKEND_USER_MAX + SASL_OAUTH_EXTRA)

/* Reads the next response, with its literals, into *ret (without its last CRLF), which lives until
 * backend_taken(). 0; -ECONNRESET at the end of the stream; -EMSGSIZE for one too long for the
 * buffer; -ETIMEDOUT; -ECANCELED; -errno. */
int backend_next(struct backend *b, int64_t deadline, struct span *ret);

/* The response that backend_next() returned has been dealt with. */
void backend_taken(struct backend *b);

/* Closes the connection; `polite` says LOGOUT first, without waiting for an answer. */
void backend_close(struct backend *b, bool polite);

/* How a login at the mail host went. */
enum backend_verdict {
	BACKEND_ACCEPTED,
	BACKEND_REFUSED, /* the mail host says that these credentials are wrong or not allowed */
	BACKEND_FAILED,	 /* no verdict: silent, broken, not available, not acceptable */
};

/* What a login is made with. */
struct backend_account {
	const struct credentials *credentials; /* authzid and secret; the name is the backend's */
	struct span id;			       /* arguments of an ID command that goes first */
	struct span preauth;		       /* a command that goes behind it; empty: none */
	struct caller_facts caller;	       /* what the mail host is told of whom it is for */
	uint32_t timeout;		       /* seconds for each step, twice that for all */
	bool utf8;			       /* POP3: its client has said UTF8 (RFC 6856) */
	bool list_can_wait; /* b->capabilities_stale may remain: backend_ask_list() follows */
};

/* What the mail host said. */
struct backend_answer {
	const char *code; /* RFC 5530 code of a refusal: static, "" for none */
	const char *why;  /* for the log */
	bool wrong;	  /* it says that the password itself is wrong, or not allowed any more */
};

/* Reads the greeting of a fresh connection, if it is not gone already (b->greeted; b->capabilities
 * are then what is known of those before login), and logs in; b->capabilities are then those after
 * login, or with list_can_wait those before it (b->capabilities_stale). b->notices is for the
 * client. */
enum backend_verdict backend_log_in(struct backend *b, const struct backend_account *account,
				    struct backend_answer *ret);

/* The same with what the client of this session gave. *ret_code and *ret_why as in the answer. */
enum backend_verdict backend_login(struct session *s, bool list_can_wait, const char **ret_code,
				   const char **ret_why);

/* Reads the greeting, if it is not gone already, and has b->capabilities be those before login:
 * those of the greeting, or asked for, each step within `timeout` seconds. 0 or -errno. */
int backend_greet(struct backend *b, uint32_t timeout);

/* Asks a connection that is logged in for its capability list. 0 or -errno. */
int backend_ask_list(struct session *s);

/* Says a command of an opening (fingerprint.h) and expects the same untagged answer and OK. 0 or
 * -errno. */
int backend_repeat(struct session *s, const struct fingerprint_step *step);

/* Says a command that another connection has refused, and expects that of this one. 0 or -errno. */
int backend_repeat_refused(struct session *s, struct span command);

/* Appends the message of PLAIN or of a token's mechanism, whichever these credentials are for, in
 * base64, and CRLF. 0 or -errno. */
int backend_add_message(const struct backend *b, const struct credentials *c, struct buf *out);

/* Keeps a mail host's report why it refuses a token, "+ base64", for the client, if it is that and
 * not empty: b->challenge. */
void backend_keep_report(struct backend *b, struct span line);

/* Keeps a mail host's refusal, in its own words, for the log. */
void backend_keep_refusal(struct backend *b, struct span status);

/* In words for the log: what an error of backend_next() or io.h means. */
const char *backend_trouble(int error);

/* Proves with NOOP that a cached connection is alive and in step. 0 or -errno. */
int backend_prove(struct session *s);

#endif
