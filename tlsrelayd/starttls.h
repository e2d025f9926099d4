/* What is said in plain text before TLS with a mail host: its greeting, our STARTTLS (RFC 9051
 * section 6.2.1) or STLS (RFC 2595 section 4), its answer. Pure. */
#ifndef TLSRELAYD_STARTTLS_H
#define TLSRELAYD_STARTTLS_H

#include "lib/span.h"

#define STARTTLS_LINE_MAX  2048
#define STARTTLS_LINES_MAX 50 /* untagged ones, together */

struct starttls {
	bool pop3;  /* it is spoken in POP3, else in IMAP */
	bool asked; /* the command was given out */
	unsigned lines;
	size_t length;
	char line[STARTTLS_LINE_MAX];
};

enum starttls_verdict {
	STARTTLS_MORE,	   /* read on */
	STARTTLS_ASK,	   /* send starttls_command(), then read on */
	STARTTLS_BEGIN,	   /* TLS begins with the next byte */
	STARTTLS_REFUSED,  /* `line` says why */
	STARTTLS_PREAUTH,  /* logged in already: TLS is not possible any more */
	STARTTLS_INJECTED, /* there is more than the answer, or an answer to nothing */
	STARTTLS_NONSENSE, /* this is no mail host of this kind, or it says too much */
};

/* The command, with its line end. */
struct span starttls_command(const struct starttls *s);

/* Takes what was received. The line that decided is line[0 .. length) then, without its end. */
enum starttls_verdict starttls_take(struct starttls *s, struct span received);

#endif
