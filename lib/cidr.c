/* Lists of networks, read anew whenever an address is looked for: lists are short, and a session
 * asks once.
 *
 * Everything is 128 bits wide. An IPv4 network a.b.c.d/n is ::ffff:a.b.c.d/96+n.
 */
#include "lib/cidr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>

#define MAPPED_BITS 96

static const struct cidr_address mapped = { { [10] = 0xff, [11] = 0xff } };

/* Do the first bits of both agree? */
static bool same_prefix(const struct cidr_address *a, const struct cidr_address *b, unsigned bits)
{
	unsigned whole = bits / 8, rest = bits % 8;

	if (memcmp(a->bytes, b->bytes, whole) != 0)
		return false;
	return rest == 0 || ((a->bytes[whole] ^ b->bytes[whole]) >> (8 - rest)) == 0;
}

static void set_ipv4(struct cidr_address *ret, const void *four_bytes)
{
	*ret = mapped;
	memcpy(ret->bytes + 12, four_bytes, 4);
}

/* Reads an address; *ret_ipv6 is how it was written. */
static int read_address(struct span text, struct cidr_address *ret, bool *ret_ipv6)
{
	char word[INET6_ADDRSTRLEN];
	struct in6_addr six;
	struct in_addr four;

	if (text.n == 0 || text.n >= sizeof(word) || memchr(text.p, '\0', text.n))
		return -EINVAL;
	memcpy(word, text.p, text.n);
	word[text.n] = '\0';
	if (inet_pton(AF_INET, word, &four) == 1) {
		set_ipv4(ret, &four);
		*ret_ipv6 = false;
		return 0;
	}
	if (inet_pton(AF_INET6, word, &six) != 1)
		return -EINVAL;
	memcpy(ret->bytes, &six, sizeof(ret->bytes));
	*ret_ipv6 = true;
	return 0;
}

int cidr_address_parse(struct span text, struct cidr_address *ret)
{
	bool ipv6;

	return read_address(text, ret, &ipv6);
}

int cidr_address_of(const struct sockaddr *peer, struct cidr_address *ret)
{
	if (peer->sa_family == AF_INET) {
		struct sockaddr_in in;

		memcpy(&in, peer, sizeof(in));
		set_ipv4(ret, &in.sin_addr);
		return 0;
	}
	if (peer->sa_family == AF_INET6) {
		struct sockaddr_in6 in6;

		memcpy(&in6, peer, sizeof(in6));
		memcpy(ret->bytes, &in6.sin6_addr, sizeof(ret->bytes));
		return 0;
	}
	return -EAFNOSUPPORT;
}

/* Are all bits behind the network's length zero? */
static bool is_clean(const struct cidr *c)
{
	struct cidr_address only = { { 0 } };
	unsigned whole = c->length / 8, rest = c->length % 8;

	memcpy(only.bytes, c->address.bytes, whole);
	if (rest)
		only.bytes[whole] = (uint8_t)(c->address.bytes[whole] & (0xff << (8 - rest)));
	return memcmp(only.bytes, c->address.bytes, sizeof(only.bytes)) == 0;
}

int cidr_parse(struct span text, struct cidr *ret)
{
	struct span rest = text, address = span_word(&rest, '/');
	struct cidr c;
	uint64_t length;
	bool has_length = address.n < text.n;

	/* span_word() would skip separators in front. */
	if (text.n == 0 || text.p[0] == '/' || read_address(address, &c.address, &c.ipv6) < 0)
		return -EINVAL;
	uint64_t most = c.ipv6 ? 128 : 32;

	length = most;
	if (has_length && span_u64(span_from(text, address.n + 1), most, &length) < 0)
		return -EINVAL;
	c.length = (unsigned)length + (c.ipv6 ? 0 : MAPPED_BITS);
	if (!is_clean(&c))
		return -EDOM;
	*ret = c;
	return 0;
}

bool cidr_has(const struct cidr *network, const struct cidr_address *address)
{
	if (network->ipv6 && network->length < MAPPED_BITS &&
	    same_prefix(address, &mapped, MAPPED_BITS))
		return false;
	return same_prefix(&network->address, address, network->length);
}

static bool is_separator(char c)
{
	return c == ' ' || c == '\t' || c == ',';
}

/* Cuts the next part off the list; an empty one is the end. */
static struct span next_part(struct span *list)
{
	size_t begin = 0, end;

	while (begin < list->n && is_separator(list->p[begin]))
		begin++;
	for (end = begin; end < list->n && !is_separator(list->p[end]); end++)
		;
	struct span part = { list->p + begin, end - begin };

	*list = span_from(*list, end);
	return part;
}

int cidr_list_check(struct span list, struct span *ret_bad)
{
	for (;;) {
		struct span part = next_part(&list);
		struct cidr network;

		if (part.n == 0)
			return 0;
		if (span_ieq(part, SPAN("all")) || span_ieq(part, SPAN("none")))
			continue;
		int r = cidr_parse(part, &network);

		if (r < 0) {
			*ret_bad = part;
			return r;
		}
	}
}

bool cidr_list_has(struct span list, const struct cidr_address *address)
{
	for (;;) {
		struct span part = next_part(&list);
		struct cidr network;

		if (part.n == 0)
			return false;
		if (span_ieq(part, SPAN("all")))
			return true;
		if (address && cidr_parse(part, &network) == 0 && cidr_has(&network, address))
			return true;
	}
}

bool cidr_list_holds(struct span list, struct span address)
{
	struct cidr_address parsed;

	return cidr_list_has(list, cidr_address_parse(address, &parsed) == 0 ? &parsed : NULL);
}

bool cidr_permits(struct span allow, struct span deny, struct span address)
{
	return cidr_list_holds(allow, address) && !cidr_list_holds(deny, address);
}
