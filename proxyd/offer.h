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
	bool enabling;	   /* a command is under way whose OK turns on what is missing */
	size_t answered;   /* of the opening: so many bytes were answered here */
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

/* The answer of the opening's next command has been given to the client. */
void offer_answered(struct offer *o);

/* Has the client turned everything on that is on? Then the connection is its own. */
bool offer_is_taken(const struct offer *o);

/* What was answered so far. */
struct span offer_answers(const struct offer *o);

#endif
