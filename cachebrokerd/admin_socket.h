/* The admin socket: root, and the user that the service runs as, ask by it (pimpstat). */
#ifndef CACHEBROKERD_ADMIN_SOCKET_H
#define CACHEBROKERD_ADMIN_SOCKET_H

#include "cachebrokerd/peer.h"

extern const struct peer_kind admin_peer_kind;
void admin_peer_new(struct peer *p);

#endif
