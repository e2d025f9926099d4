/* Which certificate is for which name: the names in them, wildcards too. Pure. */
#ifndef TLSRELAYD_NAMES_H
#define TLSRELAYD_NAMES_H

#include "lib/span.h"

struct names;

/* An empty table, or NULL. */
struct names *names_new(void);
void names_free(struct names *n);

/* Certificate number `which` has this name (as in its subjectAltName). A name that an earlier one
 * has stays the earlier one's. One that is no host name is left out. Returns 0 or -ENOMEM. */
int names_add(struct names *n, struct span name, size_t which);

/* The certificate for this name, letters in any case, a dot at its end ignored; a full name goes
 * before a wildcard, which stands for exactly one label (RFC 6125 section 6.4.3). 0 when none has
 * it. */
size_t names_find(const struct names *n, struct span name);

#endif
