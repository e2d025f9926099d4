/* Questions to lookupd: which mail host serves an account, which addresses a host has.
 *
 * Its workers are peers that each answer one question at a time; questions wait in line for a free
 * one.
 */
#ifndef CACHEBROKERD_LOOKUP_H
#define CACHEBROKERD_LOOKUP_H

#include "cachebrokerd/peer.h"

/* Longest wait for an answer. A directory has 5 s for one (lookupd/driver.h), and there may be a
 * line; a name server that is asked again, some more. A lease's deadline is longer than both. */
#define LOOKUP_SECONDS	 7
#define RESOLVE_SECONDS	 8
/* A LOOKUP with a password may take so much longer: the dearest hash that is computed at all. */
#define PASSWORD_SECONDS 3

struct question;

/* The answer, whose texts live until the call returns; NULL: there is none (no worker in time). */
typedef void answer_fn(void *context, const struct msg *answer);

/* 0 or -errno. */
int lookup_new(struct broker *b, struct lookup **ret);
void lookup_free(struct lookup *l);

/* The role of lookupd's workers, for peer_listen(). */
extern const struct peer_kind lookup_peer_kind;
void lookup_peer_new(struct peer *p);

/* Asks (a LOOKUP, RESOLVE or AUTH_STEP; its texts are copied, a LOOKUP's secret into the memory of
 * secrets.h, where it is wiped when it is answered or dropped). done is called once, never before
 * this returns. 0; -EAGAIN when too many questions wait; -errno. */
int lookup_ask(struct lookup *l, const struct msg *m, answer_fn *done, void *context,
	       struct question **ret);

/* The same for one worker only: *worker is its number, of lookup.c's making, or 0 for any one, and
 * becomes that of the worker that has the question; it must live as long as somebody waits. When
 * that worker is gone there is no answer. */
int lookup_ask_worker(struct lookup *l, uint64_t *worker, const struct msg *m, answer_fn *done,
		      void *context, struct question **ret);

/* Did a question come to nothing, and has no worker said a word since? And is none free, so that
 * there is no use in asking another one if there is an answer of before? */
bool lookup_is_silent(const struct lookup *l);
bool lookup_is_stuck(const struct lookup *l);

/* Nobody waits for the answer any more: done is not called. NULL is allowed; *q becomes NULL. */
void question_drop(struct question **q);

#endif
