/* Starting a program as another user, with descriptors in the places where it expects them. */
#ifndef IMAPPROXYD_SPAWN_H
#define IMAPPROXYD_SPAWN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "imapproxyd/settings.h"
#include "lib/activation.h"

struct spawn_order {
	const char *path;
	char *const *argv;
	struct identity identity;
	const struct activation_fd *fds; /* become LISTEN_FDS in this order */
	size_t count;			 /* at most ACTIVATION_MAX */
	int null_fd;			 /* standard input and output */
	int stderr_fd;
	const char *notify_path;
	int death_signal; /* what it gets when its parent dies */
	bool fresh;	  /* KEEPWARM_FRESH=1: the whole starts, not only this program again */
};

/* Starts the program and returns when it has been executed: 0 and its pid, or -errno and in
 * *ret_step what failed (a constant). */
int spawn_program(const struct spawn_order *order, pid_t *ret_pid, const char **ret_step);

#endif
