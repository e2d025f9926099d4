/* Borrowed bytes: a pointer and a length, never NUL-terminated, never owned.
 *
 * Everything that comes from outside (a client, a backend, another process) is a span until it has
 * been checked. A span lives as long as the buffer it points into; who stores one says so.
 */
#ifndef LIB_SPAN_H
#define LIB_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
	const char *p;
	size_t n;
};

#define SPAN(literal) ((struct span){ "" literal, sizeof(literal) - 1 })
#define SPAN_NONE     ((struct span){ "", 0 })

/* The bytes of a NUL-terminated string, without the NUL. */
static inline struct span span_str(const char *s)
{
	return (struct span){ s, strlen(s) };
}

/* The same bytes? Not for secrets: the time taken depends on the content. */
bool span_eq(struct span a, struct span b);

/* The same text, ASCII letters in any case (RFC 9051 section 1.2: atoms are case-insensitive)? */
bool span_ieq(struct span a, struct span b);

/* Does a begin with prefix, ASCII letters in any case? */
bool span_istarts(struct span a, struct span prefix);

/* Does hay contain needle, ASCII letters in any case? The needle is not empty. */
bool span_ihas(struct span hay, struct span needle);

/* Printable ASCII only? */
bool span_is_printable(struct span s);

/* The same bytes, in a time that depends on the lengths only. For digests and secrets. */
bool span_eq_secret(struct span a, struct span b);

/* Cuts the next word off the front of rest: leading separators are skipped, the word ends before
 * the next separator or at the end. Returns an empty span when nothing is left. */
struct span span_word(struct span *rest, char separator);

/* The bytes from offset on; empty when offset is behind the end. */
struct span span_from(struct span s, size_t offset);

/* An unsigned decimal number that fills the whole span. Returns 0 and sets *ret, or -EINVAL for
 * anything that is no plain run of digits, -ERANGE for more than max. */
int span_u64(struct span s, uint64_t max, uint64_t *ret);

#endif
