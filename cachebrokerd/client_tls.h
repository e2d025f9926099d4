/* TLS between a session and its client: TLS_ACCEPT, which tlsrelayd answers. */
#ifndef CACHEBROKERD_CLIENT_TLS_H
#define CACHEBROKERD_CLIENT_TLS_H

#include "cachebrokerd/client.h"

/* A handler of client.c's table: 0, or -errno that cuts the session off. */
int client_on_tls_accept(struct client *c, const struct msg *m, int *fd);

/* The session is gone: nothing waits for tlsrelayd any more. */
void client_leave_tls(struct client *c);

#endif
