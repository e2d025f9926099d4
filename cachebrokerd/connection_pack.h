/* Backend connections in a pack (pack.h): what a successor must know of them. */
#ifndef CACHEBROKERD_CONNECTION_PACK_H
#define CACHEBROKERD_CONNECTION_PACK_H

#include "cachebrokerd/connection.h"
#include "cachebrokerd/pack.h"

/* Describes it; the texts live as long as the connection. */
void connection_pack(const struct connection *c, struct pack_CONNECTION *ret);

/* Makes it anew, as leased. NULL: its mail host cannot be, or no memory. */
struct connection *connection_unpack(struct broker *b, const struct pack_CONNECTION *from);

/* The connection that was unpacked was idle since then, and this is its socket, which is taken over
 * in any case: into the cache if it is that socket, silent, and of use under the configuration of
 * now. 0 or -errno: it is closed. */
int connection_unpack_idle(struct connection *c, int64_t since, int *fd);

#endif
