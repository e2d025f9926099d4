/* Where a server of this host is, as the configuration names it: HOST:PORT, [ADDRESS]:PORT or
 * unix:/PATH. Pure. */
#ifndef LIB_PLACE_H
#define LIB_PLACE_H

#include "lib/span.h"

#define PLACE_PATH_MAX 107 /* what a socket address has room for */

struct place {
	struct span host; /* without brackets; unix: and the path, if it is one */
	uint32_t port;	  /* 0: it is a path */
};

/* Reads one; *ret borrows the value. NULL, or what is allowed, for people. */
const char *place_read(const char *value, struct place *ret);

/* The path of a host that place_read() has found to be one; NULL for any other host. */
const char *place_path(const char *host);

#endif
