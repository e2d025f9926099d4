/* Who may connect: allow_addresses and deny_addresses, in place of TCP wrappers, and max_per_ip. */
#ifndef CACHEBROKERD_ADMIT_H
#define CACHEBROKERD_ADMIT_H

#include "cachebrokerd/broker.h"

/* Is this address that of a proxy whose connections begin with a PROXY header? It may connect
 * itself whatever the other lists say; who it announces is asked for by his own address. */
bool admit_is_proxy(const struct broker *b, struct span address);

/* The proxy shown sent no header, or a bad one: logged once a second. */
void admit_note_header(const char *shown);

/* May a client with this address connect? If not, that is counted and, once a second, logged with
 * `shown`, its address and port. */
bool admit_address(struct broker *b, struct span address, const char *shown);

/* One that may not, as its process has found: counted and logged alike, but for its end. */
void admit_note_denied(struct broker *b, const char *shown);

/* May there be one more connection with this address for this service? If so, it is counted, until
 * admit_gone(); if not, that is counted and logged as above. One `served` already may. */
bool admit_one_more(struct broker *b, uint32_t service, const char *address, bool served,
		    const char *shown);
void admit_gone(struct broker *b, uint32_t service, const char *address);

#endif
