/* A line that comes in pieces and is not stored: its length, its first and last bytes, its tag's
 * hash. */
#ifndef PROXYD_FOLLOW_LINE_H
#define PROXYD_FOLLOW_LINE_H

#include "proxyd/follow.h"

/* The hash of a tag (FNV-1a, 64 bits). */
uint64_t follow_tag_hash(struct span tag);

/* A line that begins. */
void follow_line_init(struct follow_line *l);

/* Adds bytes up to and with the line feed, if there is one; returns how many were taken. The line
 * feed is not part of the line's length, head and tail. *ret_ended: it was there. */
size_t follow_line_add(struct follow_line *l, struct span bytes, bool *ret_ended);

/* The last bytes of the line without a CR at its end, copied in order into out (of sizeof tail). */
struct span follow_line_tail(const struct follow_line *l, char *out);

#endif
