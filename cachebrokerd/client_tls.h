/* TLS between a session and its client: TLS_ACCEPT, which tlsrelayd answers. */
#ifndef CACHEBROKERD_CLIENT_TLS_H
#define CACHEBROKERD_CLIENT_TLS_H

#include "cachebrokerd/client.h"

/* A handler of client.c's table: 0, or -errno that cuts the session off. */
int client_on_tls_accept(struct client *c, const struct msg *m, int *fd);

/* Whom the client's certificate names, which tlsrelayd has verified; *ret lives as long as the
 * client. False: it has shown none. */
bool client_certified(const struct client *c, struct span *ret);

/* The session is gone: nothing waits for tlsrelayd any more. */
void client_leave_tls(struct client *c);

#endif
