/* What the keys about logins mean together. */
#ifndef LIB_CONFIG_LOGIN_H
#define LIB_CONFIG_LOGIN_H

#include "lib/buf.h"
#include "lib/config.h"

/* Does a master user log in at the mail hosts for clients? With auth backend only where clients
 * have auth_shared_secret, with auth directory where he has a name and a password, with auth both
 * never. */
bool config_master_is_on(const struct config *c);

/* Appends the login name as everybody but the client knows it: with login_case, default_domain and
 * domain_separators in effect. A name that is complete stays as it is, so doing it twice does no
 * harm. 0, or -ENOBUFS for one that is too long; out may hold a part of it then. */
int config_login_name(const struct config *c, struct span name, struct buf *out);

#endif
