/* Mail hosts that are this very host: its own server serves them, since to dial them would be to
 * dial ourselves. */
#ifndef CACHEBROKERD_OWN_H
#define CACHEBROKERD_OWN_H

#include "cachebrokerd/host.h"

/* Does one of the host's addresses, as far as they are known, lead to a port of ours? */
bool own_is(const struct host *h);

/* The same as of at most a second ago, for every login; a dial makes sure. `fresh_only`: addresses
 * that must be asked for again count as not known. */
bool own_was(struct host *h, bool fresh_only);

/* This host's own server of a service, made when it is new. NULL: the configuration names none, or
 * there is no memory. */
struct host *own_server(struct broker *b, enum msg_service service);

/* What is said when own_is() keeps the host from being dialled. Lives until the next call. */
const char *own_problem(const struct host *h);

/* What this host is called among proxies and clients: the first word of proxy_hostname, or else its
 * own name. ret has room for OWN_NAME_MAX + 1. */
#define OWN_NAME_MAX 255
void own_name(const struct broker *b, char *ret);

/* Is it the server that own_server() gives now? */
bool own_is_server(const struct host *h);

#endif
