/* Which addresses are this machine's own. */
#ifndef LIB_LOCALADDR_H
#define LIB_LOCALADDR_H

#include "lib/cidr.h"

/* Is what is sent to this address delivered on this machine, as its kernel says now? When that
 * does not tell, of loopback addresses only. */
bool localaddr_is(const struct cidr_address *address);

#endif
