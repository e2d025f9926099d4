/* Numbers, times and foreign text for people. Pure, but for the locale's character set. */
#ifndef PIMPSTAT_FORMAT_H
#define PIMPSTAT_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/span.h"

/* Each writes a NUL-terminated text into text; 32 bytes are enough. */

/* "1 234 567" */
void format_count(uint64_t count, char *text, size_t cap);

/* "999 B", "1.2 kB", "34 MB": seven columns at most. */
void format_bytes(uint64_t bytes, char *text, size_t cap);

/* "12 s", "4m 05s", "3h 12m", "2d 04h", "1200 d". Negative seconds are 0. */
void format_age(int64_t seconds, char *text, size_t cap);

/* "04:12:07" or "3 d 04:12:07". Negative seconds are 0. */
void format_duration(int64_t seconds, char *text, size_t cap);

/* "2026-11-22 14:22:07" in this process's time zone; "-" for times before 1970. */
void format_time(int64_t when, char *text, size_t cap);

/* "98.2 %", or "-" when `whole` is 0. */
void format_share(uint64_t part, uint64_t whole, char *text, size_t cap);

/* Foreign bytes so that they cannot command a terminal: printable ASCII as it is, \\ for a
 * backslash, with utf8 also printable characters of the locale that take up room, \xNN for each
 * other byte. What does not fit into `columns` is cut and marked with '~' or an ellipsis. Returns
 * how many columns it takes. cap: 4 * columns + 8 bytes are enough. */
unsigned format_foreign(struct span bytes, bool utf8, unsigned columns, char *text, size_t cap);

#endif
