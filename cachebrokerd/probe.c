/* Finding out in the background whether a mail host answers: a dial that nobody waits for. */
#include "cachebrokerd/dial.h"
#include "cachebrokerd/host.h"
#include "lib/fd.h"

static void on_done(void *context, int fd, const char *why)
{
	struct host *h = context;

	(void)why; /* host_failed() has logged it */
	h->probe = NULL;
	fd_drop(&fd);
}

void host_probe(struct host *h)
{
	if (!h->probe && host_is_open(h))
		(void)dial_start(h->broker, h, on_done, h, &h->probe);
}
