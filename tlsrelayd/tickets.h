/* TLS sessions with mail hosts, kept for their next connection. Pure. */
#ifndef TLSRELAYD_TICKETS_H
#define TLSRELAYD_TICKETS_H

#include "lib/span.h"

#define TICKET_MAX	 6000 /* bytes of one; longer ones are not kept */
#define TICKETS_PER_HOST 4
#define TICKETS_HOSTS	 256

struct tickets;

struct tickets *tickets_new(void);

/* Wipes them: each is as good as the keys of its session. NULL is allowed. */
void tickets_free(struct tickets *t);

/* Keeps a copy. The oldest of the host, and the host that was used least recently, make room.
 * `generation` names the settings that it was made under. */
void tickets_put(struct tickets *t, const char *host, uint32_t port, uint64_t generation,
		 struct span ticket);

/* Takes the newest one out (each is used once: RFC 8446 appendix C.4) into ticket, TICKET_MAX
 * bytes. Returns its length; 0: none. */
size_t tickets_take(struct tickets *t, const char *host, uint32_t port, uint64_t generation,
		    char *ticket);

#endif
