/* Who is calling.
 *
 * The count of proxies is Dovecot's: a number that each one lowers, from 5, so that the first one
 * says 4. Anybody may say it: a wrong one only has its sender refused.
 */
#include "proxyd/caller.h"

#include <errno.h>

#include "lib/cidr.h"
#include "proxyd/imap_args.h"

#define TTL_FIRST  5
#define FIELD_MOST 1024 /* bytes of an ID string (RFC 2971 section 3.3) */

enum field { FIELD_NONE, FIELD_ADDRESS, FIELD_PORT, FIELD_TTL, FIELD_OTHER };

struct field_row {
	struct span name;
	enum field field;
};

static const struct field_row id_fields[] = {
	{ { "x-originating-ip", 16 }, FIELD_ADDRESS },
	{ { "x-originating-port", 18 }, FIELD_PORT },
	{ { "x-proxy-ttl", 11 }, FIELD_TTL },
	{ { "x-connected-ip", 14 }, FIELD_OTHER },
	{ { "x-connected-port", 16 }, FIELD_OTHER },
	{ { "x-session-id", 12 }, FIELD_OTHER },
	{ { "x-session-ext-id", 16 }, FIELD_OTHER },
	{ { "x-connected-name", 16 }, FIELD_OTHER },
};

static const struct field_row xclient_fields[] = {
	{ { "ADDR", 4 }, FIELD_ADDRESS },
	{ { "PORT", 4 }, FIELD_PORT },
	{ { "TTL", 3 }, FIELD_TTL },
};

static enum field find(const struct field_row *rows, size_t count, struct span name)
{
	for (size_t i = 0; i < count; i++)
		if (span_ieq(name, rows[i].name))
			return rows[i].field;
	return FIELD_NONE;
}

static void note_ttl(struct caller_said *said, struct span value)
{
	uint64_t ttl;

	if (span_u64(value, UINT32_MAX, &ttl) < 0)
		return;
	uint32_t hops = ttl >= TTL_FIRST ? 1 : TTL_FIRST - (uint32_t)ttl;

	said->hops = hops > said->hops ? hops : said->hops;
}

static void note(struct caller_said *said, enum field field, struct span value)
{
	struct cidr_address parsed;
	uint64_t port;

	if (field == FIELD_TTL)
		note_ttl(said, value);
	if (field == FIELD_PORT && span_u64(value, UINT16_MAX, &port) == 0)
		said->port = (uint32_t)port;
	if (field != FIELD_ADDRESS || value.n > sizeof(said->address) ||
	    cidr_address_parse(value, &parsed) < 0)
		return;
	memcpy(said->address, value.p, value.n);
	said->address_length = value.n;
}

/* NIL is taken for an empty one. */
static int take_string(struct span *rest, struct buf *value)
{
	value->off = value->len = 0;
	if (rest->n > 0 && rest->p[0] == ' ')
		*rest = span_from(*rest, 1);
	if (!span_istarts(*rest, SPAN("NIL")))
		return imap_take_astring(rest, value);
	*rest = span_from(*rest, 3);
	return 0;
}

/* Appends what stands between two places of the list. */
static int keep(struct span from, struct span to, bool first, struct buf *out)
{
	struct span pair = { from.p, from.n - to.n };

	if (first && pair.n > 0 && pair.p[0] == ' ')
		pair = span_from(pair, 1);
	return buf_add(out, pair);
}

int caller_read_id(struct span list, struct caller_said *ret, struct buf *out)
{
	char name_bytes[FIELD_MOST], value_bytes[FIELD_MOST];
	struct buf name = BUF_OVER(name_bytes), value = BUF_OVER(value_bytes);
	struct span rest = span_from(list, 1);
	bool first = true;
	int r;

	*ret = (struct caller_said){ .hops = 0 };
	if (list.n == 0 || list.p[0] != '(')
		return buf_add(out, list);
	r = buf_add_char(out, '(');
	while (rest.n > 1) {
		struct span pair = rest;

		if (take_string(&rest, &name) < 0 || take_string(&rest, &value) < 0)
			break; /* imap_read_id() has made none such */
		enum field field = find(id_fields, sizeof(id_fields) / sizeof(id_fields[0]),
					buf_span(&name));

		note(ret, field, buf_span(&value));
		if (field != FIELD_NONE || span_istarts(buf_span(&name), SPAN("x-forward-")))
			continue;
		if (r == 0)
			r = keep(pair, rest, first, out);
		first = false;
	}
	return r == 0 ? buf_add_char(out, ')') : r;
}

static uint32_t ttl_of(const struct caller_facts *f)
{
	return f->hops + 1 < TTL_FIRST ? TTL_FIRST - 1 - f->hops : 0;
}

/* "name" "text", or with no text the number. */
static int add_pair(struct buf *out, const char *name, struct span text, uint32_t number)
{
	int r;

	(void)((r = buf_add_str(out, "\"")) || (r = buf_add_str(out, name)) ||
	       (r = buf_add_str(out, "\" \"")) ||
	       (r = text.n > 0 ? buf_add(out, text) : buf_add_u64(out, number)) ||
	       (r = buf_add_str(out, "\"")));
	return r;
}

/* Is it the address of something? "local" is none. */
static bool is_address(struct span text)
{
	struct cidr_address parsed;

	return text.n <= CALLER_ADDRESS_MAX && cidr_address_parse(text, &parsed) == 0;
}

static int add_end(struct buf *out, const char *address, struct span text, const char *port,
		   uint32_t number)
{
	int r;

	(void)((r = add_pair(out, address, text, 0)) || (r = buf_add_char(out, ' ')) ||
	       (r = add_pair(out, port, SPAN_NONE, number)) || (r = buf_add_char(out, ' ')));
	return r;
}

int caller_add_id(const struct caller_facts *f, struct buf *out)
{
	int r = buf_add_char(out, '(');

	if (r == 0 && f->tell && is_address(f->client))
		r = add_end(out, "x-originating-ip", f->client, "x-originating-port",
			    f->client_port);
	if (r == 0 && f->tell && is_address(f->local))
		r = add_end(out, "x-connected-ip", f->local, "x-connected-port", f->local_port);
	if (r == 0)
		r = add_pair(out, "x-proxy-ttl", SPAN_NONE, ttl_of(f));
	return r == 0 ? buf_add_char(out, ')') : r;
}

void caller_read_xclient(struct span args, struct caller_said *ret)
{
	struct span word;

	*ret = (struct caller_said){ .hops = 0 };
	while ((word = span_word(&args, ' ')).n > 0) {
		const char *sign = memchr(word.p, '=', word.n);
		size_t n = sign ? (size_t)(sign - word.p) : word.n;
		enum field field =
			find(xclient_fields, sizeof(xclient_fields) / sizeof(xclient_fields[0]),
			     (struct span){ word.p, n });

		note(ret, field, span_from(word, n + 1));
	}
}

int caller_add_xclient(const struct caller_facts *f, bool addresses, struct buf *out)
{
	int r = buf_add_str(out, "XCLIENT ");

	if (r == 0 && addresses && f->tell && is_address(f->client))
		(void)((r = buf_add_str(out, "ADDR=")) || (r = buf_add(out, f->client)) ||
		       (r = buf_add_str(out, " PORT=")) || (r = buf_add_u64(out, f->client_port)) ||
		       (r = buf_add_char(out, ' ')));
	(void)(r || (r = buf_add_str(out, "TTL=")) || (r = buf_add_u64(out, ttl_of(f))) ||
	       (r = buf_add_str(out, "\r\n")));
	return r;
}
