/* The listening TCP sockets. */
#ifndef IMAPPROXYD_TCP_H
#define IMAPPROXYD_TCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A name may have several addresses; more than these are an error. */
#define TCP_SOCKETS_MAX 8

/* Why address cannot be listened on by its name, or NULL when it can. */
const char *tcp_resolve_check(const char *address, uint32_t port);

/* Does `address` stand for addresses of this machine alone? */
bool tcp_is_loopback(const char *address);

/* Listens on every address that `address` stands for; a port that is in use is waited for, for so
 * many milliseconds in all. key says which port it is: problems are reported. Returns the number of
 * descriptors in fds (close-on-exec, the caller's) or -errno. */
int tcp_listen(const char *address, const char *key, uint32_t port, int64_t patience_ms,
	       int fds[TCP_SOCKETS_MAX]);

#endif
