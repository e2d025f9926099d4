/* A session's messages about its lease; client.c's table says in which states they may come.
 *
 * Handlers return 0 or a negative errno that cuts the session off; *fd is the descriptor that came
 * with the message, and what is not taken over is closed by the caller.
 */
#ifndef CACHEBROKERD_CLIENT_LEASE_H
#define CACHEBROKERD_CLIENT_LEASE_H

#include "cachebrokerd/client.h"

int client_on_lease(struct client *c, const struct msg *m, int *fd);
int client_on_outcome(struct client *c, const struct msg *m, int *fd);
int client_on_untouched(struct client *c, const struct msg *m, int *fd);
int client_on_returning(struct client *c, const struct msg *m, int *fd);
int client_on_give(struct client *c, const struct msg *m, int *fd);

/* The session has no connection any more: the one that it was leased, if any, is closed. */
void client_lose_connection(struct client *c);

/* --- in client.c ---------------------------------------------------------------------------- */

/* Its row in the state file: it is logged in there as this user. */
void client_show_active(struct client *c, struct span user, const char *host);

/* It has introduced itself: it does not count as silent any more. */
void client_introduced(struct client *c);

/* Answers with REFUSED. 0 or -errno. */
int client_refuse_with(struct client *c, uint32_t serial, enum msg_refusal reason,
		       const char *text);

/* The same with what a mail host has said, of lib/codes.h. */
int client_refuse_code(struct client *c, uint32_t serial, enum msg_refusal reason, uint32_t code,
		       const char *text);

#endif
