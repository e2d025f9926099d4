/* What children tell their supervisor (sd_notify(3)): ready, stopping, keep this descriptor. */
#ifndef IMAPPROXYD_NOTIFY_H
#define IMAPPROXYD_NOTIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "lib/activation.h"
#include "lib/span.h"

struct notify_message {
	bool ready;
	bool stopping;
	bool store;
	bool remove;
	struct span name; /* FDNAME, "stored" without; borrows the text */
};

/* A datagram that came in. */
struct notify_datagram {
	pid_t sender;
	struct span text; /* borrows the buffer given to notify_receive() */
	int fds[ACTIVATION_MAX];
	size_t count;
};

/* Longer datagrams are refused. */
#define NOTIFY_MAX 4096

/* Reads the lines of a notification; unknown ones are allowed and ignored. Returns 0, or -EBADMSG
 * for store and remove together or a name that cannot be passed on. */
int notify_parse(struct span text, struct notify_message *ret);

/* Makes the bound datagram socket tell who sends. Returns 0 or -errno. */
int notify_prepare(int sock);

/* Takes one datagram into text. Its descriptors are the caller's (close-on-exec). Never blocks.
 * Returns 0; -EAGAIN; -EBADMSG for one that is too long, lost a part or does not say who sent it,
 * with every descriptor of it closed. */
int notify_receive(int sock, char text[NOTIFY_MAX], struct notify_datagram *ret);

#endif
