/* PROXY headers.
 *
 * What is not exactly a header of version 1 or 2 is none: a value that the specification reserves,
 * datagrams, a length that cannot hold its addresses. What follows the addresses in version 2
 * (TLVs) is skipped. Until it is complete, a header is longer than what is there of it, so that the
 * caller may take that much off the stream and no byte of TLS or IMAP behind it.
 */
#include "proxyd/proxy_header.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define V2_FIXED  16 /* bytes in front of the addresses */
#define V1_BEGIN  "PROXY "

enum v2_command { V2_LOCAL = 0x20, V2_PROXY = 0x21 };

/* Family and transport. */
enum v2_family { V2_UNSPEC = 0x00, V2_TCP4 = 0x11, V2_TCP6 = 0x21, V2_UNIX = 0x31 };

/* Bytes of addresses and ports. */
static const struct {
	enum v2_family family;
	size_t length;
} blocks[] = { { V2_UNSPEC, 0 }, { V2_TCP4, 12 }, { V2_TCP6, 36 }, { V2_UNIX, 216 } };

/* Is what there is of a and b the same? */
static bool begins_alike(struct span a, struct span b)
{
	size_t n = a.n < b.n ? a.n : b.n;

	return memcmp(a.p, b.p, n) == 0;
}

static int show(int family, const void *address, char *text)
{
	const struct in6_addr *v6 = address;

	if (family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(v6))
		return inet_ntop(AF_INET, &v6->s6_addr[12], text, PROXY_ADDRESS_MAX) ? 0 : -EINVAL;
	return inet_ntop(family, address, text, PROXY_ADDRESS_MAX) ? 0 : -EINVAL;
}

/* An address of this family, as the header has it in text. 0 or -EINVAL. */
static int read_address(struct span word, int family, char *text)
{
	struct in6_addr address; /* large enough for both */
	char copy[PROXY_ADDRESS_MAX];

	if (word.n >= sizeof(copy) || memchr(word.p, '\0', word.n))
		return -EINVAL;
	memcpy(copy, word.p, word.n);
	copy[word.n] = '\0';
	return inet_pton(family, copy, &address) == 1 ? show(family, &address, text) : -EINVAL;
}

static int read_port(struct span word, uint32_t *ret)
{
	uint64_t port;

	if (word.n > 5 || span_u64(word, UINT16_MAX, &port) < 0)
		return -EINVAL;
	*ret = (uint32_t)port;
	return 0;
}

/* The word up to the next blank, which is taken, too. */
static struct span next_word(struct span *rest)
{
	const char *blank = rest->n > 0 ? memchr(rest->p, ' ', rest->n) : NULL;
	size_t n = blank ? (size_t)(blank - rest->p) : rest->n;
	struct span word = { rest->p, n };

	*rest = span_from(*rest, blank ? n + 1 : n);
	return word;
}

/* "TCP4 192.0.2.1 192.0.2.2 4711 143", or "UNKNOWN" and anything behind it. */
static int read_line(struct span line, struct proxy_header *ret)
{
	struct span word = next_word(&line);
	int family = span_eq(word, SPAN("TCP4")) ? AF_INET : AF_INET6, r;

	ret->own = span_eq(word, SPAN("UNKNOWN"));
	if (ret->own)
		return 0;
	if (family == AF_INET6 && !span_eq(word, SPAN("TCP6")))
		return -EINVAL;
	(void)((r = read_address(next_word(&line), family, ret->client)) ||
	       (r = read_address(next_word(&line), family, ret->local)) ||
	       (r = read_port(next_word(&line), &ret->client_port)) ||
	       (r = read_port(line, &ret->local_port)));
	return r;
}

static int read_v1(struct span bytes, struct proxy_header *ret)
{
	size_t seen = bytes.n < PROXY_HEADER_V1_MAX ? bytes.n : PROXY_HEADER_V1_MAX;
	const char *lf = memchr(bytes.p, '\n', seen);

	if (!lf)
		return bytes.n < PROXY_HEADER_V1_MAX ? 0 : -EINVAL;
	size_t begin = strlen(V1_BEGIN), end = (size_t)(lf - bytes.p);

	if (end <= begin || bytes.p[end - 1] != '\r')
		return -EINVAL;
	int r = read_line((struct span){ bytes.p + begin, end - 1 - begin }, ret);

	return r < 0 ? r : (int)end + 1;
}

static uint32_t u16_at(const unsigned char *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}

static int read_block(const unsigned char *p, enum v2_family family, struct proxy_header *ret)
{
	int af = family == V2_TCP4 ? AF_INET : AF_INET6;
	size_t n = family == V2_TCP4 ? 4 : 16;
	struct in6_addr client, local; /* aligned */

	ret->own = family != V2_TCP4 && family != V2_TCP6;
	if (ret->own)
		return 0;
	memcpy(&client, p, n);
	memcpy(&local, p + n, n);
	ret->client_port = u16_at(p + 2 * n);
	ret->local_port = u16_at(p + 2 * n + 2);
	int r = show(af, &client, ret->client);

	return r < 0 ? r : show(af, &local, ret->local);
}

/* How many bytes of addresses there must be, or -EINVAL for a family that is none. */
static int block_length(enum v2_command command, unsigned char family)
{
	if (command == V2_LOCAL)
		return 0; /* whatever it says of addresses */
	for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++)
		if (blocks[i].family == family)
			return (int)blocks[i].length;
	return -EINVAL;
}

static int read_v2(struct span bytes, struct proxy_header *ret)
{
	const unsigned char *p = (const unsigned char *)bytes.p;

	if (bytes.n < V2_FIXED)
		return bytes.n > 12 && p[12] != V2_LOCAL && p[12] != V2_PROXY ? -EINVAL : 0;
	if (p[12] != V2_LOCAL && p[12] != V2_PROXY)
		return -EINVAL;
	int needed = block_length(p[12], p[13]);
	size_t length = u16_at(p + 14);

	if (needed < 0 || length < (size_t)needed || length > PROXY_HEADER_MAX - V2_FIXED)
		return -EINVAL;
	if (bytes.n < V2_FIXED + length)
		return 0;
	int r = read_block(p + V2_FIXED, p[12] == V2_LOCAL ? V2_UNSPEC : p[13], ret);

	return r < 0 ? r : (int)(V2_FIXED + length);
}

int proxy_header_read(struct span bytes, struct proxy_header *ret)
{
	*ret = (struct proxy_header){ .own = true };
	if (bytes.n == 0)
		return 0;
	if (begins_alike(bytes, SPAN(SIGNATURE)))
		return read_v2(bytes, ret);
	return begins_alike(bytes, SPAN(V1_BEGIN)) ? read_v1(bytes, ret) : -EINVAL;
}
