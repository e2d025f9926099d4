/* A session's client that is challenged (CRAM, SCRAM): a look-up worker has the conversation, this
 * keeps whose it is and what became of it. The challenge of APOP, which is part of the greeting, is
 * made and kept here.
 *
 * Who was verified is known from the worker alone. A client has one conversation at most.
 */
#ifndef CACHEBROKERD_CLIENT_CHALLENGE_H
#define CACHEBROKERD_CLIENT_CHALLENGE_H

#include "cachebrokerd/client.h"

/* A session's AUTH_STEP. 0 or a negative errno that cuts it off. */
int client_on_auth_step(struct client *c, const struct msg *m, int *fd);

/* Whom the worker has verified. False: nobody. *ret lives as long as the client says nothing of
 * challenges. */
bool client_verified(const struct client *c, struct span *ret);

/* Was the last conversation begun before a reload? */
bool client_challenge_is_old(const struct client *c);

/* The login that the last conversation has counted for: true, once for each conversation that ended
 * well. */
bool client_challenge_paid(struct client *c);

/* That login was not made after all, and will be made again. */
void client_challenge_pay(struct client *c);

/* Is a conversation under way? */
bool client_in_challenge(const struct client *c);

/* Goes on after a restart with whom a worker had verified; paid: for a login that is still to come;
 * old: it was begun before a reload. */
void client_challenge_restore(struct client *c, struct span user, bool paid, bool old);

/* The client is gone. */
void client_leave_challenge(struct client *c);

#endif
