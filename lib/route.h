/* Where an account's mail is, as lookupd tells the broker: mail hosts in the order to try them.
 *
 * The text is "MODE PORT HOST" for each, separated by spaces; MODE is a number of enum tls_mode.
 * Everything that the configuration decides (the port of a host without one, its TLS) has been
 * decided in it. The single word "local" is this host's own server: which one that is the broker
 * knows from the configuration, and nobody else can say. Pure.
 */
#ifndef LIB_ROUTE_H
#define LIB_ROUTE_H

#include "lib/buf.h"
#include "lib/config.h"

#define ROUTE_HOSTS_MOST 8
#define ROUTE_TEXT_MAX	 2200

struct route {
	bool local;	  /* this host's own server: no more is said here (but see selfhost.h) */
	struct span host; /* a name or an address, without brackets */
	uint32_t port;
	enum tls_mode tls;
};

/* May this be the name or the address of a mail host: 1 to 255 bytes, of letters, digits and
 * . - _ : (and % for an address' zone) only? */
bool route_is_host(struct span host);

/* Appends a host. 0; -EINVAL when it is none; -ENOBUFS. */
int route_add(struct buf *text, const struct route *r);

/* Cuts the next host off the front of the text. 1: *ret is it, and borrows the text; 0: there is no
 * more; -EBADMSG: the text is not one of route_add(). */
int route_next(struct span *text, struct route *ret);

#endif
