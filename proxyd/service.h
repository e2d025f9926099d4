/* What is served on a socket: its name says it (LISTEN_FDNAMES, proxyd -s). */
#ifndef PROXYD_SERVICE_H
#define PROXYD_SERVICE_H

#include <stdbool.h>

#include "lib/msg.h"

struct service {
	const char *name;
	enum msg_service service;
	bool tls; /* its clients begin with TLS */
};

/* The service of this name; NULL: there is none. Static. */
const struct service *service_find(const char *name);

/* The one of sockets without a name. */
const struct service *service_default(void);

#endif
