/* Sessions in a pack (pack.h): what a successor must know of them. */
#ifndef CACHEBROKERD_CLIENT_PACK_H
#define CACHEBROKERD_CLIENT_PACK_H

#include "cachebrokerd/client.h"
#include "cachebrokerd/pack.h"

/* Does something go on for it that another process will answer, and that its session cannot ask for
 * once more: TLS with its client, a step of its challenge? */
bool client_is_busy(const struct client *c);

/* A restart begins: nothing it says is read any more, and if its LEASE is being worked on it is
 * told to ask once more. Its answers still go out. */
void client_hold(struct client *c);

/* Describes it; the texts live as long as the client. False: it cannot be gone on with, and its
 * socket is closed. */
bool client_pack(struct client *c, struct pack_CLIENT *ret);

/* Makes it anew over its socket, which is taken over in any case, with the connection that it has
 * (NULL: none), which is its own then. reloaded: the configuration has changed. 0; or -errno: there
 * is no such client, and the connection is still the caller's. */
int client_unpack(struct broker *b, const struct pack_CLIENT *from, int fd,
		  struct connection *connection, bool reloaded);

#endif
