/* Who may connect: allow_addresses and deny_addresses, in place of TCP wrappers. */
#ifndef CACHEBROKERD_ADMIT_H
#define CACHEBROKERD_ADMIT_H

#include "cachebrokerd/broker.h"

/* May a client with this address connect? If not, that is counted and, once a second, logged with
 * `shown`, its address and port. */
bool admit_address(struct broker *b, struct span address, const char *shown);

#endif
