/* The run directory: the programs' sockets, and the lock that keeps a second instance out. */
#ifndef IMAPPROXYD_RUNDIR_H
#define IMAPPROXYD_RUNDIR_H

#include <stdbool.h>
#include <sys/types.h>

#include "imapproxyd/settings.h"

struct rundir {
	const char *path; /* borrowed */
	int fd;
	int lock;
};

/* Makes or checks the directory and takes its lock. Problems are reported. Returns 0 or -errno. */
int rundir_open(struct rundir *d, const char *path);

/* Binds a socket of this type and mode in it, owned by the identity; a stale one is removed.
 * Problems are reported. Returns the descriptor (close-on-exec, the caller's) or -errno. */
int rundir_bind(const struct rundir *d, const char *name, int type, mode_t mode,
		const struct identity *owner);

/* Is a socket of this name there? While the lock is ours, it was left by an instance that was
 * killed.
 */
bool rundir_has(const struct rundir *d, const char *name);

/* Removes that socket. */
void rundir_unlink(const struct rundir *d, const char *name);

/* Lets the lock go. */
void rundir_close(struct rundir *d);

#endif
