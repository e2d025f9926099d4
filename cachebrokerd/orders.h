/* What an administrator has ordered of mail hosts: drained, paused. Names may be ones that no
 * account has led to yet: a maintenance can be planned.
 */
#ifndef CACHEBROKERD_ORDERS_H
#define CACHEBROKERD_ORDERS_H

#include "lib/span.h"
#include "cachebrokerd/state_names.h"

/* One or all ports of a mail host, as an administrator names it. */
struct host_name {
	struct span name; /* borrows the text that was read */
	uint32_t port;	  /* 0: all */
};

/* Reads NAME, NAME:PORT, ADDRESS, [ADDRESS] or [ADDRESS]:PORT. 0 or -EINVAL. */
int host_name_read(struct span text, struct host_name *ret);

/* Reads what hosts are labelled with, "name:port", in which an address has no brackets. 0 or
 * -EINVAL. */
int host_label_read(struct span label, struct host_name *ret);

/* Is it this one? Letters' case is no matter. */
bool host_name_is(const struct host_name *n, struct span name, uint32_t port);

/* What is ordered of this host; what names its port counts more than what names all of them. */
enum statefile_order_kind orders_of(const struct state_names *t, struct span name, uint32_t port);

/* Orders it, in the place of what was ordered of exactly this, and of single ports of what is named
 * as a whole. 0; -ENOSPC: there are too many orders. */
int orders_give(struct state_names *t, const struct host_name *n, enum statefile_order_kind kind,
		int64_t now);

/* Takes such orders back. Returns how many there were; -EBUSY: one of the whole host would still
 * hold for this port, and nothing was taken back. */
int orders_take_back(struct state_names *t, const struct host_name *n);

#endif
