/* A look-up worker: one process that answers one question of the broker's at a time. */
#ifndef LOOKUPD_WORKER_H
#define LOOKUPD_WORKER_H

#include "lib/config.h"
#include "lib/msg.h"
#include "lookupd/directories.h"
#include "lookupd/resolve.h"

/* From now on SIGUSR2 means that the broker of now is the last one. */
void worker_watch_signals(void);

/* Serves the broker at this socket; when it is away, tries again. Returns when the last one is
 * gone.
 */
void worker_run(const struct config *c, const char *socket_path);

/* Room for an answer's texts. */
union worker_texts {
	char addresses[RESOLVE_TEXT_MAX];
	struct directories_texts account;
};

/* Answers a question: sets *answer, with the question's serial, whose texts borrow the question
 * and *texts. Returns 0, or -EINVAL for a message that is no question. */
int worker_answer(struct directories *d, const struct msg *question, union worker_texts *texts,
		  struct msg *answer);

#endif
