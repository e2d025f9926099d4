/* Who is calling.
 *
 * An address that a client says of somebody else is told on, and nothing else: who may connect, who
 * is an administrator, what a client is used to, goes by the address that it has itself.
 */
#include "cachebrokerd/caller.h"

#include <string.h>

#include "lib/cidr.h"

#define MAPPED 12 /* bytes in front of an IPv4 address */

static void copy_text(struct span from, char to[CALLER_ADDRESS])
{
	size_t n = from.n < CALLER_ADDRESS ? from.n : CALLER_ADDRESS - 1;

	memcpy(to, from.p, n);
	to[n] = '\0';
}

void caller_set(struct caller *to, const struct caller *connected, bool trusted,
		const struct msg_LEASE *lease)
{
	struct cidr_address parsed;

	*to = *connected;
	to->hops = lease->hops;
	if (!trusted || cidr_address_parse(lease->origin, &parsed) < 0)
		return;
	copy_text(lease->origin, to->client);
	to->client_port = lease->origin_port <= UINT16_MAX ? lease->origin_port : 0;
}

static void put_port(unsigned char *to, uint32_t port)
{
	to[0] = (unsigned char)(port >> 8);
	to[1] = (unsigned char)port;
}

static bool is_mapped(const struct cidr_address *a)
{
	static const uint8_t prefix[MAPPED] = { [10] = 0xff, [11] = 0xff };

	return memcmp(a->bytes, prefix, sizeof(prefix)) == 0;
}

size_t caller_write_header(const struct caller *c, unsigned char out[CALLER_HEADER_MAX])
{
	static const unsigned char fixed[16] = { '\r', '\n', '\r', '\n', 0,    '\r', '\n', 'Q',
						 'U',  'I',  'T',  '\n', 0x20, 0,    0,	   0 };
	struct cidr_address client, local;

	memcpy(out, fixed, sizeof(fixed));
	if (cidr_address_parse(span_str(c->client), &client) < 0 ||
	    cidr_address_parse(span_str(c->local), &local) < 0)
		return sizeof(fixed);
	bool v4 = is_mapped(&client) && is_mapped(&local);
	size_t skip = v4 ? MAPPED : 0, n = sizeof(client.bytes) - skip;
	unsigned char *at = out + sizeof(fixed);

	out[12] = 0x21; /* version 2, PROXY */
	out[13] = v4 ? 0x11 : 0x21;
	out[15] = (unsigned char)(2 * n + 4);
	memcpy(at, client.bytes + skip, n);
	memcpy(at + n, local.bytes + skip, n);
	put_port(at + 2 * n, c->client_port);
	put_port(at + 2 * n + 2, c->local_port);
	return sizeof(fixed) + 2 * n + 4;
}
