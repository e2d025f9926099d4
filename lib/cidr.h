/* Lists of networks: "10.0.0.0/8, 2001:db8::/32 192.0.2.1", or the words all and none.
 *
 * Networks are separated by blanks or commas. One without a length is a single address. An address
 * is what a peer has: IPv4 as ::ffff:a.b.c.d, whatever socket it came in by, so that 10.0.0.0/8
 * holds a client of a :: socket, too. A network of IPv6 never holds an IPv4 address (::/0 is IPv6
 * only), unless it lies within ::ffff:0:0/96. Nothing is allocated and nothing is kept: a list is
 * its text.
 */
#ifndef LIB_CIDR_H
#define LIB_CIDR_H

#include <sys/socket.h>

#include "lib/span.h"

struct cidr_address {
	uint8_t bytes[16];
};

struct cidr {
	struct cidr_address address;
	unsigned length; /* bits, 0 to 128 */
	bool ipv6;	 /* written as IPv6 */
};

/* Reads "192.0.2.1" or "2001:db8::1". Returns 0 or -EINVAL. */
int cidr_address_parse(struct span text, struct cidr_address *ret);

/* The address of a peer as the kernel tells it. Returns 0, or -EAFNOSUPPORT when it has none. */
int cidr_address_of(const struct sockaddr *peer, struct cidr_address *ret);

/* Reads one network. Returns 0; -EINVAL when it is none; -EDOM when bits behind its length are set
 * (10.1.2.3/8), since nobody can tell what was meant. */
int cidr_parse(struct span text, struct cidr *ret);

/* Is the address in the network? */
bool cidr_has(const struct cidr *network, const struct cidr_address *address);

/* Checks a list. Returns 0; else -EINVAL or -EDOM and in *ret_bad the part of the list that is
 * wrong. */
int cidr_list_check(struct span list, struct span *ret_bad);

/* Is the address in the list? NULL is a peer without one (a local socket), which only "all" holds.
 * Parts that are wrong hold nothing. */
bool cidr_list_has(struct span list, const struct cidr_address *address);

/* The same for an address as text; anything else is a peer without one. */
bool cidr_list_holds(struct span list, struct span address);

/* May a peer with this address (as text; anything else is a peer without one) connect? Who is in
 * deny may not, who is not in allow may not either. */
bool cidr_permits(struct span allow, struct span deny, struct span address);

#endif
