/* Tags of the proxy's own commands toward a backend: random, so that nothing that a mail contains
 * can forge the end of a barrier. */
#ifndef PROXYD_TAG_H
#define PROXYD_TAG_H

#include "lib/span.h"

struct tag {
	char text[17]; /* "K" and 16 hexadecimal digits of 64 random bits */
};

/* A fresh tag. */
struct tag tag_random(void);

static inline struct span tag_span(const struct tag *t)
{
	return (struct span){ t->text, sizeof(t->text) };
}

/* Is this line the tagged completion of t? *ret is what follows the tag: "OK ...". */
bool tag_completes(const struct tag *t, struct span line, struct span *ret);

#endif
