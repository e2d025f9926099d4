/* The start goes on in a child; the parent is the starter's window onto it and relays success. */
#include "imapproxyd/daemonize.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/fd.h"

_Noreturn static void wait_for_child(int pipe_fd)
{
	char ready;
	ssize_t n;

	do {
		n = read(pipe_fd, &ready, 1);
	} while (n < 0 && errno == EINTR);
	_exit(n == 1 ? 0 : 1);
}

int daemonize_fork(int *ret_starter)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	AUTO_FD read_end = ends[0];
	AUTO_FD write_end = ends[1];
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid > 0) {
		fd_drop(&write_end);
		wait_for_child(read_end);
	}
	if (setsid() < 0)
		return -errno;
	*ret_starter = take_fd(&write_end);
	return 0;
}

void daemonize_ready(int *starter)
{
	if (*starter >= 0)
		(void)!write(*starter, "R", 1);
	fd_drop(starter);
}
