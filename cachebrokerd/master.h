/* Logins that an errand makes for a client.
 *
 * A master user logs in for every client (auth_sasl_plain_username, auth_sasl_plain_password), when
 * the client has the secret that all clients share (auth_shared_secret): all three must be set. For
 * a client that was verified without a password it is the directory's clear one, else the master
 * user: then the first two do.
 */
#ifndef CACHEBROKERD_MASTER_H
#define CACHEBROKERD_MASTER_H

#include "cachebrokerd/connection.h"
#include "cachebrokerd/errand.h"

struct client;

bool master_is_on(const struct broker *b);

/* Is there a master user? Without a shared secret it logs in for clients that are verified without
 * a password of their own. */
bool master_may_log_in(const struct broker *b);

/* Is this the shared secret? The whole of it, in a time that says nothing. */
bool master_admits(const struct broker *b, struct span secret);

/* The proof of connections that the master user logged in on: another one for each change of any of
 * the three keys, and none that a client's own password could have. 0 or -errno. */
int master_proof(const struct broker *b, struct key *ret);

/* May it log in for a user of this name? Not with master_separator in it: whoever reads the whole
 * would take another part for the user's name. */
bool master_may_name(const struct broker *b, struct span user);

/* What an errand logs in with for this account (its name at the mail host); it borrows from the
 * name, the configuration, and memory that the next call uses again. 0; -EACCES when there is no
 * master user any more; -EINVAL for a name that cannot be told. */
int master_login(const struct broker *b, struct span account, struct errand_login *ret);

/* Can an errand log in for this client, which is verified? If not, MASTER_NEEDED says why. */
bool master_can_log_in(const struct client *c);
#define MASTER_NEEDED \
	"a verified client needs a clear password in the directory, or a master user " \
	"(auth_sasl_plain_username, auth_sasl_plain_password)"

/* Has an errand log in on the client's fresh connection, of which fd stays the caller's. Ends in
 * client_lease() or client_refuse(), never before this returns, unless master_leave() is called.
 * Takes the connection over on success. 0 or -errno. */
struct master;
int master_start(struct client *c, struct connection *fresh, int fd, struct master **ret);

/* The client does not wait for it any more. NULL is allowed; *m becomes NULL. */
void master_leave(struct master **m);

#endif
