/* The orders' names. In the table they stand in one spelling: small letters, "name" or "name:port",
 * an address of IPv6 in brackets if a port follows. Pure.
 */
#include "cachebrokerd/orders.h"

#include <errno.h>

#include "lib/buf.h"
#include "lib/route.h"

#define PORT_MOST 65535

static int read_port(struct span text, uint32_t *ret)
{
	uint64_t port;

	if (span_u64(text, PORT_MOST, &port) < 0 || port == 0)
		return -EINVAL;
	*ret = (uint32_t)port;
	return 0;
}

static size_t find_byte(struct span text, char c)
{
	size_t i = 0;

	while (i < text.n && text.p[i] != c)
		i++;
	return i;
}

static bool has_byte(struct span text, char c)
{
	return find_byte(text, c) < text.n;
}

/* Behind a bracket: nothing, or a port. */
static int read_bracketed(struct span text, struct host_name *ret)
{
	size_t end = find_byte(text, ']');

	if (end == text.n)
		return -EINVAL;
	ret->name = (struct span){ text.p + 1, end - 1 };
	struct span rest = span_from(text, end + 1);

	if (rest.n == 0)
		return 0;
	return rest.p[0] == ':' ? read_port(span_from(rest, 1), &ret->port) : -EINVAL;
}

int host_name_read(struct span text, struct host_name *ret)
{
	struct host_name n = { .name = text };
	size_t colon = find_byte(text, ':');
	int r = 0;

	if (text.n > 0 && text.p[0] == '[') {
		r = read_bracketed(text, &n);
	} else if (colon < text.n && !has_byte(span_from(text, colon + 1), ':')) {
		n.name.n = colon;
		r = read_port(span_from(text, colon + 1), &n.port);
	}
	if (r < 0 || !route_is_host(n.name))
		return -EINVAL;
	*ret = n;
	return 0;
}

int host_label_read(struct span label, struct host_name *ret)
{
	size_t colon = label.n;

	while (colon > 0 && label.p[colon - 1] != ':')
		colon--;
	if (colon == 0)
		return -EINVAL;
	ret->name = (struct span){ label.p, colon - 1 };
	return read_port(span_from(label, colon), &ret->port);
}

bool host_name_is(const struct host_name *n, struct span name, uint32_t port)
{
	return span_ieq(n->name, name) && (n->port == 0 || n->port == port);
}

static enum statefile_order_kind kind_of(const struct state_name *o)
{
	return o->order.kind == STATEFILE_ORDER_DRAIN	? STATEFILE_ORDER_DRAIN
	       : o->order.kind == STATEFILE_ORDER_PAUSE ? STATEFILE_ORDER_PAUSE
							: STATEFILE_ORDER_NONE;
}

enum statefile_order_kind orders_of(const struct state_names *t, struct span name, uint32_t port)
{
	enum statefile_order_kind whole = STATEFILE_ORDER_NONE;

	for (size_t i = 0; i < t->count; i++) {
		struct host_name n;

		if (host_name_read(state_name_text(&t->all[i]), &n) < 0 ||
		    !host_name_is(&n, name, port))
			continue;
		if (n.port > 0)
			return kind_of(&t->all[i]);
		whole = kind_of(&t->all[i]);
	}
	return whole;
}

/* The name in the table's spelling. */
static int spell(const struct host_name *n, struct buf *out)
{
	bool brackets = n->port > 0 && has_byte(n->name, ':');
	int r = brackets ? buf_add_char(out, '[') : 0;

	for (size_t i = 0; r == 0 && i < n->name.n; i++) {
		char c = n->name.p[i];

		r = buf_add_char(out, c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c);
	}
	if (r == 0 && brackets)
		r = buf_add_char(out, ']');
	if (r == 0 && n->port > 0)
		(void)((r = buf_add_char(out, ':')) || (r = buf_add_u64(out, n->port)));
	return r;
}

/* Removes what n names, itself and, when it is a whole host, its ports. Returns how many. */
static int remove_named(struct state_names *t, const struct host_name *n)
{
	int count = 0;

	for (size_t i = t->count; i-- > 0;) {
		struct host_name one;

		if (host_name_read(state_name_text(&t->all[i]), &one) < 0 ||
		    !host_name_is(n, one.name, one.port))
			continue;
		state_names_remove(t, &t->all[i]);
		count++;
	}
	return count;
}

int orders_give(struct state_names *t, const struct host_name *n, enum statefile_order_kind kind,
		int64_t now)
{
	char bytes[STATE_NAME_MAX];
	struct buf name = BUF_OVER(bytes);

	if (spell(n, &name) < 0)
		return -ENOSPC;
	if (!state_names_find(t, buf_span(&name)) && t->count == STATE_NAMES_MOST)
		return -ENOSPC;
	(void)remove_named(t, n);
	struct state_name *o = state_names_add(t, buf_span(&name));

	if (!o)
		return -ENOSPC;
	o->order = (struct statefile_order){ .since = now, .kind = kind };
	return 0;
}

int orders_take_back(struct state_names *t, const struct host_name *n)
{
	for (size_t i = 0; n->port > 0 && i < t->count; i++) {
		struct host_name one;

		if (host_name_read(state_name_text(&t->all[i]), &one) == 0 && one.port == 0 &&
		    span_ieq(one.name, n->name))
			return -EBUSY;
	}
	return remove_named(t, n);
}
