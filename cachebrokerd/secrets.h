/* The passwords that the broker must keep for a moment: from a LEASE until an errand or lookupd has
 * it, or until it is clear that none needs it.
 *
 * They stand in memory of their own, which is in no core dump and, where the system lets us, never
 * swapped out, and are overwritten when they are let go. Nothing else may copy them.
 */
#ifndef CACHEBROKERD_SECRETS_H
#define CACHEBROKERD_SECRETS_H

#include "lib/span.h"

/* So many at once. */
#define SECRETS_MOST 1024

struct secret;

/* Keeps a copy. NULL: there is no place, or the memory cannot be had with those properties. */
struct secret *secret_keep(struct span value);

/* Its bytes, which live as long as it. */
struct span secret_span(const struct secret *s);

/* Overwrites it and frees its place; *s becomes NULL. NULL is allowed. */
void secret_wipe(struct secret **s);

#endif
