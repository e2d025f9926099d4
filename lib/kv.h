/* key=value pairs of a log line: foreign bytes are quoted, so that nobody can forge a line or a
 * key. */
#ifndef LIB_KV_H
#define LIB_KV_H

#include "lib/buf.h"

/* Appends " key=value" (no blank in front of the first). A value with anything but letters, digits
 * and
 * ._-@:/+[] is put into double quotes, with \xNN for control and 8-bit bytes, \" and \\. Values are
 * cut at 200 bytes, which "..." behind it shows. 0 or -ENOBUFS. */
int kv_add(struct buf *out, const char *key, struct span value);

/* The same with a number. */
int kv_add_u64(struct buf *out, const char *key, uint64_t value);

#endif
