/* server_hostname, proxy_hostname, local_server, pop3_local_server, no_mailhost local: their
 * values, and what is wrong with them together. A local server that has a name may still turn out
 * to be ourselves when it is dialled; the broker refuses that then, as it does an address of this
 * machine, which may be another one's tomorrow. */
#include "lib/config_local.h"

#include "lib/place.h"
#include "lib/selfhost.h"

bool config_local_check_place(struct config_problems *p, const struct config_row *row,
			      const char *value)
{
	struct place place;
	const char *problem = place_read(value, &place);

	if (*value && problem)
		config_say(p, true, "%s: '%.60s' is not allowed: %s", config_written_key(row),
			   value, problem);
	return !*value || !problem;
}

bool config_local_check_names(struct config_problems *p, const struct config_row *row,
			      const char *value)
{
	struct span rest = span_str(value), word;

	while ((word = span_word(&rest, ' ')).n > 0) {
		if (route_is_host(word))
			continue;
		config_say(p, true,
			   "%s: '%.*s' is not allowed: give names and addresses (without "
			   "brackets), separated by spaces",
			   config_written_key(row), word.n < 60 ? (int)word.n : 60, word.p);
		return false;
	}
	return true;
}

/* What has a colon is an address of IPv6 (with its zone, maybe): the port has a key of its own. */
static bool can_be_host(struct span host)
{
	const char *zone = memchr(host.p, '%', host.n);
	const size_t n = zone ? (size_t)(zone - host.p) : host.n;
	struct cidr_address address;

	return route_is_host(host) &&
	       (!memchr(host.p, ':', host.n) ||
		cidr_address_parse((struct span){ host.p, n }, &address) == 0);
}

bool config_local_take_host(struct config_problems *p, const struct config_row *row,
			    struct span *value)
{
	struct span host = *value;

	if (host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']')
		host = (struct span){ host.p + 1, host.n - 2 };
	if (can_be_host(host)) {
		*value = host;
		return true;
	}
	config_say(p, true,
		   "%s: '%.*s' is not allowed: give one name or address; its port is said with "
		   "server_port",
		   config_written_key(row), value->n < 60 ? (int)value->n : 60, value->p);
	return false;
}

static bool local_without_server(const struct config *c)
{
	return c->no_mailhost == NO_MAILHOST_LOCAL && !*c->local_server;
}

static bool local_without_pop3_server(const struct config *c)
{
	return c->no_mailhost == NO_MAILHOST_LOCAL && !*c->pop3_local_server &&
	       (c->pop3_listen_port != 0 || c->pop3s_listen_port != 0);
}

static bool is_ourselves(const struct config *c, enum msg_service service)
{
	struct cidr_address address;
	struct route place;

	if (selfhost_server(c, service, &place) < 0 ||
	    cidr_address_parse(place.host, &address) < 0)
		return false;
	address = selfhost_dialled(&address);
	return selfhost_is_reached(c, &address, place.port,
				   cidr_list_has(SPAN("127.0.0.0/8 ::1"), &address));
}

static bool server_is_ourselves(const struct config *c)
{
	return is_ourselves(c, SERVICE_IMAP);
}

static bool pop3_server_is_ourselves(const struct config *c)
{
	return is_ourselves(c, SERVICE_POP3);
}

static const struct {
	const char *key;
	bool (*is_wrong)(const struct config *c);
	const char *text;
} rules[] = {
	{ "no_mailhost", local_without_server, "local needs local_server, this host's own server" },
	{ "no_mailhost", local_without_pop3_server,
	  "local needs pop3_local_server, too, where there is a pop3_listen_port or "
	  "pop3s_listen_port" },
	{ "local_server", server_is_ourselves,
	  "this proxy itself listens there; name the server behind it" },
	{ "pop3_local_server", pop3_server_is_ourselves,
	  "this proxy itself listens there; name the server behind it" },
};

void config_local_judge(struct config_problems *p)
{
	const unsigned line = p->line;

	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		if (!rules[i].is_wrong(p->config))
			continue;
		p->line = config_line_of(p->config, rules[i].key);
		config_say(p, true, "%s: %s", rules[i].key, rules[i].text);
	}
	p->line = line;
}
