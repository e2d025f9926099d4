/* Which drivers were built in: the Makefile says HAVE_... for each library that is there. */
#include "lookupd/driver.h"

#include <stdarg.h>
#include <stdio.h>

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

void why_say(struct why *w, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(w->text, sizeof(w->text), format, args);
	va_end(args);
	/* Libraries' messages have line ends in them, and may have anything. */
	for (char *p = w->text; *p; p++)
		if ((unsigned char)*p < ' ' || (unsigned char)*p >= 0x7f)
			*p = ' ';
}
