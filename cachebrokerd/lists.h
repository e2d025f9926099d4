/* Capability lists after login, for logins on new connections. Pure.
 *
 * A list is remembered under a connection's key (account and proof), not under its mail host: lists
 * differ by account, and what a session says of one concerns only who could have said the same. It
 * is told to a client before the mail host has been asked, and put right by its answer, so nothing
 * here has to be true. A table of fixed size; a newer key takes the place of an older one.
 */
#ifndef CACHEBROKERD_LISTS_H
#define CACHEBROKERD_LISTS_H

#include "cachebrokerd/keys.h"

#define LISTS_SLOTS    4096
#define LISTS_DISTINCT 64 /* lists that are kept once for all that have them */

struct lists;

/* NULL: no memory. */
struct lists *lists_new(void);
void lists_free(struct lists *l);

/* What connections of this key were last said to have. Empty: not known. Lives until the next
 * call of lists_note(). */
struct span lists_find(const struct lists *l, const struct key *key);

/* This is the list of a connection of this key. Without memory it is just not remembered. */
void lists_note(struct lists *l, const struct key *key, struct span text);

#endif
