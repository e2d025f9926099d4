/* Descriptors with an owner: AUTO_FD closes itself when its scope ends, take_fd() hands it over. */
#ifndef LIB_FD_H
#define LIB_FD_H

#include <unistd.h>

static inline void fd_close_auto(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

#define AUTO_FD __attribute__((cleanup(fd_close_auto))) int

/* The descriptor, which is now the caller's to close. */
static inline int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/* Closes the descriptor, if there is one, and forgets it. */
static inline void fd_drop(int *fd)
{
	int taken = take_fd(fd);

	if (taken >= 0)
		close(taken);
}

#endif
