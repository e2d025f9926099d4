/* Logins that an errand makes in a client's place: by the master user, or with a password that the
 * client does not have (the directory's own), for clients that had no password to show above all.
 * The client's process gets a connection that is logged in already, and never what it was logged
 * in with.
 */
#ifndef CACHEBROKERD_MADE_H
#define CACHEBROKERD_MADE_H

#include "cachebrokerd/connection.h"

struct client;
struct made;

/* Why no errand can log in for the client on a fresh connection, for people; NULL: one can. */
const char *made_problem(const struct client *c, enum msg_refusal *ret_reason);

/* Has an errand log in on the client's fresh connection, of which fd stays the caller's: as the
 * master user if lease.master is set or a verified client has no lease.secret, else with the
 * account's name and lease.secret, which is wiped in any case. Ends in client_lease() or
 * client_refuse(), never before this returns, unless made_leave() is called. Takes the connection
 * over on success. 0 or -errno. */
int made_start(struct client *c, struct connection *fresh, int fd, struct made **ret);

/* The client does not wait for it any more. NULL is allowed; *m becomes NULL. */
void made_leave(struct made **m);

#endif
