/* This host as a mail host.
 *
 * A port decides together with a name or an address: on one and the same machine there may be a
 * mail server on one port and we on another, and to dial that server is right. Where an address
 * alone is known, a listener on one address is not reached by another one of the same machine.
 */
#include "lib/selfhost.h"

#include <errno.h>

#include "lib/place.h"

const char *selfhost_port_key(const struct config *c, uint32_t port)
{
	const struct {
		const char *key;
		uint32_t port;
	} rows[] = {
		{ "listen_port", c->listen_port },
		{ "imaps_listen_port", c->imaps_listen_port },
		{ "pop3_listen_port", c->pop3_listen_port },
		{ "pop3s_listen_port", c->pop3s_listen_port },
	};

	for (size_t i = 0; port != 0 && i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].port == port &&
		    (c->run_listener || config_line_of(c, rows[i].key) > 0))
			return rows[i].key;
	return NULL;
}

bool selfhost_listens_on(const struct config *c, uint32_t port)
{
	return selfhost_port_key(c, port) != NULL;
}

static struct span without_dot(struct span name)
{
	if (name.n > 1 && name.p[name.n - 1] == '.')
		name.n--;
	return name;
}

/* Does one of the words of proxy_hostname say what `is_it` asks about `what`? */
static bool any_word(const struct config *c, bool (*is_it)(struct span word, const void *what),
		     const void *what)
{
	struct span rest = span_str(c->proxy_hostname), word;

	while ((word = span_word(&rest, ' ')).n > 0)
		if (is_it(word, what))
			return true;
	return false;
}

static bool is_same_name(struct span word, const void *name)
{
	return span_ieq(without_dot(word), *(const struct span *)name);
}

static bool is_same_address(struct span word, const void *address)
{
	struct cidr_address named;

	return cidr_address_parse(word, &named) == 0 &&
	       memcmp(&named, address, sizeof(named)) == 0;
}

bool selfhost_has_name(const struct config *c, struct span hostname, struct span name)
{
	const char *dot = hostname.n > 0 ? memchr(hostname.p, '.', hostname.n) : NULL;
	const struct span label = { hostname.p, dot ? (size_t)(dot - hostname.p) : hostname.n };

	name = without_dot(name);
	return name.n > 0 && (span_ieq(name, without_dot(hostname)) || span_ieq(name, label) ||
			      any_word(c, is_same_name, &name));
}

static bool is_ipv4(const struct cidr_address *a)
{
	static const struct cidr_address mapped = { { [10] = 0xff, [11] = 0xff } };

	return memcmp(a, &mapped, 12) == 0;
}

/* Does who connects to this address come to who listens on that one? One that has a name may be any
 * of ours. */
static bool leads_to(const struct config *c, struct span listens,
		     const struct cidr_address *address, bool is_own)
{
	static const struct cidr_address any6 = { { 0 } };
	struct cidr_address listening;

	if (any_word(c, is_same_address, address))
		return true;
	if (cidr_address_parse(listens, &listening) < 0 ||
	    memcmp(&listening, &any6, sizeof(any6)) == 0)
		return is_own;
	if (is_ipv4(&listening) && memcmp(listening.bytes + 12, any6.bytes, 4) == 0)
		return is_own && is_ipv4(address);
	return memcmp(&listening, address, sizeof(listening)) == 0;
}

bool selfhost_is_reached(const struct config *c, const struct cidr_address *address, uint32_t port,
			 bool is_own)
{
	return selfhost_listens_on(c, port) &&
	       leads_to(c, span_str(c->listen_address), address, is_own);
}

/* *ret is the address. */
static bool is_place(struct span place, uint32_t port, struct span *ret)
{
	const char *slash = place.n > 0 ? memrchr(place.p, '/', place.n) : NULL;
	uint64_t its_port;

	if (!slash || span_u64(span_from(place, (size_t)(slash - place.p) + 1), 65535, &its_port))
		return false;
	*ret = (struct span){ place.p, (size_t)(slash - place.p) };
	return port != 0 && its_port == port;
}

bool selfhost_socket_has(struct span place, uint32_t port)
{
	struct span listens;

	return is_place(place, port, &listens);
}

bool selfhost_reaches_socket(const struct config *c, struct span place,
			     const struct cidr_address *address, uint32_t port, bool is_own)
{
	struct cidr_address listening;
	struct span listens;

	return is_place(place, port, &listens) && cidr_address_parse(listens, &listening) == 0 &&
	       leads_to(c, listens, address, is_own);
}

struct cidr_address selfhost_dialled(const struct cidr_address *address)
{
	static const struct cidr_address any6 = { { 0 } };
	struct cidr_address a = *address;

	if (memcmp(&a, &any6, sizeof(any6)) == 0) {
		a.bytes[15] = 1;
	} else if (is_ipv4(&a) && memcmp(a.bytes + 12, any6.bytes, 4) == 0) {
		a.bytes[12] = 127;
		a.bytes[15] = 1;
	}
	return a;
}

const char *selfhost_key(enum msg_service service)
{
	return service == SERVICE_POP3 ? "pop3_local_server" : "local_server";
}

int selfhost_server(const struct config *c, enum msg_service service, struct route *ret)
{
	const char *value = service == SERVICE_POP3 ? c->pop3_local_server : c->local_server;
	struct place place;

	if (!*value || place_read(value, &place)) /* as the parser did */
		return -ENOENT;
	*ret = (struct route){
		.local = true, .host = place.host, .port = place.port, .tls = TLS_NONE
	};
	return 0;
}
