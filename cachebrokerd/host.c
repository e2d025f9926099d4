/* Mail hosts. One place knows which of them is down, so that 500 logins do not each wait for the
 * same timeout.
 *
 * Their table is bounded, since a directory may make a host of whatever name a stranger logs in by.
 * One that is used comes to the list's front; to make room the last one goes that nothing needs:
 * no connection, no lease or errand that may come back to it, no order.
 */
#include "cachebrokerd/host.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>
#include <utlist.h>

#include "cachebrokerd/dial.h"
#include "cachebrokerd/orders.h"
#include "cachebrokerd/own.h"
#include "lib/clock.h"
#include "lib/config_tls.h"
#include "lib/log.h"
#include "lib/place.h"

#define FORGOTTEN_A_TURN 16
#define TELL_MS		 60000 /* between two complaints */
#define AVERAGE_OF	 8     /* dials, about */

static void drop(struct host *h)
{
	struct broker *b = h->broker;

	spares_flush(h);
	timer_end(&h->retry);
	dial_give_up(&h->probe);
	HASH_DEL(b->host_table, h);
	DL_DELETE(b->hosts, h);
	free(h);
}

static void forget(struct host *h)
{
	if (h->figures != &h->uncounted)
		state_host_gone(h->broker->state, h->label);
	drop(h);
}

static bool is_in_use(const struct host *h)
{
	return h->connections > 0 || h->holds > 0 || h->order != STATEFILE_ORDER_NONE;
}

/* Room for another one. What nothing but the background looks at has to go for it. */
static bool has_room(struct broker *b)
{
	static int64_t told;

	if (HASH_COUNT(b->host_table) < HOSTS_MOST)
		return true;
	for (struct host *h = b->hosts->prev;; h = h->prev) {
		if (!is_in_use(h)) {
			forget(h);
			return true;
		}
		if (h == b->hosts)
			break;
	}
	if (told == 0 || clock_ms() - told > TELL_MS) {
		told = clock_ms();
		log_printf(LOG_WARNING,
			   "%u mail hosts are in use at once: logins at others are "
			   "refused",
			   HOSTS_MOST);
	}
	return false;
}

/* What makes it another host. Letters' case does not. The name is its last part. */
static int name_host(const struct route *route, enum msg_service service, char *id, size_t cap)
{
	int n = snprintf(id, cap, "%u %u %u %u %.*s", (unsigned)service, (unsigned)route->tls,
			 (unsigned)route->local, route->port, (int)route->host.n, route->host.p);

	if (route->host.n == 0 || route->host.n >= sizeof(((struct host *)NULL)->name) || n < 0 ||
	    (size_t)n >= cap)
		return -ENAMETOOLONG;
	for (char *c = id; *c && !route->local; c++) /* that one's name may be a path */
		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c - 'A' + 'a');
	return 0;
}

void host_take_order(struct host *h)
{
	h->order = orders_of(state_orders_of(h->broker->state), span_str(h->name), h->port);
}

static struct host *add(struct broker *b, const struct route *route, enum msg_service service,
			const char *id)
{
	struct host *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->broker = b;
	h->port = route->port;
	h->local = route->local;
	h->tls = route->tls;
	h->service = service;
	(void)snprintf(h->id, sizeof(h->id), "%s", id);
	(void)snprintf(h->name, sizeof(h->name), "%s", id + strlen(id) - route->host.n);
	(void)snprintf(h->label, sizeof(h->label), h->port > 0 ? "%s:%u" : "%s", h->name, h->port);
	h->retries_left = b->config.connect_retries;
	host_take_order(h);
	HASH_ADD_STR(b->host_table, id, h);
	if (!h->hh.tbl) { /* no memory */
		free(h);
		return NULL;
	}
	h->figures = state_host(b->state, h->label);
	if (!h->figures)
		h->figures = &h->uncounted;
	DL_PREPEND(b->hosts, h);
	return h;
}

struct host *host_find(struct broker *b, const struct route *route, enum msg_service service)
{
	char id[sizeof(((struct host *)NULL)->id)];
	struct host *h = NULL;

	if (name_host(route, service, id, sizeof(id)) < 0)
		return NULL;
	HASH_FIND_STR(b->host_table, id, h);
	if (!h && has_room(b))
		h = add(b, route, service, id);
	if (!h)
		return NULL;
	DL_DELETE(b->hosts, h);
	DL_PREPEND(b->hosts, h);
	h->used_at = clock_ms();
	return h;
}

void host_hold(struct host *h)
{
	h->holds++;
}

void host_release(struct host *h)
{
	h->holds--;
}

void host_forget_old(struct broker *b)
{
	int64_t limit = clock_ms() - HOST_KEEP_MS;

	for (int i = 0; i < FORGOTTEN_A_TURN && HASH_COUNT(b->host_table) > HOSTS_FEW; i++) {
		struct host *h = b->hosts->prev; /* utlist: the last one */

		if (h->used_at > limit)
			return;
		if (!is_in_use(h)) {
			forget(h);
			continue;
		}
		DL_DELETE(b->hosts, h);
		DL_PREPEND(b->hosts, h);
	}
}

const char *host_why_closed(const struct host *h)
{
	return h->order == STATEFILE_ORDER_DRAIN ? "the mail host is drained"
						 : "the mail host is paused";
}

void host_give_chance(struct host *h)
{
	h->down_until = 0;
	h->retries_left = h->broker->config.connect_retries;
	timer_end(&h->retry);
	memset(h->failed_until, 0, sizeof(h->failed_until));
	h->spares.pause_until = 0;
}

void host_sort(struct host **hosts, size_t count)
{
	for (size_t i = 1; i < count; i++)
		for (size_t j = i; j > 0 && hosts[j]->dial_turn < hosts[j - 1]->dial_turn; j--) {
			struct host *h = hosts[j];

			hosts[j] = hosts[j - 1];
			hosts[j - 1] = h;
		}
}

void host_takes_turn(struct host *h)
{
	static uint64_t turn;

	h->dial_turn = ++turn;
}

bool host_is_current(const struct host *h)
{
	const struct config *c = &h->broker->config;

	return h->local ? own_is_server(h) : c->directory.count > 0 || h->tls == config_tls_mode(c);
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

static void count_dial(struct host *h, int64_t us)
{
	struct statefile_host *f = h->figures;
	uint64_t took = us > 0 ? (uint64_t)us : 0;

	f->dial_average =
		f->dials == 0 ? took : (f->dial_average * (AVERAGE_OF - 1) + took) / AVERAGE_OF;
	f->dials++;
}

void host_answered(struct host *h, int64_t dial_us)
{
	count_dial(h, dial_us);
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

void host_not_dialled(struct host *h, const char *why)
{
	size_t n = strlen(why);

	state_count(h->broker->state, COUNTER_dials_failed, 1);
	h->figures->dials_failed++;
	h->figures->failed_at = clock_wall();
	memset(h->figures->error, 0, sizeof(h->figures->error));
	h->figures->error_length = (uint32_t)(n < STATEFILE_ERROR ? n : STATEFILE_ERROR);
	memcpy(h->figures->error, why, h->figures->error_length);
}

void host_failed(struct host *h, bool by_tls, const char *why)
{
	const struct config *c = &h->broker->config;

	host_not_dialled(h, why);
	log_printf(LOG_WARNING, "mail host %s %s: %s", h->label,
		   by_tls ? "is not used, TLS failed" : "does not answer", why);
	h->down_until = clock_ms() + (int64_t)c->host_retry * 1000;
	h->resolved_until = 0;
	if (h->retries_left > 0 && !h->retry && !h->broker->stopping && host_is_open(h)) {
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
			h->figures->state = h->order		   ? (uint32_t)h->order
					    : h->down_until > 0	   ? STATEFILE_HOST_DOWN
					    : h->address_count > 0 ? STATEFILE_HOST_UP
								   : STATEFILE_HOST_UNKNOWN;
	}
}

void host_free_all(struct broker *b)
{
	while (b->hosts)
		drop(b->hosts); /* what they have counted stays in the file */
}
