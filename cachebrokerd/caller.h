/* Who is calling: the client for whom a connection to a mail host is made, as mail hosts and
 * directories are told of it. Pure.
 */
#ifndef CACHEBROKERD_CALLER_H
#define CACHEBROKERD_CALLER_H

#include <stddef.h>
#include <stdint.h>

#include "lib/msg.h"

#define CALLER_ADDRESS	  65 /* bytes of an address as text, with its NUL */
#define CALLER_HEADER_MAX 52 /* bytes of a PROXY header */
#define CALLER_HOPS_MOST  3  /* proxies that a login may have passed before us */

struct caller {
	char client[CALLER_ADDRESS]; /* the client's address, */
	char local[CALLER_ADDRESS];  /* and that of ours to which it connected; "": not known */
	uint32_t client_port, local_port;
	uint32_t hops; /* proxies in front of us */
};

/* The client at this address as its LEASE describes it: what it says of whom it serves is believed
 * if it is `trusted` and says an address. */
void caller_set(struct caller *to, const struct caller *connected, bool trusted,
		const struct msg_LEASE *lease);

/* Writes the PROXY header (version 2) of this caller: LOCAL for one without addresses, who is
 * nobody. Returns its length. */
size_t caller_write_header(const struct caller *c, unsigned char out[CALLER_HEADER_MAX]);

#endif
