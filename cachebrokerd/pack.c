/* The codec of the pack: as that of the local messages (lib/msg.c), one walk over a row's field
 * list encodes, one decodes.
 *
 * The bytes come from our predecessor by way of the supervisor; they are judged all the same, since
 * a broker that dies of them would die again and again.
 */
#include "cachebrokerd/pack.h"

#include <errno.h>

#include "lib/buf.h"

enum field_type { FIELD_U32, FIELD_U64, FIELD_KEY, FIELD_TEXT };

struct field {
	enum field_type type;
	size_t offset; /* in struct pack_record */
	size_t longest;
};

struct row {
	const struct field *fields;
	size_t count;
	enum pack_type type;
	unsigned sockets;
};

struct prefix {
	char magic[8];
	uint32_t version, messages;
};

_Static_assert(sizeof(struct prefix) == PACK_PREFIX, "the prefix has no gaps");

static const char magic[8] = { 'k', 'e', 'e', 'p', 'w', 'a', 'r', 'm' };

#define OF_U32(N, name)		  { FIELD_U32, offsetof(struct pack_record, N.name), 0 },
#define OF_U64(N, name)		  { FIELD_U64, offsetof(struct pack_record, N.name), 0 },
#define OF_KEY(N, name)		  { FIELD_KEY, offsetof(struct pack_record, N.name), 0 },
#define OF_TEXT(N, name, longest) { FIELD_TEXT, offsetof(struct pack_record, N.name), longest },
#define FIELD_LIST(name, number, sockets, FIELDS) \
	static const struct field fields_##name[] = { FIELDS(name, OF_U32, OF_U64, OF_KEY, \
							     OF_TEXT) };
PACK_TABLE(FIELD_LIST)

#define ROW(name_, number, sockets_, FIELDS) \
	{ .fields = fields_##name_, \
	  .count = sizeof(fields_##name_) / sizeof(fields_##name_[0]), \
	  .type = number, \
	  .sockets = sockets_ },
static const struct row rows[] = { PACK_TABLE(ROW) };

static const size_t sizes[] = { [FIELD_U32] = 4, [FIELD_U64] = 8, [FIELD_KEY] = KEY_BYTES };

static const struct row *find_row(unsigned type)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if ((unsigned)rows[i].type == type)
			return &rows[i];
	return NULL;
}

void pack_prefix(char data[PACK_PREFIX])
{
	struct prefix p = { .version = PACK_VERSION, .messages = MSG_VERSION };

	memcpy(p.magic, magic, sizeof(magic));
	memcpy(data, &p, sizeof(p));
}

/* Copies size bytes off the front of rest. */
static int take(struct span *rest, void *to, size_t size)
{
	if (rest->n < size)
		return -EBADMSG;
	memcpy(to, rest->p, size);
	*rest = span_from(*rest, size);
	return 0;
}

int pack_take_prefix(struct span *rest, uint32_t *ret_version, uint32_t *ret_messages)
{
	struct prefix p;

	if (take(rest, &p, sizeof(p)) < 0 || memcmp(p.magic, magic, sizeof(magic)) != 0)
		return -EBADMSG;
	*ret_version = p.version;
	*ret_messages = p.messages;
	return p.version == PACK_VERSION && p.messages == MSG_VERSION ? 0 : -EPROTONOSUPPORT;
}

static int encode_field(struct buf *out, const struct pack_record *record, const struct field *f)
{
	const char *from = (const char *)record + f->offset;

	if (f->type != FIELD_TEXT)
		return buf_add(out, (struct span){ from, sizes[f->type] });

	const struct span *text = (const void *)from;
	uint32_t n = (uint32_t)text->n;

	if (text->n > f->longest)
		return -ENOBUFS;
	int r = buf_add(out, (struct span){ (const char *)&n, sizeof(n) });

	return r < 0 ? r : buf_add(out, *text);
}

/* FNV-1a: against damage, not against anybody. */
static uint32_t hash(struct span record)
{
	uint32_t h = 0x811c9dc5;

	for (size_t i = 0; i < record.n; i++)
		h = (h ^ (unsigned char)record.p[i]) * 0x01000193;
	return h;
}

static int add_hash(struct buf *out)
{
	uint32_t h = hash(buf_span(out));

	return buf_add(out, (struct span){ (const char *)&h, sizeof(h) });
}

int pack_encode(const struct pack_record *record, char *data, size_t cap)
{
	const struct row *row = find_row(record->type);
	struct buf out = { .data = data, .cap = cap };
	uint32_t type = record->type;

	if (!row)
		return -EINVAL;
	int r = buf_add(&out, (struct span){ (const char *)&type, sizeof(type) });

	for (size_t i = 0; r == 0 && i < row->count; i++)
		r = encode_field(&out, record, &row->fields[i]);
	if (r == 0)
		r = add_hash(&out);
	return r < 0 ? r : (int)out.len;
}

static int decode_field(struct span *rest, struct pack_record *record, const struct field *f)
{
	void *to = (char *)record + f->offset;
	uint32_t n;

	if (f->type != FIELD_TEXT)
		return take(rest, to, sizes[f->type]);
	if (take(rest, &n, sizeof(n)) < 0 || n > f->longest || n > rest->n)
		return -EBADMSG;
	*(struct span *)to = (struct span){ rest->p, n };
	*rest = span_from(*rest, n);
	return 0;
}

int pack_decode(struct span *rest, struct pack_record *ret)
{
	const char *begin = rest->p;
	uint32_t type, said;

	if (rest->n == 0)
		return 0;
	if (take(rest, &type, sizeof(type)) < 0)
		return -EBADMSG;
	const struct row *row = find_row(type);

	if (!row)
		return -EBADMSG;
	ret->type = row->type;
	for (size_t i = 0; i < row->count; i++)
		if (decode_field(rest, ret, &row->fields[i]) < 0)
			return -EBADMSG;
	struct span record = { begin, (size_t)(rest->p - begin) };

	return take(rest, &said, sizeof(said)) < 0 || said != hash(record) ? -EBADMSG : 1;
}

unsigned pack_sockets(enum pack_type type)
{
	const struct row *row = find_row(type);

	return row ? row->sockets : 0;
}
