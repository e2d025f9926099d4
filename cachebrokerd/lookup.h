/* Questions to lookupd: which mail host serves an account, which addresses a host has.
 *
 * Its workers are peers that each answer one question at a time; questions wait in line for a free
 * one.
 */
#ifndef CACHEBROKERD_LOOKUP_H
#define CACHEBROKERD_LOOKUP_H

#include "cachebrokerd/peer.h"

struct question;

/* The answer, whose texts live until the call returns; NULL: there is none (no worker in time). */
typedef void answer_fn(void *context, const struct msg *answer);

/* 0 or -errno. */
int lookup_new(struct broker *b, struct lookup **ret);
void lookup_free(struct lookup *l);

/* The role of lookupd's workers, for peer_listen(). */
extern const struct peer_kind lookup_peer_kind;
void lookup_peer_new(struct peer *p);

/* Asks (a LOOKUP or RESOLVE; its texts are copied, a secret into the memory of secrets.h, where it
 * is wiped when it is answered or dropped). done is called once, never before this returns. 0;
 * -EAGAIN when too many questions wait; -errno. */
int lookup_ask(struct lookup *l, const struct msg *m, answer_fn *done, void *context,
	       struct question **ret);

/* Nobody waits for the answer any more: done is not called. NULL is allowed; *q becomes NULL. */
void question_drop(struct question **q);

#endif
