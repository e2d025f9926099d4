/* Clients that come by a proxy or a webmail in front of us: announced with a PROXY header, or in
 * what the client says before login. */
#ifndef PROXYD_ANNOUNCED_H
#define PROXYD_ANNOUNCED_H

#include "proxyd/session.h"

/* Must this client's stream begin with a PROXY header (proxy_protocol_addresses)? */
bool announced_is_due(const struct session *s);

/* Reads the header, waiting ten seconds (or login_timeout) at most, and not one byte behind it:
 * s->hello then has the addresses that it announces. END_NONE, or why the session ends. */
enum session_end announced_read(struct session *s);

/* Is the client one of those that are believed whom they serve (trusted_addresses)? */
bool announced_trusts(const struct session *s);

/* The client has said whom it serves, with ID or XCLIENT: that is kept if it is trusted; how many
 * proxies there were is, in any case. */
void announced_note(struct session *s, const struct caller_said *said);

/* What the mail host of the session's connection is told of its client; borrows from s. */
struct caller_facts announced_facts(const struct session *s);

/* May a client with the address in s->hello connect? A proxy always may: its own connections
 * (LOCAL, health checks) are its own business; not whom it announces, whatever his address. */
bool announced_permits(const struct session *s);

#endif
