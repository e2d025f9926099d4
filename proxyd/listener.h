/* The listener: keeps spare processes that each wait in accept() for one client (DESIGN: no fork
 * lies between a client and its greeting, and no process serves two users).
 */
#ifndef PROXYD_LISTENER_H
#define PROXYD_LISTENER_H

#include "lib/activation.h"

/* Serves the listening sockets, whose names are those of service.h, until SIGTERM. The run
 * directory holds the broker's socket for listeners. Returns the process's exit status; in a child
 * it returns the session's. */
int listener_run(const struct activation_fd *sockets, size_t count, const char *run_directory);

#endif
