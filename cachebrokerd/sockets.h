/* The broker's listening sockets: passed in, or made in the run directory. */
#ifndef CACHEBROKERD_SOCKETS_H
#define CACHEBROKERD_SOCKETS_H

#include <sys/types.h>

/* Makes the listening SOCK_SEQPACKET socket NAME in the directory, in place of a stale one, with
 * this mode. Returns the descriptor or -errno. */
int sockets_make(const char *directory, const char *name, mode_t mode);

#endif
