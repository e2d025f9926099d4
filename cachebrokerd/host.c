/* Mail hosts. One place knows which of them is down, so that 500 logins do not each wait for the
 * same timeout. */
#include "cachebrokerd/host.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

#include "cachebrokerd/dial.h"
#include "cachebrokerd/own.h"
#include "lib/clock.h"
#include "lib/config_tls.h"
#include "lib/log.h"
#include "lib/place.h"

struct host *host_find(struct broker *b, const struct route *route, enum msg_service service)
{
	const struct span name = route->host;
	bool (*const is_same)(struct span, struct span) = route->local ? span_eq : span_ieq;

	for (struct host *h = b->hosts; h; h = h->next)
		if (h->port == route->port && h->tls == route->tls && h->service == service &&
		    h->local == route->local && is_same(name, span_str(h->name)))
			return h;
	struct host *h = calloc(1, sizeof(*h));

	if (!h || name.n == 0 || name.n >= sizeof(h->name)) {
		free(h);
		return NULL;
	}
	h->broker = b;
	h->port = route->port;
	h->local = route->local;
	h->tls = route->tls;
	h->service = service;
	memcpy(h->name, name.p, name.n);
	(void)snprintf(h->label, sizeof(h->label), h->port > 0 ? "%s:%u" : "%s", h->name, h->port);
	h->figures = state_host(b->state, h->label);
	if (!h->figures) {
		free(h);
		return NULL;
	}
	h->retries_left = b->config.connect_retries;
	h->next = b->hosts;
	b->hosts = h;
	return h;
}

bool host_is_current(const struct host *h)
{
	const struct config *c = &h->broker->config;

	return h->local ? own_is_server(h)
			: c->directory.count > 0 || h->tls == config_tls_mode(c);
}

uint64_t host_tls(const struct host *h)
{
	return h->tls == TLS_NONE ? 0 : h->broker->tls_settings + (uint64_t)h->tls;
}

bool host_wants_header(const struct host *h)
{
	struct span list = span_str(h->broker->config.proxy_protocol_hosts), name;

	while ((name = span_word(&list, ' ')).n > 0)
		if (span_ieq(name, span_str(h->name)) || span_ieq(name, SPAN("all")))
			return true;
	return false;
}

bool host_is_resolved(const struct host *h)
{
	return h->address_count > 0 && clock_ms() < h->resolved_until;
}

/* One numeric address. 0 or -EINVAL. */
static int read_address(struct span text, uint32_t port, struct sockaddr_storage *ret)
{
	char numeric[INET6_ADDRSTRLEN] = "";
	struct sockaddr_in *v4 = (void *)ret;
	struct sockaddr_in6 *v6 = (void *)ret;

	if (text.n >= sizeof(numeric))
		return -EINVAL;
	memcpy(numeric, text.p, text.n);
	memset(ret, 0, sizeof(*ret));
	if (inet_pton(AF_INET, numeric, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)port);
		return 0;
	}
	if (inet_pton(AF_INET6, numeric, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons((uint16_t)port);
		return 0;
	}
	return -EINVAL;
}

int host_set_addresses(struct host *h, struct span addresses)
{
	size_t count = 0;

	while (count < HOST_ADDRESSES) {
		struct span word = span_word(&addresses, ' ');

		if (word.n == 0)
			break;
		if (read_address(word, h->port, &h->addresses[count]) == 0)
			count++;
	}
	if (count == 0)
		return -ENOENT;
	h->address_count = count;
	memset(h->failed_until, 0, sizeof(h->failed_until));
	h->resolved_until = clock_ms() + (int64_t)h->broker->config.lookup_ttl * 1000;
	h->own_until = 0;
	return 0;
}

int host_set_path(struct host *h)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *path = h->local ? place_path(h->name) : NULL;

	if (!path || strlen(path) >= sizeof(address.sun_path))
		return -ENOENT;
	memcpy(address.sun_path, path, strlen(path));
	memset(&h->addresses[0], 0, sizeof(h->addresses[0]));
	memcpy(&h->addresses[0], &address, sizeof(address));
	h->address_count = 1;
	memset(h->failed_until, 0, sizeof(h->failed_until));
	h->resolved_until = INT64_MAX;
	return 0;
}

size_t host_first_address(struct host *h)
{
	return h->broker->config.dns_rr ? h->turn++ % h->address_count : 0;
}

void host_address_failed(struct host *h, size_t address)
{
	h->failed_until[address] = clock_ms() + (int64_t)h->broker->config.host_retry * 1000;
}

bool host_address_has_failed(const struct host *h, size_t address)
{
	return clock_ms() < h->failed_until[address];
}

bool host_is_up(const struct host *h)
{
	return clock_ms() >= h->down_until;
}

void host_answered(struct host *h)
{
	if (h->down_until > 0)
		log_printf(LOG_NOTICE, "mail host %s answers again", h->label);
	h->down_until = 0;
	h->retries_left = h->broker->config.connect_retries;
	timer_end(&h->retry);
}

static void on_retry(void *context)
{
	host_probe(context);
}

void host_not_dialled(struct host *h)
{
	state_count(h->broker->state, COUNTER_dials_failed, 1);
	h->figures->dials_failed++;
	h->figures->failed_at = clock_wall();
}

void host_failed(struct host *h, bool by_tls, const char *why)
{
	const struct config *c = &h->broker->config;

	host_not_dialled(h);
	log_printf(LOG_WARNING, "mail host %s %s: %s", h->label,
		   by_tls ? "is not used, TLS failed" : "does not answer", why);
	h->down_until = clock_ms() + (int64_t)c->host_retry * 1000;
	h->resolved_until = 0;
	if (h->retries_left > 0 && !h->retry && !h->broker->stopping) {
		h->retries_left--;
		(void)loop_timer(h->broker->loop, (int64_t)c->connect_delay * 1000, on_retry, h,
				 &h->retry);
	}
}

void host_count_login(struct host *h, bool reused, bool good)
{
	uint64_t *count = reused ? &h->figures->logins_reused : &h->figures->logins_fresh;

	if (good)
		++*count;
	else if (*count > 0) /* 0: state_reset() came between */
		--*count;
}

void host_show_all(struct broker *b)
{
	/* after a reload there may be two of one label, of which only the newer is of interest */
	for (struct host *h = b->hosts; h; h = h->next)
		h->figures->cached = h->figures->active = 0;
	for (struct host *h = b->hosts; h; h = h->next) {
		h->figures->cached += h->idle_count;
		h->figures->active += h->connections - h->idle_count - spares_count(h);
		if (host_is_current(h))
			h->figures->state = h->down_until > 0	   ? STATEFILE_HOST_DOWN
					    : h->address_count > 0 ? STATEFILE_HOST_UP
								   : STATEFILE_HOST_UNKNOWN;
	}
}

void host_free_all(struct broker *b)
{
	while (b->hosts) {
		struct host *h = b->hosts;

		b->hosts = h->next;
		spares_flush(h);
		timer_end(&h->retry);
		free(h);
	}
}
