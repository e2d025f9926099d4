/* A session's process: how it comes and goes, and its messages, each in the states where it may
 * come (the table below). What they say about its lease is dealt with in client_lease.c.
 */
#include "cachebrokerd/client_lease.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <utlist.h>

#include "cachebrokerd/admit.h"
#include "cachebrokerd/client_challenge.h"
#include "cachebrokerd/client_tls.h"
#include "cachebrokerd/doorway.h"
#include "cachebrokerd/habits.h"
#include "cachebrokerd/master.h"
#include "cachebrokerd/process.h"
#include "cachebrokerd/tally.h"
#include "cachebrokerd/tls.h"
#include "cachebrokerd/tracing.h"
#include "lib/clock.h"
#include "lib/codes.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "lib/sasl.h"

#define SILENT_MS   10000
#define SILENT_MOST 512 /* a session introduces itself at once: more than these are none */

void client_show_active(struct client *c, struct span user, const char *host)
{
	state_session(c->broker->state, c->id, STATEFILE_ACTIVE, c->service, user,
		      span_str(c->address), span_str(host));
	if (c->tls)
		state_session_tls(c->broker->state, c->id, span_str(c->tls));
	broker_count(c->broker);
}

/* A master user's password is a password: clients must have the shared one. Without directories
 * nobody could verify an answer to a challenge. */
static uint32_t mechanisms_of(const struct broker *b)
{
	struct span bad;
	uint32_t set = 0;

	(void)sasl_list_read(span_str(b->config.auth_mechanisms), &set, &bad); /* is good */
	if (b->config.directory.count == 0)
		set &= ~(uint32_t)SASL_CHALLENGES;
	return master_shares_secret(b) ? set & ~(uint32_t)SASL_TOKENS : set;
}

/* A site that has put in.imapproxyd into up-imapproxy's place reads its lines. Only
 * in.imapproxyd hands us the file's text in a descriptor. */
static enum msg_old_log old_log_of(const struct broker *b)
{
	static const enum msg_old_log wanted[] = {
		[LOG_FORMAT_IMAPPROXY] = OLD_LOG_IMAPPROXY,
		[LOG_FORMAT_KEEPWARM] = OLD_LOG_NONE,
		[LOG_FORMAT_COURIER] = OLD_LOG_COURIER,
	};

	if (b->config.log_format == LOG_FORMAT_UNSET)
		return b->config_fd >= 0 ? OLD_LOG_IMAPPROXY : OLD_LOG_NONE;
	return wanted[b->config.log_format];
}

int client_welcome(struct peer *p, uint32_t serial, uint64_t session)
{
	const struct broker *b = p->broker;
	const struct config *s = &b->config;
	const struct msg m = { .type = MSG_WELCOME,
			       .serial = serial,
			       .WELCOME = { .session = session,
					    .settings = b->settings,
					    .uid = b->uid,
					    .gid = b->gid,
					    .login_timeout = s->login_timeout,
					    .login_attempts = s->login_attempts,
					    .max_errors = s->max_errors,
					    .max_line_login = s->max_line_login,
					    .idle_timeout = s->idle_timeout,
					    .backend_timeout = s->backend_timeout,
					    .lease_timeout = lease_longest(b) + 5,
					    .drain_bytes = s->drain_bytes,
					    .drain_time = s->drain_time,
					    .caching = s->cache_expiration_time > 0,
					    .select_cache = s->enable_select_cache,
					    .tcp_keepalives = s->send_tcp_keepalives,
					    .log_facility = s->syslog_facility,
					    .log_priority = s->syslog_prioritymask,
					    .auth_mechanisms = mechanisms_of(b),
					    .old_log = old_log_of(b),
					    .starttls = tls_serves(b),
					    .require_tls = s->require_tls,
					    .plaintext_addresses = span_str(s->plaintext_addresses),
					    .hide_capabilities = span_str(s->hide_capabilities),
					    .safe_commands = span_str(s->safe_commands),
					    .allow_addresses = span_str(s->allow_addresses),
					    .deny_addresses = span_str(s->deny_addresses),
					    .proxy_protocol_addresses =
						    span_str(s->proxy_protocol_addresses),
					    .trusted_addresses = span_str(s->trusted_addresses),
					    .chroot_directory = span_str(b->chroot_directory) } };

	return peer_send(p, &m, -1);
}

int client_refuse_code(struct client *c, uint32_t serial, enum msg_refusal reason, uint32_t code,
		       const char *text)
{
	struct span why = span_str(text);
	const struct msg m = { .type = MSG_REFUSED,
			       .serial = serial,
			       .REFUSED = { .session = c->id,
					    .reason = reason,
					    .code = code,
					    .user = { c->lease.user, c->lease.user_length },
					    .text = { why.p, why.n < 200 ? why.n : 200 } } };

	return peer_send(c->peer, &m, -1);
}

int client_refuse_with(struct client *c, uint32_t serial, enum msg_refusal reason, const char *text)
{
	return client_refuse_code(c, serial, reason, CODE_NONE, text);
}

void client_introduced(struct client *c)
{
	if (c->state != CLIENT_NEW)
		return;
	DL_DELETE2(c->broker->silent, c, silent_previous, silent_next);
	c->broker->silent_count--;
}

/* Where the client is, and whether there is room for it. False: it has been told that there is
 * none. One that is `served` already, by a connection of before us, may go on. own: nobody has
 * announced the address. */
static bool let_in(struct client *c, uint32_t serial, uint32_t service, struct span address,
		   uint32_t port, bool served, bool own)
{
	struct broker *b = c->broker;
	/* a proxy's own address is none of a client, and its clients are not one address's */
	bool counts = !own || !admit_is_proxy(b, address);

	(void)snprintf(c->origin, sizeof(c->origin), "%.*s", (int)address.n, address.p);
	(void)snprintf(c->address, sizeof(c->address), "%.*s:%u", (int)address.n, address.p, port);
	c->refused = true;
	if (!served && counts && !admit_address(b, address, c->address)) {
		(void)client_refuse_with(c, serial, REFUSAL_ADDRESS, "");
	} else if (b->client_count > b->clients_most || b->stopping) {
		state_count(b->state, COUNTER_clients_refused, 1);
		(void)client_refuse_with(c, serial, b->stopping ? REFUSAL_SHUTDOWN : REFUSAL_LIMIT,
					 "");
	} else if (counts && !admit_one_more(b, service, c->origin, served, c->address)) {
		(void)client_refuse_with(c, serial, REFUSAL_PER_IP, "");
	} else {
		c->refused = false;
		c->joined = counts;
		c->service = service;
	}
	return !c->refused;
}

/* Its end and ours. */
static void note_ends(struct client *c, uint32_t client_port, struct span local,
		      uint32_t local_port)
{
	struct caller *to = &c->connected;

	(void)snprintf(to->client, sizeof(to->client), "%s", c->origin);
	(void)snprintf(to->local, sizeof(to->local), "%.*s", (int)local.n, local.p);
	to->client_port = client_port;
	to->local_port = local_port;
}

static void is_new(struct client *c)
{
	client_introduced(c);
	c->state = CLIENT_READY;
	state_count(c->broker->state, COUNTER_clients, 1);
}

/* The process that has connected, as the kernel saw it then. */
static pid_t maker_of(const struct peer *p)
{
	struct ucred maker;
	socklen_t n = sizeof(maker);

	return getsockopt(p->fd, SOL_SOCKET, SO_PEERCRED, &maker, &n) < 0 ? 0 : maker.pid;
}

/* The first one is said before a client's byte is read: only who comes from a proxy then may say
 * another address later, behind the header. */
static int on_hello(struct client *c, const struct msg *m, int *fd)
{
	/* what it says first, or says again: it announces nobody */
	bool own = c->state == CLIENT_NEW || span_eq(m->HELLO.client, span_str(c->origin));

	(void)fd;
	if (!msg_service_name(m->HELLO.service))
		return -EPROTO;
	if (!let_in(c, m->serial, m->HELLO.service, m->HELLO.client, m->HELLO.client_port, false,
		    own))
		return 0;
	note_ends(c, m->HELLO.client_port, m->HELLO.local, m->HELLO.local_port);
	bool first = c->state == CLIENT_NEW;

	if (first)
		tries_meet(c->broker->tries, maker_of(c->peer), process_clock_ms(), &c->visit);
	if (first && admit_is_proxy(c->broker, m->HELLO.client)) {
		client_introduced(c);
		c->state = CLIENT_ANNOUNCING;
	} else {
		is_new(c);
	}
	if (first)
		doorway_show(c->peer);
	(void)client_welcome(c->peer, m->serial, c->id); /* it may be gone by now */
	return 0;
}

/* What it says of itself has come with its socket. */
static void introduce(struct client *c, const struct msg_KNOCK *knock)
{
	struct broker *b = c->broker;

	if (!msg_service_name(knock->service)) {
		peer_end(c->peer);
		return;
	}
	if (!let_in(c, 0, knock->service, knock->client, knock->client_port, knock->user.n > 0,
		    !knock->announced))
		return;
	note_ends(c, knock->client_port, knock->local, knock->local_port);
	if (knock->user.n > 0) {
		/* it goes on with a connection that the broker before us leased, and that cannot
		 * come back */
		client_introduced(c);
		c->orphan = true;
		c->state = CLIENT_DONE;
		c->lease.user_length = knock->user.n;
		memcpy(c->lease.user, knock->user.p, knock->user.n);
		b->orphans++; /* not counted as leased: what a session says of itself must not fill
				 the cache */
		client_show_active(c, knock->user, "");
	} else {
		is_new(c);
	}
	if (knock->settings != b->settings)
		(void)client_welcome(c->peer, 0, c->id);
	if (c->orphan && !c->peer->ended)
		tracing_join(c);
}

static int on_tally(struct client *c, const struct msg *m, int *fd)
{
	const struct msg_TALLY *tally = &m->TALLY;

	(void)fd;
	if (!span_is_printable(tally->fingerprint))
		return -EPROTO;
	if (c->accepted && c->state == CLIENT_LEASED)
		habits_note(c->broker->habits, &c->lease.habit, tally->fingerprint, clock_ms());
	if (tally->reason == END_PROXY_HEADER)
		admit_note_header(c->address);
	int r = tally_session(c, tally->reason, tally->select, tally->from_client,
			      tally->from_backend, tally->line);

	if (r == 0 && tally->reason == END_ADDRESS_REFUSED)
		admit_note_denied(c->broker, c->address);
	if (r == 0 && tally->not_cached != NOT_CACHED_NOTHING &&
	    tally->not_cached < NOT_CACHED_COUNT)
		state_count_not_cached(c->broker->state, tally->not_cached);
	if (r == 0)
		peer_end(c->peer); /* its last word, as GIVE is */
	return r;
}

static int on_line(struct client *c, const struct msg *m, int *fd)
{
	(void)fd;
	return tally_line(c, m->LINE.old_log, m->LINE.line);
}

/* A child that has heard its client could come again and say another address. */
static bool address_counts(const struct client *c)
{
	return !c->knocked || tries_is_first(c->broker->tries, &c->visit);
}

/* XPROXY_: before login only, which its state says, and where the site has allowed it. */
static int on_admin(struct client *c, const struct msg *m, int *fd)
{
	(void)fd;
	if (m->serial == 0 || m->ADMIN.kind > ADMIN_TRACE)
		return -EPROTO;
	if (!c->bound && admin_allows(c->broker, c->origin) && address_counts(c))
		return admin_ask(&c->admin, c->peer, m);
	return admin_deny(c->peer, m->serial);
}

#define ANY_STATE \
	(CLIENT_ANNOUNCING | CLIENT_READY | CLIENT_SECURING | CLIENT_CHALLENGED | CLIENT_WAITING | \
	 CLIENT_LEASED | CLIENT_RETURNING | CLIENT_DONE)

static const struct {
	enum msg_type type;
	unsigned states; /* in which it may come */
	int (*handle)(struct client *c, const struct msg *m, int *fd);
} handlers[] = {
	{ MSG_HELLO, CLIENT_NEW | CLIENT_ANNOUNCING, on_hello },
	{ MSG_TLS_ACCEPT, CLIENT_READY, client_on_tls_accept },
	{ MSG_AUTH_STEP, CLIENT_READY, client_on_auth_step },
	{ MSG_LEASE, CLIENT_READY, client_on_lease },
	{ MSG_OUTCOME, CLIENT_LEASED, client_on_outcome },
	{ MSG_UNTOUCHED, CLIENT_LEASED, client_on_untouched },
	{ MSG_RETURNING, CLIENT_LEASED, client_on_returning },
	{ MSG_GIVE, CLIENT_RETURNING, client_on_give },
	{ MSG_ADMIN, CLIENT_READY, on_admin },
	{ MSG_TALLY, ANY_STATE | CLIENT_NEW, on_tally },
	{ MSG_LINE, ANY_STATE, on_line },
};

static int on_message(struct peer *p, const struct msg *m, int *fd)
{
	struct client *c = p->owner;

	if (c->refused)
		return 0; /* said before it has heard of it */
	for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++)
		if (handlers[i].type == m->type)
			return handlers[i].states & c->state ? handlers[i].handle(c, m, fd)
							     : -EPROTO;
	return -EPROTO;
}

static void client_gone(struct peer *p)
{
	struct client *c = p->owner;
	struct broker *b = c->broker;

	if (!c->counted && !c->refused && c->state != CLIENT_NEW)
		state_count(b->state, COUNTER_sessions_lost, 1);
	if (!c->counted && c->accepted)
		habits_forget(b->habits, &c->lease.habit);
	client_leave_tls(c);
	client_leave_challenge(c);
	lease_end(c);
	client_lose_connection(c);
	tracing_leave(c);
	admin_gone(&c->admin);
	if (c->orphan)
		b->orphans--;
	client_introduced(c);
	tries_leave(b->tries, &c->visit);
	if (c->joined)
		admit_gone(b, c->service, c->origin);
	state_session_gone(b->state, c->id);
	if (c->previous)
		c->previous->next = c->next;
	else
		b->clients = c->next;
	if (c->next)
		c->next->previous = c->previous;
	b->client_count--;
	broker_count(b);
	loop_bury(b->loop, c, free);
	broker_client_gone(b);
}

const struct peer_kind client_peer_kind = { ROLE_SESSION, on_message, client_gone };

static void ignore_gone(struct peer *p)
{
	(void)p;
}

void client_peer_new(struct peer *p)
{
	static const struct peer_kind rejected = { ROLE_SESSION, on_message, ignore_gone };
	struct broker *b = p->broker;
	struct client *c = calloc(1, sizeof(*c));

	if (!c) {
		p->kind = &rejected;
		peer_end(p);
		return;
	}
	c->peer = p;
	c->broker = b;
	c->state = CLIENT_NEW;
	c->id = b->next_id++;
	c->since = clock_ms();
	c->next = b->clients;
	if (c->next)
		c->next->previous = c;
	b->clients = c;
	b->client_count++;
	p->owner = c;
	/* A flood that says nothing pushes itself out, not those that come to log in. What an
	 * ordinary session says waits in its socket already when it is let in. */
	if (b->silent_count >= SILENT_MOST)
		peer_end(b->silent->peer);
	DL_APPEND2(b->silent, c, silent_previous, silent_next);
	b->silent_count++;
	broker_count(b);
}

/* Its socket may be hung up already, and the event of that wait behind the one of the door. */
static bool has_hung_up(const struct client *c)
{
	struct pollfd fd = { .fd = c->peer->fd };

	return poll(&fd, 1, 0) == 1 && fd.revents & (POLLHUP | POLLERR);
}

/* Ends the client of an earlier socket of this process if that is hung up. Returns whether there
 * was one. */
static bool end_hung_up(struct broker *b, pid_t pid)
{
	for (struct client *c = b->clients; c; c = c->next)
		if (c->visit.pid == pid && has_hung_up(c)) {
			peer_end(c->peer);
			return true;
		}
	return false;
}

void client_knock(struct broker *b, int fd, pid_t pid, const struct msg_KNOCK *knock)
{
	AUTO_FD owned = fd;
	struct tries_visit visit;
	struct peer *p;
	int used = tries_knock(b->tries, pid, process_clock_ms(), &visit);

	if (used == -EBUSY && end_hung_up(b, pid))
		used = tries_knock(b->tries, pid, process_clock_ms(), &visit);
	if (used < 0) {
		state_count(b->state, COUNTER_bad_messages, 1);
		log_printf(LOG_WARNING, "process %d knocked again while it has a session", pid);
		return;
	}
	if (peer_new(b, take_fd(&owned), &client_peer_kind, &p) < 0) {
		tries_leave(b->tries, &visit);
		return;
	}
	client_peer_new(p);
	struct client *c = p->owner;

	if (!c) {
		tries_leave(b->tries, &visit);
		return;
	}
	c->visit = visit;
	c->knocked = true;
	c->leases = (unsigned)used;
	introduce(c, knock);
}

void client_cut_off_silent(struct broker *b)
{
	int64_t limit = clock_ms() - SILENT_MS;

	while (b->silent && b->silent->since < limit)
		peer_end(b->silent->peer);
}

void client_end(struct client *c, enum session_end reason, const char *text)
{
	const struct msg m = { .type = MSG_END,
			       .END = { .reason = reason, .text = span_str(text) } };

	(void)peer_send(c->peer, &m, -1);
}
