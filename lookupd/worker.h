/* A look-up worker: one process that answers one question of the broker's at a time. */
#ifndef LOOKUPD_WORKER_H
#define LOOKUPD_WORKER_H

#include "lib/config.h"
#include "lib/msg.h"

/* From now on SIGUSR2 means that the broker of now is the last one. */
void worker_watch_signals(void);

/* Serves the broker at this socket; when it is away, tries again. Returns when the last one is
 * gone.
 */
void worker_run(const struct config *c, const char *socket_path);

/* Answers a question: sets *answer, with the question's serial, whose texts borrow c, the question
 * and text (RESOLVE_TEXT_MAX bytes). Returns 0, or -EINVAL for a message that is no question. */
int worker_answer(const struct config *c, const struct msg *question, char *text,
		  struct msg *answer);

#endif
