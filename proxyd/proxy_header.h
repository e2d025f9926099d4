/* The PROXY header, with which a proxy in front of us says whose connection it passes on (HAProxy's
 * specification, proxy-protocol.txt, version 1 and 2). Pure.
 */
#ifndef PROXYD_PROXY_HEADER_H
#define PROXYD_PROXY_HEADER_H

#include "lib/span.h"

#define PROXY_HEADER_V1_MAX 107	 /* bytes, with CRLF */
#define PROXY_HEADER_MAX    2048 /* bytes of version 2, with what it adds to the addresses */
#define PROXY_ADDRESS_MAX   46	 /* of an address as text, with its NUL */

struct proxy_header {
	bool own; /* it is the proxy's own connection (LOCAL), or it does not know: no addresses */
	uint32_t client_port, local_port;
	char client[PROXY_ADDRESS_MAX]; /* IPv4 as such, also where it came as ::ffff:a.b.c.d */
	char local[PROXY_ADDRESS_MAX];	/* what the client connected to */
};

/* Reads the header that a stream begins with. Returns its length when it is complete; 0 when more
 * is needed, and then all of `bytes` belongs to it; -EINVAL when it is none. Never 0 for
 * PROXY_HEADER_MAX bytes. */
int proxy_header_read(struct span bytes, struct proxy_header *ret);

#endif
