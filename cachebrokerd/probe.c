/* Finding out in the background whether a mail host answers: a dial that nobody waits for. */
#include "cachebrokerd/dial.h"
#include "cachebrokerd/host.h"
#include "lib/fd.h"

static void on_done(void *context, int fd, const char *why)
{
	(void)context;
	(void)why; /* host_failed() has logged it */
	fd_drop(&fd);
}

void host_probe(struct host *h)
{
	struct dial *d;

	/* It frees itself when it is done; at the end of the process nobody misses it. */
	(void)dial_start(h->broker, h, on_done, h, &d);
}
