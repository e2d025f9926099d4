/* The codec of the local messages: one walk over a row's field list encodes, one decodes.
 *
 * What comes in is judged in full before anything of it is used: version, type, role of the sender,
 * number of descriptors, each length against the row's bound, and that nothing is left over.
 */
#include "lib/msg.h"

#include <errno.h>

#include "lib/buf.h"

enum field_type { FIELD_U32, FIELD_U64, FIELD_TEXT };

struct field {
	enum field_type type;
	size_t offset; /* in struct msg */
	size_t longest;
};

struct row {
	const char *name;
	const struct field *fields;
	size_t count;
	enum msg_type type;
	unsigned senders;
	unsigned descriptors;
};

struct header {
	uint8_t version;
	uint8_t type;
	uint16_t zero;
	uint32_t serial;
};

#define OF_U32(N, name)		  { FIELD_U32, offsetof(struct msg, N.name), 0 },
#define OF_U64(N, name)		  { FIELD_U64, offsetof(struct msg, N.name), 0 },
#define OF_TEXT(N, name, longest) { FIELD_TEXT, offsetof(struct msg, N.name), longest },
#define FIELD_LIST(name, number, senders, descriptors, FIELDS) \
	static const struct field fields_##name[] = { FIELDS(name, OF_U32, OF_U64, OF_TEXT) };
MSG_TABLE(FIELD_LIST)

#define ROW(name_, number, senders_, descriptors_, FIELDS) \
	{ .name = #name_, .fields = fields_##name_, \
	  .count = sizeof(fields_##name_) / sizeof(fields_##name_[0]), .type = number, \
	  .senders = senders_, .descriptors = descriptors_ },
static const struct row rows[] = { MSG_TABLE(ROW) };

static const struct row *find_row(unsigned type)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if ((unsigned)rows[i].type == type)
			return &rows[i];
	return NULL;
}

static const void *member(const struct msg *m, const struct field *f)
{
	return (const char *)m + f->offset;
}

static int add_number(struct buf *out, const void *number, size_t size)
{
	return buf_add(out, (struct span){ number, size });
}

static int encode_field(struct buf *out, const struct msg *m, const struct field *f)
{
	if (f->type != FIELD_TEXT)
		return add_number(out, member(m, f), f->type == FIELD_U32 ? 4 : 8);

	const struct span *text = member(m, f);
	uint16_t n = (uint16_t)text->n;

	if (text->n > f->longest)
		return -ENOBUFS;
	int r = add_number(out, &n, sizeof(n));

	return r < 0 ? r : buf_add(out, *text);
}

int msg_encode(const struct msg *m, char *data, size_t cap)
{
	const struct row *row = find_row(m->type);
	struct buf out = { .data = data, .cap = cap };

	if (!row)
		return -EINVAL;

	struct header header = { .version = MSG_VERSION,
				 .type = (uint8_t)m->type,
				 .serial = m->serial };
	int r = buf_add(&out, (struct span){ (const char *)&header, sizeof(header) });

	for (size_t i = 0; r == 0 && i < row->count; i++)
		r = encode_field(&out, m, &row->fields[i]);
	return r < 0 ? r : (int)out.len;
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

static int decode_field(struct span *rest, struct msg *m, const struct field *f)
{
	void *to = (char *)m + f->offset;
	uint16_t n;

	if (f->type != FIELD_TEXT)
		return take(rest, to, f->type == FIELD_U32 ? 4 : 8);
	if (take(rest, &n, sizeof(n)) < 0 || n > f->longest || n > rest->n)
		return -EBADMSG;
	*(struct span *)to = (struct span){ rest->p, n };
	*rest = span_from(*rest, n);
	return 0;
}

int msg_decode(struct span data, enum msg_role sender, unsigned descriptors, struct msg *m)
{
	struct header header;

	if (take(&data, &header, sizeof(header)) < 0)
		return -EBADMSG;
	if (header.version != MSG_VERSION)
		return -EPROTONOSUPPORT;

	const struct row *row = find_row(header.type);

	if (!row || header.zero != 0)
		return -EBADMSG;
	if (!(row->senders & sender))
		return -EPERM;
	if (row->descriptors != descriptors)
		return -EBADMSG;
	m->type = row->type;
	m->serial = header.serial;
	for (size_t i = 0; i < row->count; i++) {
		int r = decode_field(&data, m, &row->fields[i]);

		if (r < 0)
			return r;
	}
	return data.n == 0 ? 0 : -EBADMSG;
}

unsigned msg_descriptors(enum msg_type type)
{
	const struct row *row = find_row(type);

	return row ? row->descriptors : 0;
}

const char *msg_name(enum msg_type type)
{
	const struct row *row = find_row(type);

	return row ? row->name : "?";
}

const char *msg_service_name(uint32_t service)
{
	switch (service) {
	case SERVICE_IMAP:
		return "imap";
	case SERVICE_POP3:
		return "pop3";
	default:
		return NULL;
	}
}
