/* Dialling a mail host: its addresses in turn, each within connect_timeout, and TLS by tlsrelayd
 * where the host is spoken to in that way. */
#ifndef CACHEBROKERD_DIAL_H
#define CACHEBROKERD_DIAL_H

#include "cachebrokerd/broker.h"
#include "cachebrokerd/caller.h"

struct dial;

/* fd is the connected socket, or the stream inside of TLS, the callee's to close; or -1 and `why`
 * says what is wrong (for people). Behind STARTTLS the greeting is gone. The dial is freed
 * afterwards. */
typedef void dial_done_fn(void *context, int fd, const char *why);

/* Resolves the host if needed and dials it. done is called once, never before this returns; until
 * then *ret may be given up. 0 or -errno. The caller counts its connection, not the dial. */
int dial_start(struct broker *b, struct host *h, dial_done_fn *done, void *context,
	       struct dial **ret);

/* Says for whom it is, as a mail host with proxy_protocol_hosts is told; without this: for nobody.
 */
void dial_for(struct dial *d, const struct caller *caller);

/* Gives the dial up: done is not called any more. NULL is allowed; *d becomes NULL. */
void dial_give_up(struct dial **d);

#endif
