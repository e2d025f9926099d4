/* A master user who logs in for every client (auth_sasl_plain_username, auth_sasl_plain_password):
 * with auth backend when the client has the secret that all clients share (auth_shared_secret),
 * with auth directory when the directory takes the client's password.
 */
#ifndef CACHEBROKERD_MASTER_H
#define CACHEBROKERD_MASTER_H

#include "cachebrokerd/connection.h"
#include "cachebrokerd/errand.h"

bool master_is_on(const struct broker *b);

/* And is auth_shared_secret what clients must have? */
bool master_shares_secret(const struct broker *b);

/* Is this the shared secret? The whole of it, in a time that says nothing. */
bool master_admits(const struct broker *b, struct span secret);

/* The proof of connections that the master user logged in on: another one for each change of any of
 * the three keys, and none that a client's own password could have. Without a shared secret it is
 * of what the client gave (the proof of its password), too. 0 or -errno. */
int master_proof(const struct broker *b, const struct key *given, struct key *ret);

/* What an errand logs in with for this account (its name at the mail host); it borrows from the
 * name and the configuration. 0, or -EACCES when there is no master user any more. */
int master_login(const struct broker *b, struct span account, struct errand_login *ret);

#endif
