/* The broker as a whole: bounds, reload, stop. */
#include "cachebrokerd/broker.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/random.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "cachebrokerd/accounts.h"
#include "cachebrokerd/client.h"
#include "cachebrokerd/connection.h"
#include "cachebrokerd/door.h"
#include "cachebrokerd/doorway.h"
#include "cachebrokerd/spares.h"
#include "cachebrokerd/tls_policy.h"
#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/log.h"

#define RESERVE \
	256 /* descriptors for everything that is no session, connection or look-up worker */
#define STOP_MS	  3000
#define SETTLE_MS 10000 /* longer than lookupd's workers of before can go on answering */

static unsigned descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 1024;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit); /* what we have is enough to go on, smaller */
	(void)getrlimit(RLIMIT_NOFILE, &limit);
	return limit.rlim_cur > 1000000 ? 1000000 : (unsigned)limit.rlim_cur;
}

/* The kernel's table of our descriptors grows at once: when there is a second thread (the state's
 * writer), each doubling of it waits for all CPUs, some 30 ms. */
static void make_room_for_descriptors(unsigned count)
{
	int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, (int)count - 1);

	fd_drop(&fd);
}

void broker_set_bounds(struct broker *b)
{
	unsigned limit = descriptor_limit(), reserve = RESERVE + b->config.lookup_processes,
		 usable = limit > 2 * reserve ? limit - reserve : reserve;
	unsigned half = usable / 2;

	b->connections_most = b->config.cache_size < half ? b->config.cache_size : half;
	b->clients_most = usable - b->connections_most;
	if (b->config.max_clients < b->clients_most)
		b->clients_most = b->config.max_clients;
	if (b->connections_most < b->config.cache_size)
		log_printf(
			LOG_WARNING,
			"cache_size %u does not fit into %u descriptors (RLIMIT_NOFILE): %u it is",
			b->config.cache_size, limit, b->connections_most);
	if (b->clients_most < b->config.max_clients)
		log_printf(
			LOG_WARNING,
			"max_clients %u does not fit into %u descriptors (RLIMIT_NOFILE): %u it is",
			b->config.max_clients, limit, b->clients_most);
	make_room_for_descriptors(b->clients_most + b->connections_most + reserve);
}

void broker_count(struct broker *b)
{
	state_gauge(b->state, GAUGE_clients, b->client_count);
	state_gauge(b->state, GAUGE_active, b->leased + b->orphans);
	state_gauge(b->state, GAUGE_cached, cache_count(b->cache));
	state_gauge(b->state, GAUGE_spares, spares_ready(b));
}

/* Has in.imapproxyd read the file, and said what there is to say of it? */
static bool is_supervised(const struct broker *b)
{
	return b->config_fd >= 0;
}

void broker_report_config(void *context, bool is_error, const char *line)
{
	const struct broker *b = context;

	if (is_error || !is_supervised(b))
		(void)log_write(is_error ? LOG_ERR : LOG_WARNING, span_str(line));
}

/* Keys that only a new start takes: said once a reload. */
static void note_fixed_keys(const struct broker *b, const struct config *old,
			    const struct config *new)
{
	struct config_key key;

	for (size_t i = 0; !is_supervised(b) && config_key_at(i, &key); i++)
		if (!key.reload && !config_key_same(old, new, i))
			log_printf(LOG_NOTICE, "%s: the new value takes effect with the next start",
				   key.name);
}

void broker_name_settings(struct broker *b)
{
	if (getrandom(&b->settings, sizeof(b->settings), 0) != (ssize_t)sizeof(b->settings))
		b->settings++;
}

static void name_tls_settings(struct broker *b)
{
	b->tls_settings += 0x10; /* host_tls() adds the mode */
	connection_flush_outdated(b);
	spares_flush_all(b);
}

static void renew_tls_policy(struct broker *b)
{
	uint64_t policy = tls_policy(&b->config);

	if (policy != b->tls_policy) {
		b->tls_unsettled = true;
		name_tls_settings(b);
	}
	b->tls_policy = policy;
	uint64_t clients = tls_policy_clients(&b->config);

	b->clients_unsettled = b->clients_unsettled || clients != b->tls_clients;
	b->tls_clients = clients;
}

int broker_digest_settings(const struct broker *b, struct key *ret)
{
	struct span value = { (const char *)&b->tls_clients, sizeof(b->tls_clients) };
	struct config_key key;

	*ret = (struct key){ 0 };
	int r = keys_setting(b->keys, SPAN("tls_clients"), value, ret);

	for (size_t i = 0; r == 0 && config_key_at(i, &key); i++)
		for (size_t n = 0; r == 0 && config_value_at(&b->config, i, n, &value); n++)
			r = keys_setting(b->keys, span_str(key.name), value, ret);
	return r;
}

void broker_settle_tls(struct broker *b)
{
	if (b->tls_unsettled)
		name_tls_settings(b);
	if (b->clients_unsettled)
		b->settled_at++; /* who was verified meanwhile was by the authorities of before */
	b->tls_unsettled = b->clients_unsettled = false;
}

void broker_unsettle(struct broker *b)
{
	b->settled_at = clock_ms() + SETTLE_MS;
}

void broker_reload(struct broker *b)
{
	struct config fresh;

	if (config_load_again(&fresh, b->config_path, b->config_fd, broker_report_config, b) != 0) {
		log_printf(LOG_ERR, "%s: not taken over, the old settings stay", b->config_path);
		return;
	}
	note_fixed_keys(b, &b->config, &fresh);
	config_wipe(&b->config);
	b->config = fresh;
	broker_name_settings(b);
	renew_tls_policy(b);
	log_limits((int)b->config.syslog_facility, (int)b->config.syslog_prioritymask);
	broker_set_bounds(b);
	accounts_forget(b->accounts);
	broker_unsettle(b);
	connection_expire(b);
	spares_flush_all(b);
	door_tell_pools(b);
	log_printf(LOG_NOTICE, "%s: taken over", b->config_path);
}

static void on_stop_overdue(void *context)
{
	struct broker *b = context;

	log_printf(LOG_WARNING, "%u sessions have not ended in time", b->client_count);
	loop_end(b->loop, 0);
}

void broker_stop(struct broker *b)
{
	static struct timer *overdue;

	if (b->stopping)
		return;
	b->stopping = true;
	connection_flush(b);
	spares_flush_all(b);
	for (struct client *c = b->clients, *next; c; c = next) {
		next = c->next;
		client_end(c, END_SHUTDOWN, "[UNAVAILABLE] Service is stopping");
	}
	broker_client_gone(b);
	(void)loop_timer(b->loop, STOP_MS, on_stop_overdue, b, &overdue);
}

void broker_retire(struct broker *b)
{
	if (b->retiring || b->stopping)
		return;
	b->retiring = true;
	log_printf(LOG_NOTICE, "the supervisor is gone: serving %u sessions to their end",
		   b->client_count);
	(void)unsetenv("NOTIFY_SOCKET");
	peer_stop_listening();
	doorway_leave();
	if (!b->config.run_listener)
		door_leave_all(b); /* listeners that somebody else keeps: they meet our successor */
	connection_flush(b);
	spares_flush_all(b);
	state_leave(b->state);
	broker_client_gone(b);
}

void broker_client_gone(struct broker *b)
{
	if (b->client_count > 0)
		return;
	/* behind a door there may be processes that have not said a word yet */
	if (b->stopping || (b->retiring && !door_is_open()))
		loop_end(b->loop, 0);
}
