/* Mail hosts on their way from lookupd to the broker. The broker takes nothing for granted: what
 * is no host name never gets into its logs and its list of hosts. */
#include "lib/route.h"

#include <errno.h>

#define HOST_LONGEST 255
#define LOCAL	     "local"
#define PORT_MOST    65535

bool route_is_host(struct span host)
{
	for (size_t i = 0; i < host.n; i++) {
		char c = host.p[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      (c != '\0' && strchr(".-_:%", c))))
			return false;
	}
	return host.n > 0 && host.n <= HOST_LONGEST;
}

static int add_host(struct buf *text, const struct route *r)
{
	return buf_add_u64(text, r->tls) || buf_add_char(text, ' ') ||
			       buf_add_u64(text, r->port) || buf_add_char(text, ' ') ||
			       buf_add(text, r->host)
		       ? -ENOBUFS
		       : 0;
}

int route_add(struct buf *text, const struct route *r)
{
	const size_t before = text->len;

	if (!r->local && (!route_is_host(r->host) || r->port == 0 || r->port > PORT_MOST ||
			  r->tls > TLS_IMPLICIT))
		return -EINVAL;
	if ((before > 0 && buf_add_char(text, ' ')) ||
	    (r->local ? buf_add_str(text, LOCAL) : add_host(text, r))) {
		text->len = before;
		return -ENOBUFS;
	}
	return 0;
}

int route_next(struct span *text, struct route *ret)
{
	uint64_t tls, port;
	const struct span mode_word = span_word(text, ' ');

	if (mode_word.n == 0)
		return 0;
	if (span_eq(mode_word, SPAN(LOCAL))) {
		*ret = (struct route){ .local = true };
		return 1;
	}
	const struct span port_word = span_word(text, ' ');
	const struct span host = span_word(text, ' ');

	if (span_u64(mode_word, TLS_IMPLICIT, &tls) < 0 ||
	    span_u64(port_word, PORT_MOST, &port) < 0 || port == 0 || !route_is_host(host))
		return -EBADMSG;
	*ret = (struct route){ .host = host, .port = (uint32_t)port, .tls = (enum tls_mode)tls };
	return 1;
}
