/* A line that comes in pieces. Pure.
 *
 * tail is a ring: byte i of the line stands at i % sizeof(tail), so that adding a piece never moves
 * what is there.
 */
#include "proxyd/follow_line.h"

#define FNV_START 0xcbf29ce484222325u
#define FNV_PRIME 0x100000001b3u

uint64_t follow_tag_hash(struct span tag)
{
	uint64_t hash = FNV_START;

	for (size_t i = 0; i < tag.n; i++)
		hash = (hash ^ (unsigned char)tag.p[i]) * FNV_PRIME;
	return hash;
}

void follow_line_init(struct follow_line *l)
{
	l->length = 0;
	l->tag = FNV_START;
	l->in_tag = true;
}

static void add_tag(struct follow_line *l, struct span piece)
{
	for (size_t i = 0; l->in_tag && i < piece.n; i++) {
		if (piece.p[i] == ' ' || piece.p[i] == '\r')
			l->in_tag = false;
		else
			l->tag = (l->tag ^ (unsigned char)piece.p[i]) * FNV_PRIME;
	}
}

static void add_head_and_tail(struct follow_line *l, struct span piece)
{
	size_t from = piece.n > sizeof(l->tail) ? piece.n - sizeof(l->tail) : 0;

	for (size_t i = 0; i < piece.n && l->length + i < sizeof(l->head); i++)
		l->head[l->length + i] = piece.p[i];
	for (size_t i = from; i < piece.n; i++)
		l->tail[(l->length + i) % sizeof(l->tail)] = piece.p[i];
}

size_t follow_line_add(struct follow_line *l, struct span bytes, bool *ret_ended)
{
	const char *end = memchr(bytes.p, '\n', bytes.n);
	struct span piece = { bytes.p, end ? (size_t)(end - bytes.p) : bytes.n };

	add_tag(l, piece);
	add_head_and_tail(l, piece);
	l->length += piece.n;
	*ret_ended = end != NULL;
	return piece.n + (end != NULL);
}

struct span follow_line_tail(const struct follow_line *l, char *out)
{
	size_t have = l->length < sizeof(l->tail) ? (size_t)l->length : sizeof(l->tail);

	for (size_t i = 0; i < have; i++)
		out[i] = l->tail[(l->length - have + i) % sizeof(l->tail)];
	if (have > 0 && out[have - 1] == '\r')
		have--;
	return (struct span){ out, have };
}
