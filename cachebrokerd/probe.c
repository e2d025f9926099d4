/* Finding out in the background whether a mail host answers: a dial that nobody waits for. */
#include "cachebrokerd/dial.h"
#include "cachebrokerd/own.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "lib/selfhost.h"

static void on_done(void *context, int fd, const char *why)
{
	struct host *h = context;
	struct route route;

	h->probe = NULL;
	/* of other failures host_failed() has told; own_server() might forget h to make room */
	if (own_is(h) && selfhost_server(&h->broker->config, h->service, &route) < 0)
		log_printf(LOG_WARNING, "mail host %s", why);
	fd_drop(&fd);
}

void host_probe(struct host *h)
{
	if (!h->probe && host_is_open(h))
		(void)dial_start(h->broker, h, on_done, h, &h->probe);
}
