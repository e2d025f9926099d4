/* The drivers there are; each is in a file of its own, and some need a library to be built. */
#ifndef LOOKUPD_DRIVERS_H
#define LOOKUPD_DRIVERS_H

#include "lookupd/driver.h"

extern const struct driver driver_static;
extern const struct driver driver_userdb;
extern const struct driver driver_lmdb;
extern const struct driver driver_authdaemon;
extern const struct driver driver_http;
extern const struct driver driver_https;
extern const struct driver driver_ldap;
extern const struct driver driver_pgsql;
extern const struct driver driver_mysql;

/* Has authdaemond judge the answer to a challenge of CRAM ("cram-md5" and so on): FOUND when it is
 * right, FOUND_NOT when it is wrong. */
enum found authdaemon_cram(void *source, const char *service, const char *mechanism,
			   struct span challenge, struct span answer, struct why *why);

#endif
