/* Backend connections: leased ↔ idle.
 *
 * An idle connection has no business talking: any event evicts it, and nothing is ever read from
 * it. On its way out its watch is ended before the descriptor is sent or closed, since a hang-up
 * may sit in the same batch of events. One that expired or makes room is logged out by an errand,
 * since nothing here may speak IMAP; one that the mail host has ended is closed.
 */
#include "cachebrokerd/connection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <utlist.h>

#include "cachebrokerd/accounts.h"
#include "cachebrokerd/errand.h"
#include "cachebrokerd/host.h"
#include "cachebrokerd/own.h"
#include "cachebrokerd/proofs.h"
#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/log.h"

static struct connection *all;

static char *copy_text(struct span s)
{
	char *text = malloc(s.n + 1);

	if (text) {
		memcpy(text, s.p, s.n);
		text[s.n] = '\0';
	}
	return text;
}

static void free_connection(struct connection *c)
{
	if (c->previous)
		DL_DELETE2(all, c, previous, next);
	watch_end(&c->watch);
	fd_drop(&c->fd);
	free(c->user);
	free(c->backend_user);
	free(c->capabilities);
	free(c->fingerprint);
	free(c->opening);
	free(c->examined);
	free(c->offered);
	free(c);
}

static uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t n = sizeof(cookie);

	return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &n) < 0 ? 0 : cookie;
}

bool connection_is(const struct connection *c, int fd)
{
	return c->cookie != 0 && cookie_of(fd) == c->cookie;
}

void connection_dialling(struct broker *b, struct host *host)
{
	b->leased++;
	host->connections++;
}

void connection_dialled(struct broker *b, struct host *host)
{
	b->leased--;
	host->connections--;
}

struct connection *connection_new(struct broker *b, struct host *host, const struct key *key,
				  const struct key *account, struct span user,
				  struct span backend_user, int fd)
{
	struct connection *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	*c = (struct connection){ .entry = { .key = *key, .account = *account, .owner = c },
				  .broker = b,
				  .plain = *key,
				  .record = *account,
				  .host = host,
				  .fd = -1,
				  .id = b->next_id++,
				  .cookie = cookie_of(fd),
				  .born = clock_ms(),
				  .tls = host_tls(host),
				  .user = copy_text(user),
				  .backend_user = copy_text(backend_user) };
	if (!c->user || !c->backend_user ||
	    keys_name(b->keys, host->service, user, &c->entry.user) < 0) {
		free_connection(c);
		return NULL;
	}
	DL_APPEND2(all, c, previous, next);
	b->leased++;
	host->connections++;
	return c;
}

void connection_lost(struct connection *c)
{
	c->broker->leased--;
	c->host->connections--;
	free_connection(c);
}

static void take_out(struct connection *c)
{
	state_session_gone(c->broker->state, c->id);
	cache_remove(c->broker->cache, &c->entry);
	DL_DELETE2(c->host->idle, c, host_previous, host_next);
	c->host->idle_count--;
}

/* Out of the cache, and closed. */
static void close_idle(struct connection *c)
{
	take_out(c);
	c->host->connections--;
	free_connection(c);
}

static void evict(struct connection *c, enum counter why)
{
	state_count(c->broker->state, why, 1);
	if (why != COUNTER_died) {
		watch_end(&c->watch);
		errand_logout(c->broker, c->host, &c->entry.account, c->id, take_fd(&c->fd));
	}
	close_idle(c);
}

/* A host that ends several at once restarts, or wants to be left alone: none of the others will
 * live, and who was handed one would notice. */
static void note_end(struct host *h)
{
	unsigned count = 0;

	if (!burst_note(&h->ends, clock_ms()))
		return;
	while (h->idle) {
		state_count(h->broker->state, COUNTER_flushed, 1);
		close_idle(h->idle);
		count++;
	}
	log_printf(LOG_NOTICE, "mail host %s ended several idle connections: %u more closed",
		   h->label, count);
}

/* Ended by the mail host. */
static void bury(struct connection *c)
{
	struct host *h = c->host;

	evict(c, COUNTER_died);
	note_end(h);
}

static void on_event(void *context, uint32_t events)
{
	struct connection *c = context;
	struct broker *b = c->broker;

	(void)events;
	log_printf(LOG_INFO,
		   "idle connection %llu to %s closed: the mail host sent something or hung up",
		   (unsigned long long)c->id, c->host->label);
	bury(c);
	broker_count(b);
}

static bool too_old(const struct connection *c, int64_t now)
{
	return now - c->born >= (int64_t)c->broker->config.cache_max_age * 1000;
}

bool connection_is_outdated(const struct connection *c)
{
	return !host_is_current(c->host) || c->tls != host_tls(c->host);
}

static void keep_to_limit_per_account(struct connection *c)
{
	unsigned count;
	struct cache_entry *oldest = cache_oldest_of(c->broker->cache, &c->entry.account, &count);

	if (count >= c->broker->config.cache_max_per_user)
		evict(oldest->owner, COUNTER_evicted);
}

int connection_shelve(struct connection *c, int64_t since, int *fd)
{
	struct broker *b = c->broker;
	int r = loop_watch(b->loop, *fd, EPOLLIN | EPOLLRDHUP, on_event, c, &c->watch);

	if (r < 0)
		return r;
	keep_to_limit_per_account(c);
	c->entry.since = since;
	r = cache_add(b->cache, &c->entry);
	if (r < 0)
		return r;
	DL_APPEND2(c->host->idle, c, host_previous, host_next);
	c->host->idle_count++;
	c->fd = take_fd(fd);
	b->leased--;
	state_session(b->state, c->id, STATEFILE_CACHED, SERVICE_IMAP, span_str(c->user), SPAN_NONE,
		      span_str(c->host->label));
	state_session_moved(b->state, c->id, c->from_client, c->from_backend);
	return 0;
}

/* This host's own server stands for all mail hosts that turn out to be this one. */
static bool leads_to(struct broker *b, const struct route *route, const struct host *host)
{
	if (!host->local)
		return !route->local && route->port == host->port && route->tls == host->tls &&
		       span_ieq(route->host, span_str(host->name));
	if (!own_is_server(host))
		return false;
	struct host *named = route->local ? NULL : host_find(b, route, host->service);

	return route->local || (named && own_was(named, false));
}

/* Is it to one of the hosts of the account, and logged in there as the account is? */
static bool is_placed(const struct connection *c, const struct account *account)
{
	struct span hosts = account->hosts;
	struct route route;

	while (route_next(&hosts, &route) > 0)
		if (leads_to(c->broker, &route, c->host))
			return span_eq(account->backend_user, span_str(c->backend_user));
	return false;
}

/* Is its account elsewhere, or none any more, by what lookupd has said since it was leased? */
static bool is_known_elsewhere(const struct connection *c)
{
	struct account known;

	switch (accounts_find_user(c->broker->accounts, &c->entry.user, clock_ms(), &known)) {
	case ACCOUNTS_NOTHING:
		return false;
	case ACCOUNTS_UNKNOWN:
		return true;
	default:
		return !is_placed(c, &known);
	}
}

static int replace_text(char **text, struct span s)
{
	char *copy = copy_text(s);

	if (!copy)
		return -ENOMEM;
	free(*text);
	*text = copy;
	return 0;
}

int connection_mark(struct connection *c, struct span fingerprint)
{
	c->entry.key = c->plain;
	if (fingerprint.n > 0 &&
	    keys_fingerprint(c->broker->keys, &c->plain, fingerprint, &c->entry.key) < 0)
		return -EIO;
	return replace_text(&c->fingerprint, fingerprint);
}

int connection_describe(struct connection *c, struct span capabilities, struct span opening,
			struct span examined)
{
	int r = replace_text(&c->opening, opening);

	free(c->examined);
	c->examined = NULL;
	if (r == 0 && examined.n > 0)
		r = replace_text(&c->examined, examined);
	if (r == 0 && (capabilities.n > 0 || !c->capabilities))
		r = replace_text(&c->capabilities, capabilities);
	return r;
}

int connection_given(struct connection *c, int *fd)
{
	AUTO_FD given = take_fd(fd);
	int r = 0;

	if (!connection_is(c, given))
		r = -EBADF;
	else if (c->host->service != SERVICE_IMAP)
		r = -EOPNOTSUPP; /* what it has deleted is deleted at its QUIT: never another's */
	else if (!c->capabilities)
		r = -ENOMEM;
	else if (c->broker->stopping || c->broker->retiring)
		r = -ECANCELED;
	else if (c->broker->config.cache_expiration_time == 0 || too_old(c, clock_ms()) ||
		 connection_is_outdated(c) || c->unwanted ||
		 c->host->order == STATEFILE_ORDER_DRAIN || is_known_elsewhere(c))
		r = -ESTALE;
	else if (!proofs_current(c->broker->proofs, &c->record, &c->plain))
		r = -EKEYREJECTED;
	if (r == 0)
		r = connection_shelve(c, clock_ms(), &given);
	if (r == 0)
		state_count(c->broker->state, COUNTER_given, 1);
	if (r == -EKEYREJECTED)
		state_count(c->broker->state, COUNTER_superseded, 1);
	if (r == -ESTALE || r == -EKEYREJECTED)
		errand_logout(c->broker, c->host, &c->entry.account, c->id, take_fd(&given));
	if (r < 0)
		connection_lost(c);
	return r;
}

bool connection_is_silent(int fd)
{
	char byte;

	return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

struct connection *connection_take(struct broker *b, const struct key *key, int *ret_fd,
				   int64_t *ret_idle)
{
	struct cache_entry *e;
	int64_t now = clock_ms();

	while ((e = cache_newest(b->cache, key)) != NULL) {
		struct connection *c = e->owner;

		if (too_old(c, now)) {
			evict(c, COUNTER_expired);
			continue;
		}
		watch_end(&c->watch);
		if (!connection_is_silent(c->fd)) {
			bury(c);
			continue;
		}
		take_out(c);
		*ret_fd = take_fd(&c->fd);
		*ret_idle = now - e->since;
		c->cached = c->proven = true;
		c->made = false;
		b->leased++;
		return c;
	}
	return NULL;
}

bool connection_fills_host(const struct broker *b, const struct host *host)
{
	unsigned most = b->config.host_max_connections;

	return most > 0 && host->connections >= most && !host->idle &&
	       spares_count(host) == 0;
}

bool connection_has_room(const struct broker *b, const struct host *host)
{
	unsigned others = cache_count(b->cache) + b->spares;

	return !connection_fills_host(b, host) && (b->leased < b->connections_most || others > 0);
}

bool connection_has_free_room(const struct broker *b, const struct host *host)
{
	unsigned host_most = b->config.host_max_connections;

	return (host_most == 0 || host->connections < host_most) &&
	       b->leased + b->spares + cache_count(b->cache) < b->connections_most;
}

const char *connection_make_room(struct broker *b, const struct host *host)
{
	unsigned host_most = b->config.host_max_connections;

	while (host_most > 0 && host->connections >= host_most) {
		if (spares_drop(b, host))
			continue;
		if (!host->idle)
			return "host_max_connections to this mail host are in use";
		evict(host->idle, COUNTER_evicted);
	}
	while (b->leased + b->spares + cache_count(b->cache) >= b->connections_most) {
		if (spares_drop(b, NULL))
			continue;
		struct cache_entry *oldest = cache_oldest(b->cache);

		if (!oldest)
			return "cache_size connections are in use";
		evict(oldest->owner, COUNTER_evicted);
	}
	return NULL;
}

static unsigned close_some(struct broker *b, const struct key *account, const struct key *record,
			   const struct key *except, enum counter why)
{
	unsigned count = 0, unused;
	struct cache_entry *next;

	for (struct cache_entry *e = cache_oldest_of(b->cache, account, &unused); e; e = next) {
		next = e->account_newer;
		struct connection *c = e->owner;

		if ((except && key_same(&c->plain, except)) ||
		    (record && !key_same(&c->record, record)))
			continue;
		evict(c, why);
		count++;
	}
	return count;
}

unsigned connection_close_account(struct broker *b, const struct key *account,
				  const struct key *except, enum counter why)
{
	return close_some(b, account, NULL, except, why);
}

unsigned connection_close_record(struct broker *b, const struct key *account,
				 const struct key *record, const struct key *except)
{
	return close_some(b, account, record, except, COUNTER_superseded);
}

unsigned connection_close_misplaced(struct broker *b, const struct key *user,
				    const struct account *account)
{
	unsigned count = 0;
	struct cache_entry *next;

	for (struct cache_entry *e = cache_oldest_of_user(b->cache, user); e; e = next) {
		next = e->user_newer;
		if (account && is_placed(e->owner, account))
			continue;
		evict(e->owner, COUNTER_flushed);
		count++;
	}
	return count;
}

void connection_disown(struct connection *c)
{
	c->unwanted = true;
	proofs_refuse(c->broker->proofs, &c->record, &c->plain);
}

void connection_disown_user(const struct key *user)
{
	for (struct connection *c = all; c; c = c->next)
		if (key_same(&c->entry.user, user))
			connection_disown(c);
}

unsigned connection_close_user(struct broker *b, const struct key *user, unsigned most)
{
	unsigned count = 0;
	struct cache_entry *e;

	while (count < most && (e = cache_oldest_of_user(b->cache, user)) != NULL) {
		connection_disown(e->owner);
		evict(e->owner, COUNTER_flushed);
		count++;
	}
	return count;
}

/* Closes what is idle of the account, and disowns what is in use. */
static unsigned take_away(struct broker *b, const struct key *account)
{
	unsigned count = 0, unused;
	struct cache_entry *e;

	for (struct connection *c = all; c; c = c->next)
		if (key_same(&c->entry.account, account))
			connection_disown(c);
	while ((e = cache_oldest_of(b->cache, account, &unused)) != NULL) {
		evict(e->owner, COUNTER_flushed);
		count++;
	}
	return count;
}

unsigned connection_close_known(struct broker *b, const struct key *user)
{
	struct account known;
	enum accounts_state state = accounts_find_user(b->accounts, user, clock_ms(), &known);
	unsigned count = 0;
	struct connection *c = state == ACCOUNTS_FRESH || state == ACCOUNTS_STALE ? all : NULL;

	while (c) {
		bool idle = c->fd >= 0;
		struct key account = c->entry.account;

		if (c->unwanted || !is_placed(c, &known)) {
			c = c->next;
			continue;
		}
		count += take_away(b, &account);
		c = idle ? all : c->next; /* it is gone, or unwanted now */
	}
	return count;
}

unsigned connection_close_host(struct host *host, unsigned most, int64_t until)
{
	unsigned count = 0;

	while (host->idle && count < most && host->idle->entry.since <= until) {
		evict(host->idle, COUNTER_flushed);
		count++;
	}
	return count;
}

void connection_expire(struct broker *b)
{
	int64_t limit = clock_ms() - (int64_t)b->config.cache_expiration_time * 1000;
	struct cache_entry *oldest;

	while ((oldest = cache_oldest(b->cache)) != NULL && oldest->since <= limit)
		evict(oldest->owner, COUNTER_expired);
}

void connection_keep_to_size(struct broker *b)
{
	struct cache_entry *oldest;

	while (b->leased + b->spares + cache_count(b->cache) > b->connections_most &&
	       (oldest = cache_oldest(b->cache)) != NULL)
		evict(oldest->owner, COUNTER_evicted);
}

void connection_flush_outdated(struct broker *b)
{
	for (struct host *h = b->hosts; h; h = h->next)
		for (struct connection *c = h->idle, *next; c; c = next) {
			next = c->host_next;
			if (connection_is_outdated(c))
				evict(c, COUNTER_flushed);
		}
}

void connection_flush(struct broker *b)
{
	struct cache_entry *oldest;

	while ((oldest = cache_oldest(b->cache)) != NULL)
		close_idle(oldest->owner);
}
