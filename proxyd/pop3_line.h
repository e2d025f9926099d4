/* Lines of POP3: a server's answers and their response codes, and whether a client has said QUIT.
 * Pure.
 *
 * Inside, a login's failure has a code of RFC 5530, as with IMAP; here are the codes of POP3 for
 * them (RFC 2449 section 8, RFC 3206).
 */
#ifndef PROXYD_POP3_LINE_H
#define PROXYD_POP3_LINE_H

#include "lib/buf.h"

enum pop3_status {
	POP3_OK,
	POP3_ERR,
	POP3_MORE,     /* "+ ", in a SASL exchange */
	POP3_NONSENSE, /* this is no POP3 */
};

/* What the answer says; *ret_code is its response code, without brackets, or empty. */
enum pop3_status pop3_status_of(struct span line, struct span *ret_code);

/* The code inside for a mail host's, static, "" for one that says nothing to us. *ret_refused: with
 * it the mail host says that these credentials are wrong or not allowed; else that it cannot judge
 * them now. Without a code they are wrong, as far as anybody can tell. */
const char *pop3_code_heard(struct span code, bool *ret_refused);

/* The code for the client for one from inside, static, "" for none. */
const char *pop3_code_told(struct span code);

/* Appends a text for people that may begin with "[CODE] " of RFC 5530, with POP3's code in its
 * place. 0 or -ENOBUFS. */
int pop3_add_text(struct buf *out, struct span text);

/* May it stand in a line? Not with CR, LF or NUL in it. */
bool pop3_is_one_line(struct span text);

/* Can every server be told it with USER or PASS? Not if it is empty, or has blanks where a server
 * may cut them off. */
bool pop3_is_plain(struct span text);

/* Which command the client has said last, as far as it matters: after QUIT an end is in order. */
struct pop3_quit {
	size_t length;	/* of the line, so far */
	char head[4];	/* its first bytes */
	bool said;	/* the last whole line was QUIT */
};

void pop3_quit_follow(struct pop3_quit *q, struct span bytes);

#endif
