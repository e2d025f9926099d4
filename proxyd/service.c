/* The names of sockets. A further service is a row here, its row in session.c, and a socket in
 * imapproxyd/main.c and units/. */
#include "proxyd/service.h"

#include <stddef.h>
#include <string.h>

static const struct service services[] = {
	{ "imap", SERVICE_IMAP, false },
	{ "imaps", SERVICE_IMAP, true },
	{ "pop3", SERVICE_POP3, false },
	{ "pop3s", SERVICE_POP3, true },
};

const struct service *service_find(const char *name)
{
	for (size_t i = 0; i < sizeof(services) / sizeof(services[0]); i++)
		if (strcmp(services[i].name, name) == 0)
			return &services[i];
	return NULL;
}

const struct service *service_default(void)
{
	return &services[0];
}
