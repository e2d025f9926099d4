/* A master user who logs in for every client (auth_sasl_plain_username, auth_sasl_plain_password):
 * with auth backend when the client has the secret that all clients share (auth_shared_secret),
 * with auth directory when the directory takes the client's password. For a client that was
 * verified without a password, whatever auth is, when the directory has no clear one.
 */
#ifndef CACHEBROKERD_MASTER_H
#define CACHEBROKERD_MASTER_H

#include "cachebrokerd/connection.h"
#include "cachebrokerd/errand.h"

/* Has it a name and a password? Clients that are verified without a password need no more. */
bool master_may_log_in(const struct broker *b);

/* Does it log in for clients with a password? And is auth_shared_secret what they must have? */
bool master_is_on(const struct broker *b);
bool master_shares_secret(const struct broker *b);

/* Is this the shared secret? The whole of it, in a time that says nothing. */
bool master_admits(const struct broker *b, struct span secret);

/* The proof of connections that the master user logged in on: another one for each change of any of
 * the three keys, and none that a client's own password could have. Without a shared secret it is
 * of what the client gave (the proof of its password), too. 0 or -errno. */
int master_proof(const struct broker *b, const struct key *given, struct key *ret);

/* May it log in for a user of this name? Not with master_separator in it: whoever reads the whole
 * would take another part for the user's name. */
bool master_may_name(const struct broker *b, struct span user);

/* What an errand logs in with for this account (its name at the mail host), whose client is
 * verified or has given the password that it must have; it borrows from the name, the
 * configuration, and memory that the next call uses again. 0; -EACCES when there is no master user
 * any more; -EINVAL for a name that cannot be told. */
int master_login(const struct broker *b, bool verified, struct span account,
		 struct errand_login *ret);

#endif
