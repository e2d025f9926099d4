/* static: knows no accounts: whether there is such a user, the mail host decides at login. Every
 * account is on server_hostname, which account_routes() puts in where a record names no mail host.
 */
#include "lookupd/drivers.h"

static int open_static(const char *place, const struct config *c, void **ret, struct why *why)
{
	(void)place;
	(void)c;
	(void)why;
	*ret = NULL;
	return 0;
}

static enum found find_static(void *source, const struct driver_question *q, struct account *ret,
			      struct why *why)
{
	(void)source;
	(void)q;
	(void)ret;
	(void)why;
	return FOUND;
}

static void close_static(void *source)
{
	(void)source;
}

const struct driver driver_static = { "static", open_static, find_static, close_static };
