/* Which drivers were built in: the Makefile says HAVE_... for each library that is there. */
#include "lookupd/driver.h"

#include "lookupd/drivers.h"

static const struct driver *const drivers[] = {
	&driver_static, &driver_userdb, &driver_lmdb, &driver_authdaemon,
#ifdef HAVE_LIBCURL
	&driver_http,	&driver_https,
#endif
#ifdef HAVE_LDAP
	&driver_ldap,
#endif
#ifdef HAVE_LIBPQ
	&driver_pgsql,
#endif
#ifdef HAVE_LIBMARIADB
	&driver_mysql,
#endif
	NULL,
};

const struct driver *driver_of(struct span kind)
{
	for (size_t i = 0; drivers[i]; i++)
		if (span_eq(kind, span_str(drivers[i]->kind)))
			return drivers[i];
	return NULL;
}
