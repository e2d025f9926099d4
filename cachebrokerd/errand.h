/* Errands: what needs IMAP but no client is done by a process that a listener starts for it
 * (docs/ARCHITECTURE.md, "Errands").
 */
#ifndef CACHEBROKERD_ERRAND_H
#define CACHEBROKERD_ERRAND_H

#include "cachebrokerd/broker.h"

/* Has LOGOUT said on the idle connection id to this host and then closes it: takes over fd, whose
 * watch must have ended. Never waits. Without a listener, with too many errands at once, or when
 * the broker is stopping, fd is simply closed. */
void errand_logout(struct broker *b, const struct host *host, uint64_t id, int fd);

#endif
