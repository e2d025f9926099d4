/* A bounded byte buffer. Invariant: off + len <= cap, and off is 0 when len is 0. */
#include "lib/buf.h"

#include <assert.h>
#include <errno.h>

#include "lib/large.h"

static void move_to_front(struct buf *b)
{
	if (b->off == 0)
		return;
	memmove(b->data, b->data + b->off, b->len);
	explicit_bzero(b->data + b->len, b->off); /* what was there may have been a secret */
	b->off = 0;
}

int buf_add(struct buf *b, struct span s)
{
	if (s.n > b->cap - b->len)
		return -ENOBUFS;
	if (s.n > b->cap - b->off - b->len)
		move_to_front(b);
	if (s.n > 0)
		memcpy(b->data + b->off + b->len, s.p, s.n);
	buf_filled(b, s.n);
	return 0;
}

int buf_add_str(struct buf *b, const char *s)
{
	return buf_add(b, span_str(s));
}

/* Not by buf_add(): log lines are made of single bytes, and for one of them memcpy() costs much to
 * begin with. */
int buf_add_char(struct buf *b, char c)
{
	if (b->len == b->cap)
		return -ENOBUFS;
	if (b->off + b->len == b->cap)
		move_to_front(b);
	b->data[b->off + b->len] = c;
	buf_filled(b, 1);
	return 0;
}

int buf_add_u64(struct buf *b, uint64_t value)
{
	char digits[20];
	size_t at = sizeof(digits);

	do {
		digits[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	return buf_add(b, (struct span){ digits + at, sizeof(digits) - at });
}

char *buf_tail(struct buf *b, size_t *room)
{
	move_to_front(b);
	*room = b->cap - b->len;
	return b->data + b->len;
}

void buf_filled(struct buf *b, size_t n)
{
	assert(n <= b->cap - b->off - b->len);
	b->len += n;
	if (b->off + b->len > b->dirty)
		b->dirty = b->off + b->len;
}

int buf_replace(struct buf *b, size_t at, size_t n, struct span s)
{
	assert(at <= b->len && n <= b->len - at);
	if (s.n > b->cap - (b->len - n))
		return -ENOBUFS;
	if (s.n > n && s.n - n > b->cap - b->off - b->len)
		move_to_front(b);
	char *hole = b->data + b->off + at;
	size_t behind = b->len - at - n;

	memmove(hole + s.n, hole + n, behind);
	if (s.n > 0)
		memcpy(hole, s.p, s.n);
	b->len = at + behind;
	buf_filled(b, s.n);
	if (b->len == 0)
		b->off = 0;
	return 0;
}

void buf_consume(struct buf *b, size_t n)
{
	assert(n <= b->len);
	b->len -= n;
	b->off = b->len == 0 ? 0 : b->off + n;
}

void buf_consume_secret(struct buf *b, size_t n)
{
	assert(n <= b->len);
	explicit_bzero(b->data + b->off, n);
	buf_consume(b, n);
}

void buf_release(struct buf *b)
{
	if (b->len > 0)
		return;
	large_release(b->data, b->cap);
	b->dirty = 0;
}

void buf_wipe(struct buf *b)
{
	b->off = 0;
	b->len = 0;
	explicit_bzero(b->data, b->dirty);
	b->dirty = 0;
}
