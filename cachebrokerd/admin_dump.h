/* XPROXY_DUMPICC: a list of all backend connections, in use and cached, page by page. */
#ifndef CACHEBROKERD_ADMIN_DUMP_H
#define CACHEBROKERD_ADMIN_DUMP_H

#include "cachebrokerd/broker.h"
#include "lib/buf.h"

/* Appends lines "* XPROXY_DUMPICC number user Active|Cached" in the order of their numbers, those
 * between `from` and `until`, neither included, as many as fit. Returns the last number when there
 * may be more, else 0. */
uint64_t admin_dump(const struct broker *b, uint64_t from, uint64_t until, struct buf *out);

#endif
