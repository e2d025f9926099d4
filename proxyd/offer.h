/* A cached connection with a fingerprint that is offered to a client: it has its OK, but the
 * connection is not its own until it has turned the same things on. Pure.
 *
 * What belongs to the opening is answered here, with the words that a fresh connection got. What
 * nobody can tell the fingerprint by is passed on. Anything else takes the connection away: it goes
 * back untouched, and another one is taken instead (login_exchange()).
 */
#ifndef PROXYD_OFFER_H
#define PROXYD_OFFER_H

#include "proxyd/fingerprint.h"

/* A longer tag is not answered here. */
#define OFFER_TAG 255

struct offer {
	bool open;	   /* the connection is only offered */
	size_t answered;   /* of the opening: so many bytes were answered here */
	size_t asked_length; /* of the command that is under way, */
	char asked[FINGERPRINT_LINE]; /* whose OK turns on what is missing */
	size_t text_length, opening_length;
	char text[FINGERPRINT_MAX];
	char opening[FINGERPRINT_OPEN];
};

enum offer_verdict {
	OFFER_PASS,    /* nobody can tell: pass it on */
	OFFER_ENABLES, /* the same, and its OK turns on what alone is missing */
	OFFER_ANSWER,  /* the opening's next command: *ret_step is its answer */
	OFFER_SWAP,    /* the connection must not see it */
};

/* Begins with what the broker says of the connection. 0 or -EINVAL: it cannot be offered. */
int offer_begin(struct offer *o, struct span text, struct span opening);

/* Judges a command's line (without its end) while nothing else is under way. */
enum offer_verdict offer_judge(const struct offer *o, struct span line,
			       struct fingerprint_step *ret_step);

/* This line, which OFFER_ENABLES, is passed on. */
void offer_ask(struct offer *o, struct span line);

/* That command, without its tag; empty: none. Refused, it has to be refused once more on a plain
 * connection: mail hosts differ in whether it has turned something on nevertheless. */
static inline struct span offer_asked(const struct offer *o)
{
	return (struct span){ o->asked, o->asked_length };
}

/* The answer of the opening's next command has been given to the client. */
void offer_answered(struct offer *o);

/* Has the client turned everything on that is on? Then the connection is its own. */
bool offer_is_taken(const struct offer *o);

/* What was answered so far. */
struct span offer_answers(const struct offer *o);

#endif
