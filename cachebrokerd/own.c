/* This host among the mail hosts. Those that have its name lookupd has told apart already; here it
 * is addresses that count, since any name may lead to one of ours.
 *
 * One such address is enough: who follows one of the others of the same name, if they are other
 * machines with the same configuration, comes back.
 */
#include "cachebrokerd/own.h"

#include <stdio.h>
#include <unistd.h>

#include "cachebrokerd/door.h"
#include "cachebrokerd/peer.h"
#include "lib/clock.h"
#include "lib/localaddr.h"
#include "lib/selfhost.h"

#define BELIEVED_MS 1000

/* Does a listener have a socket on this port that is reached at this address, if one is given? */
static bool has_socket(const struct broker *b, const struct cidr_address *address, uint32_t port,
		       bool is_own)
{
	for (const struct peer *p = b->listeners; p; p = p->next) {
		struct span rest = door_places(p), place;

		while ((place = span_word(&rest, ' ')).n > 0)
			if (address ? selfhost_reaches_socket(&b->config, place, address, port,
							      is_own)
				    : selfhost_socket_has(place, port))
				return true;
	}
	return false;
}

/* Ports of the configuration, and those of sockets that systemd or whoever has made. */
static bool listens_on(const struct host *h)
{
	return selfhost_listens_on(&h->broker->config, h->port) ||
	       has_socket(h->broker, NULL, h->port, false);
}

static bool is_ours(const struct host *h, const struct sockaddr_storage *known)
{
	struct cidr_address address;

	if (cidr_address_of((const struct sockaddr *)known, &address) < 0)
		return false; /* a path */
	address = selfhost_dialled(&address);
	const bool is_own = localaddr_is(&address);

	return selfhost_is_reached(&h->broker->config, &address, h->port, is_own) ||
	       has_socket(h->broker, &address, h->port, is_own);
}

bool own_is(const struct host *h)
{
	if (!listens_on(h))
		return false;
	for (size_t i = 0; i < h->address_count; i++)
		if (is_ours(h, &h->addresses[i]))
			return true;
	return false;
}

bool own_was(struct host *h, bool fresh_only)
{
	if (!listens_on(h) ||
	    (fresh_only && !host_is_resolved(h)))
		return false;
	if (clock_ms() >= h->own_until) {
		h->own = own_is(h);
		h->own_until = clock_ms() + BELIEVED_MS;
	}
	return h->own;
}

struct host *own_server(struct broker *b, enum msg_service service)
{
	struct route route;

	return selfhost_server(&b->config, service, &route) == 0 ? host_find(b, &route, service)
								 : NULL;
}

void own_name(const struct broker *b, char *ret)
{
	struct span words = span_str(b->config.proxy_hostname);
	const struct span first = span_word(&words, ' ');

	ret[0] = ret[OWN_NAME_MAX] = '\0';
	if (first.n > 0)
		(void)snprintf(ret, OWN_NAME_MAX + 1, "%.*s", (int)first.n, first.p);
	else if (gethostname(ret, OWN_NAME_MAX) < 0 || !*ret)
		(void)snprintf(ret, OWN_NAME_MAX + 1, "localhost");
}

bool own_is_server(const struct host *h)
{
	struct route route;

	return h->local && selfhost_server(&h->broker->config, h->service, &route) == 0 &&
	       route.port == h->port && span_eq(route.host, span_str(h->name));
}

const char *own_problem(const struct host *h)
{
	static char text[200];
	const char *by = selfhost_port_key(&h->broker->config, h->port);

	(void)snprintf(text, sizeof(text),
		       own_is_server(h)
			       ? "%2$s %1$.100s is this proxy itself by %3$s"
			       : "%1$.100s is this proxy itself by %3$s, and %2$s is not set",
		       h->label, selfhost_key(h->service), by ? by : "its listening socket");
	return text;
}
