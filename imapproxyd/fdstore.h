/* The descriptors that a child has left with its supervisor, to be given to its next incarnation
 * under the same names (the protocol is systemd's: sd_notify(3), FDSTORE=1). */
#ifndef IMAPPROXYD_FDSTORE_H
#define IMAPPROXYD_FDSTORE_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/activation.h"
#include "lib/span.h"

/* What a child is given besides: listening sockets and the configuration. */
#define FDSTORE_OTHERS 16
#define FDSTORE_MAX    (ACTIVATION_MAX - FDSTORE_OTHERS)

struct fdstore {
	size_t count;
	struct activation_fd fds[FDSTORE_MAX];
};

/* Can this be in LISTEN_FDNAMES: 1 to ACTIVATION_NAME - 1 printable bytes without a colon? */
bool fdstore_name_ok(struct span name);

/* Keeps fd, which is the store's from now on. Returns 0; -ENOSPC or -EINVAL (name), then fd is
 * still the caller's. */
int fdstore_add(struct fdstore *s, struct span name, int fd);

/* Closes all of this name. Returns how many there were. */
size_t fdstore_remove(struct fdstore *s, struct span name);

/* Closes all. */
void fdstore_wipe(struct fdstore *s);

#endif
