/* TLS sessions with mail hosts, kept for their next connection. Pure, without OpenSSL. */
#ifndef TLSRELAYD_TICKETS_H
#define TLSRELAYD_TICKETS_H

#include "lib/span.h"

#define TICKET_MAX	 6000 /* bytes of one; longer ones are not kept */
#define TICKETS_PER_HOST 16
#define TICKETS_HOSTS	 256

struct tickets;

/* Takes the peer's certificate out of a session in DER, n bytes as OpenSSL writes it: to resume it
 * only needs to be known that it was good, and read again it is several KiB of memory as long as
 * the connection lasts. Returns the new length; 0: this is no session. */
size_t tickets_drop_peer(char *session, size_t n);

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
