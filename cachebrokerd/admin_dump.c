/* XPROXY_DUMPICC.
 *
 * Nothing is kept between two pages: each looks at all sessions and idle connections and takes
 * those with the lowest numbers behind the last page. So who reads slowly holds up nobody, and
 * costs no memory.
 */
#include "cachebrokerd/admin_dump.h"

#include "cachebrokerd/client.h"
#include "cachebrokerd/host.h"

#define ROWS 100 /* of a page */

struct row {
	uint64_t number;
	struct span user;
	bool active;
};

struct page {
	uint64_t from, until;
	size_t count;
	struct row rows[ROWS]; /* in the order of their numbers */
};

static void note(struct page *p, uint64_t number, struct span user, bool active)
{
	size_t at = p->count;

	if (number <= p->from || number >= p->until)
		return;
	if (at == ROWS) {
		if (number > p->rows[ROWS - 1].number)
			return;
		at--;
	} else {
		p->count++;
	}
	for (; at > 0 && p->rows[at - 1].number > number; at--)
		p->rows[at] = p->rows[at - 1];
	p->rows[at] = (struct row){ number, user, active };
}

static void collect(const struct broker *b, struct page *p)
{
	for (const struct client *c = b->clients; c; c = c->next)
		if (c->connection || c->orphan)
			note(p, c->id, (struct span){ c->lease.user, c->lease.user_length }, true);
	for (const struct host *h = b->hosts; h; h = h->next)
		for (const struct connection *c = h->idle; c; c = c->host_next)
			note(p, c->id, span_str(c->user), false);
}

static bool is_atom_byte(char c)
{
	return c > ' ' && c <= '~' && c != '"' && c != '\\';
}

static int add_byte(struct buf *out, char c)
{
	static const char digits[] = "0123456789abcdef";
	unsigned char byte = (unsigned char)c;
	const char hex[4] = { '\\', 'x', digits[byte >> 4], digits[byte & 15] };
	const char escaped[2] = { '\\', c };

	if (c == '"' || c == '\\')
		return buf_add(out, (struct span){ escaped, sizeof(escaped) });
	if (c < ' ' || c > '~')
		return buf_add(out, (struct span){ hex, sizeof(hex) });
	return buf_add_char(out, c);
}

/* As it is, or in quotes where that could be taken for something else. */
static int add_user(struct buf *out, struct span user)
{
	bool plain = user.n > 0;
	int r;

	for (size_t i = 0; plain && i < user.n; i++)
		plain = is_atom_byte(user.p[i]);
	if (plain)
		return buf_add(out, user);
	r = buf_add_char(out, '"');
	for (size_t i = 0; r == 0 && i < user.n; i++)
		r = add_byte(out, user.p[i]);
	return r < 0 ? r : buf_add_char(out, '"');
}

static int add_row(struct buf *out, const struct row *row)
{
	int r;

	(void)((r = buf_add_str(out, "* XPROXY_DUMPICC ")) || (r = buf_add_u64(out, row->number)) ||
	       (r = buf_add_char(out, ' ')) || (r = add_user(out, row->user)) ||
	       (r = buf_add_str(out, row->active ? " Active\r\n" : " Cached\r\n")));
	return r;
}

uint64_t admin_dump(const struct broker *b, uint64_t from, uint64_t until, struct buf *out)
{
	static struct page p;

	p = (struct page){ .from = from, .until = until };
	collect(b, &p);
	for (size_t i = 0; i < p.count; i++) {
		size_t before = out->len;

		if (add_row(out, &p.rows[i]) < 0) {
			out->len = before;
			return i > 0 ? p.rows[i - 1].number : p.rows[i].number;
		}
	}
	return p.count == ROWS ? p.rows[ROWS - 1].number : 0;
}
