/* Is a mail host this very host? Whoever dials it would reach the proxy again, and again. Pure:
 * what only the system can say is an argument. */
#ifndef LIB_SELFHOST_H
#define LIB_SELFHOST_H

#include "lib/cidr.h"
#include "lib/msg.h"
#include "lib/route.h"

/* The key by which it is a port on which we listen; NULL: it is none. As the configuration says;
 * with run_listener no only keys count that the file sets, since others know the ports then. */
const char *selfhost_port_key(const struct config *c, uint32_t port);
bool selfhost_listens_on(const struct config *c, uint32_t port);

/* Is it a name of this host: its hostname (gethostname(2)), that up to its first dot, or a word of
 * proxy_hostname? In any case of letters, with or without a dot at the end. */
bool selfhost_has_name(const struct config *c, struct span hostname, struct span name);

/* Does who connects to this address and port come to us? `is_own`: it is an address of one of this
 * machine's interfaces. */
bool selfhost_is_reached(const struct config *c, const struct cidr_address *address, uint32_t port,
			 bool is_own);

/* The same of one socket, wherever the configuration has it: `place` is where it listens,
 * ADDRESS/PORT, as a listener tells the broker. What is no such text is not reached. */
bool selfhost_reaches_socket(const struct config *c, struct span place,
			     const struct cidr_address *address, uint32_t port, bool is_own);

/* Is it of this port? */
bool selfhost_socket_has(struct span place, uint32_t port);

/* The address that the kernel dials when it is asked for this one: the unspecified ones lead to the
 * loopback interface. */
struct cidr_address selfhost_dialled(const struct cidr_address *address);

/* Where this host's own server is for a service: local_server or pop3_local_server. *ret borrows
 * the configuration. 0, or -ENOENT when it is not set. */
int selfhost_server(const struct config *c, enum msg_service service, struct route *ret);

/* The key that says so. */
const char *selfhost_key(enum msg_service service);

#endif
