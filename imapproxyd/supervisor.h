/* The life of the service: start in order, keep alive, reload, stop in order. */
#ifndef IMAPPROXYD_SUPERVISOR_H
#define IMAPPROXYD_SUPERVISOR_H

#include <signal.h>

#include "imapproxyd/child.h"

struct supervisor {
	struct child children[CHILD_COUNT];
	struct child_setup setup;
	int config_text; /* of configtext_read(), what the children see */
	int tls_files;	 /* of tlsfiles_copy(), what tlsrelayd sees */
	int notify_fd;
	sigset_t signals; /* blocked by the caller, taken from a signalfd */

	/* Called once, when all children are ready. */
	void (*on_ready)(void *context);
	void *context;
};

/* Runs the service until a signal ends it. Returns 0 after an orderly stop, -errno when the start
 * failed; no child is left either way. */
int supervisor_run(struct supervisor *s);

#endif
