/* The programs that the supervisor runs: how each is started, when it is started again. */
#ifndef IMAPPROXYD_CHILD_H
#define IMAPPROXYD_CHILD_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "imapproxyd/fdstore.h"
#include "imapproxyd/settings.h"
#include "lib/activation.h"

/* In the order in which they are started. */
enum child_name { CHILD_BROKER, CHILD_LOOKUP, CHILD_TLS, CHILD_LISTENER, CHILD_COUNT };

/* No deadline. */
#define CHILD_NEVER INT64_MAX

/* What all children share; everything is borrowed for the supervisor's life. */
struct child_setup {
	const struct settings *settings;
	char directory[PATH_MAX]; /* of the executables */
	char notify_path[PATH_MAX];
	int null_fd;
	int stderr_fd;
};

/* Times are of the monotonic clock, in ms. */
struct child {
	enum child_name name;
	bool wanted; /* else it is not started */
	pid_t pid;   /* 0: not running */
	bool ready;
	bool started_before;
	bool reload; /* SIGHUP is owed as soon as it is ready */
	int64_t started_at;
	int64_t ready_by;   /* killed when not ready then */
	int64_t restart_at; /* started then */
	int64_t pause;	    /* before the next restart; 0: none */
	struct activation_fd fds[FDSTORE_OTHERS];
	size_t fd_count;
	struct fdstore store;
};

/* The program's name, for messages. */
const char *child_program(const struct child *c);

/* Gives the child one more descriptor for its LISTEN_FDS, borrowed. The name fits. */
void child_add_fd(struct child *c, const char *name, int fd);

/* Closes those descriptors. */
void child_close_fds(struct child *c);

/* Starts the program; it must be ready within limit_ms. A failure is reported and returned as
 * -errno. */
int child_start(struct child *c, const struct child_setup *setup, int64_t now, int64_t limit_ms);

/* The program has ended with this status of waitpid(2): decides when it is started again. */
void child_ended(struct child *c, int status, int64_t now);

/* Starting it failed: tries again after a pause. */
void child_retry(struct child *c, int64_t now);

/* Takes a notification from this child, which keeps the descriptors it wants stored; the rest is
 * closed. */
void child_notified(struct child *c, struct span text, const int *fds, size_t count);

/* Sends a signal if it is running. */
void child_signal(const struct child *c, int signal_number);

/* How it ended, in words: "exited with status 1". Writes to text and returns it. */
const char *child_words(int status, char *text, size_t cap);

#endif
