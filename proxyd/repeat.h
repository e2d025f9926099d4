/* What was sent on a reused connection before its first response: if it dies before that, may the
 * same be sent again on another one? Pure.
 *
 * Only whole commands without literals, and only verbs that change nothing (verbs.h): whether the
 * mail host had carried the first ones out is not known.
 */
#ifndef PROXYD_REPEAT_H
#define PROXYD_REPEAT_H

#include "lib/span.h"

#define REPEAT_MOST 1024 /* bytes of commands; more are not repeated */

struct repeat {
	bool armed;
	size_t length;
	char sent[REPEAT_MOST];
};

/* A session begins; on a fresh connection there is nothing to repeat (armed: false). */
void repeat_begin(struct repeat *r, bool armed);

/* These bytes were sent. Returns whether all so far may still be repeated; once it is not, never
 * again. */
bool repeat_note(struct repeat *r, struct span bytes);

/* What was sent. */
static inline struct span repeat_sent(const struct repeat *r)
{
	return (struct span){ r->sent, r->length };
}

#endif
