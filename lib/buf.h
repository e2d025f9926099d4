/* A bounded byte buffer over memory of the caller's: bytes go in at the end and leave at the front.
 *
 * data[off .. off+len) holds the content. Nothing grows: what does not fit is -ENOBUFS and changes
 * nothing, so that appends can be chained with || and checked once. A buffer that held a secret is
 * ended with buf_wipe().
 */
#ifndef LIB_BUF_H
#define LIB_BUF_H

#include "lib/span.h"

struct buf {
	char *data;
	size_t cap;
	size_t off;
	size_t len;
	size_t dirty; /* nothing was ever written behind this */
};

/* An empty buffer over an array. */
#define BUF_OVER(array) ((struct buf){ .data = (array), .cap = sizeof(array) })

/* The content, valid until the next change. */
static inline struct span buf_span(const struct buf *b)
{
	return (struct span){ b->data + b->off, b->len };
}

/* Appends; moves the content to the front first when that makes the room. 0 or -ENOBUFS. */
int buf_add(struct buf *b, struct span s);
int buf_add_str(struct buf *b, const char *s);
int buf_add_char(struct buf *b, char c);
int buf_add_u64(struct buf *b, uint64_t value);

/* Where up to *room further bytes may be written before buf_filled(); the content is moved to the
 * front first. *room is 0 when the buffer is full. */
char *buf_tail(struct buf *b, size_t *room);

/* n bytes were written at buf_tail(). */
void buf_filled(struct buf *b, size_t n);

/* Puts s in the place of n bytes of the content at position `at`. 0 or -ENOBUFS. */
int buf_replace(struct buf *b, size_t at, size_t n, struct span s);

/* Takes n bytes (at most the content) off the front. */
void buf_consume(struct buf *b, size_t n);

/* Takes n bytes off the front and overwrites them: they were a secret. */
void buf_consume_secret(struct buf *b, size_t n);

/* Gives the memory of an empty buffer over a LARGE array (large.h) back to the kernel. One that is
 * not empty stays as it is. */
void buf_release(struct buf *b);

/* Empties the buffer and overwrites all that was ever written. */
void buf_wipe(struct buf *b);

#endif
