/* Host names to addresses with getaddrinfo(3), in its order (RFC 6724), which is the order to dial
 * in.
 *
 * Not AI_ADDRCONFIG: it ignores the loopback interface, so "localhost" would fail on a machine
 * without a network; an address that cannot be reached fails at once when it is dialled.
 */
#include "lookupd/resolve.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/buf.h"

#define HOST_MAX 255

static const struct {
	uint32_t version;
	int family;
} families[] = {{0, AF_UNSPEC}, {4, AF_INET}, {6, AF_INET6}};

static int family_of(uint32_t version, int *ret)
{
	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
		if (families[i].version == version) {
			*ret = families[i].family;
			return 0;
		}
	return -EINVAL;
}

static bool has_word(struct span text, struct span word)
{
	while (text.n > 0)
		if (span_eq(span_word(&text, ' '), word))
			return true;
	return false;
}

/* Appends the address unless it is there; one that does not fit is left out, as are those behind
 * it. */
static int add_address(struct buf *out, const struct addrinfo *address)
{
	char text[NI_MAXHOST];
	int r = getnameinfo(address->ai_addr, address->ai_addrlen, text, sizeof(text), NULL, 0,
			    NI_NUMERICHOST);

	if (r != 0 || has_word(buf_span(out), span_str(text)))
		return 0;
	if (out->len + (out->len > 0) + strlen(text) > out->cap)
		return -ENOBUFS;
	if (out->len > 0)
		(void)buf_add_char(out, ' ');
	return buf_add_str(out, text);
}

/* Returns NULL, or what went wrong. */
static const char *resolve(const char *host, int family, struct buf *out)
{
	const struct addrinfo hints = {.ai_family = family, .ai_socktype = SOCK_STREAM};
	struct addrinfo *list;
	int r = getaddrinfo(host, NULL, &hints, &list);

	if (r != 0)
		return r == EAI_SYSTEM ? strerror(errno) : gai_strerror(r);
	for (const struct addrinfo *a = list; a; a = a->ai_next)
		if (add_address(out, a) < 0)
			break;
	freeaddrinfo(list);
	return out->len > 0 ? NULL : "no address";
}

void resolve_answer(const struct msg_RESOLVE *question, char *text, struct msg_ADDRESSES *ret)
{
	char host[HOST_MAX + 1];
	struct buf out = {.data = text, .cap = RESOLVE_TEXT_MAX};
	const char *error = "not a host name";
	int family;

	if (question->host.n > 0 && question->host.n <= HOST_MAX &&
	    !memchr(question->host.p, '\0', question->host.n) &&
	    family_of(question->ip_version, &family) == 0) {
		memcpy(host, question->host.p, question->host.n);
		host[question->host.n] = '\0';
		error = resolve(host, family, &out);
	}
	*ret = (struct msg_ADDRESSES){
		.addresses = buf_span(&out),
		.error = error ? span_str(error) : SPAN_NONE,
	};
}
