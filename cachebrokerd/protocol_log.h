/* The protocol log: what the sessions of traced users say, written to one file by a thread of this
 * module's own, so that a slow or full disk holds up neither the broker nor a session.
 *
 * The calls are the broker's one thread's and never wait for the disk. The thread is started by the
 * first of them that needs it.
 */
#ifndef CACHEBROKERD_PROTOCOL_LOG_H
#define CACHEBROKERD_PROTOCOL_LOG_H

#include "cachebrokerd/loop.h"
#include "lib/span.h"

/* Sessions that can be traced at once. */
#define PROTOCOL_SOURCES 64

struct protocol_log;

enum protocol_job {
	PROTOCOL_BEGIN, /* the mark that a user is traced from now on */
	PROTOCOL_END,	/* that he is not any more; what his sessions have said stands before it */
	PROTOCOL_CLEAR, /* what was said until now is gone */
};

/* A job is done: result is 0 or -errno. */
typedef void protocol_done_fn(void *context, int result);

/* The file cannot be written: all sessions have been cut off from it. */
typedef void protocol_failed_fn(void *context, int error);

/* NULL: no memory. path is copied; the file grows to `most` bytes (0: no bound); on_failed is
 * called from the loop. */
struct protocol_log *protocol_log_new(struct loop *loop, const char *path, uint32_t most,
				      protocol_failed_fn *on_failed, void *context);

/* Writes what has been said so far and ends the thread. NULL is allowed. */
void protocol_log_free(struct protocol_log *l);

/* Asks for a job; done, if it is not NULL, is called from the loop, never before this returns. 0 or
 * -errno: it will not be. */
int protocol_log_ask(struct protocol_log *l, enum protocol_job what, struct span user,
		     protocol_done_fn *done, void *context);

/* A session joins under its number and its user's name: *ret_fd is the socket for it, which the
 * caller sends and closes. 0; -EBUSY: there are too many; -errno. */
int protocol_log_join(struct protocol_log *l, uint64_t number, struct span user, int *ret_fd);

/* The session's, or all of the user's, sockets take nothing any more; what they have taken is still
 * written. */
void protocol_log_leave(struct protocol_log *l, uint64_t number);
void protocol_log_leave_user(struct protocol_log *l, struct span user);

#endif
