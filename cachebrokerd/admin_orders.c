/* An administrator's orders about mail hosts and users.
 *
 * A host may have thousands of idle connections and a user thousands of sessions, and the broker
 * has one thread: each turn does so many and leaves the rest to the next. What has come meanwhile,
 * behind the order, is not meant by a flush or a kick: so that ends. A host's order is in force
 * before its first turn.
 *
 * A misspelt name must be noticed: the answer says what was found.
 */
#include "cachebrokerd/admin_orders.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cachebrokerd/accounts.h"
#include "cachebrokerd/client.h"
#include "cachebrokerd/connection.h"
#include "cachebrokerd/host.h"
#include "cachebrokerd/orders.h"
#include "cachebrokerd/proofs.h"
#include "lib/clock.h"
#include "lib/kv.h"
#include "lib/log.h"

#define A_TURN 64 /* connections closed, sessions ended */

static const struct verb {
	const char *word, *done;
	bool of_user;
	enum statefile_order_kind order;
} verbs[] = {
	[ADMIN_DRAIN] = { "drain", "drained", false, STATEFILE_ORDER_DRAIN },
	[ADMIN_PAUSE] = { "pause", "paused", false, STATEFILE_ORDER_PAUSE },
	[ADMIN_RESUME] = { "resume", "resumed", false, STATEFILE_ORDER_NONE },
	[ADMIN_FLUSH_HOST] = { "flush", "flushed", false, STATEFILE_ORDER_NONE },
	[ADMIN_FLUSH_USER] = { "flush-user", "flushed", true, STATEFILE_ORDER_NONE },
	[ADMIN_KICK_USER] = { "kick", "kicked", true, STATEFILE_ORDER_NONE },
};

struct order {
	struct broker *broker;
	enum msg_admin kind;
	uid_t uid;
	admin_orders_fn *done;
	void *context;
	struct timer *turn;
	uint64_t id;	   /* sessions and connections of later numbers are not meant */
	int64_t began;	   /* nor what was given back later */
	unsigned known;	   /* hosts of this name */
	unsigned closed, ended;
	size_t length;
	char argument[256];
};

static struct span argument_of(const struct order *o)
{
	return (struct span){ o->argument, o->length };
}

/* --- mail hosts --- */

static struct host_name name_of(const struct order *o)
{
	struct host_name n = { .name = SPAN_NONE };

	(void)host_name_read(argument_of(o), &n); /* was good */
	return n;
}

static bool is_named(const void *context, struct span label)
{
	struct host_name one, n = name_of(context);

	return host_label_read(label, &one) == 0 && host_name_is(&n, one.name, one.port);
}

/* Returns whether there is more to do. */
static bool close_idle_of_hosts(struct order *o)
{
	const struct host_name n = name_of(o);
	unsigned left = A_TURN;

	for (struct host *h = o->broker->hosts; h && left > 0; h = h->next) {
		if (!host_name_is(&n, span_str(h->name), h->port))
			continue;
		unsigned closed = connection_close_host(h, left, o->began);

		o->closed += closed;
		left -= closed;
	}
	return left == 0;
}

/* What is done at once with each of them. */
static void begin_with_hosts(struct order *o)
{
	const struct host_name n = name_of(o);

	for (struct host *h = o->broker->hosts; h; h = h->next) {
		if (!host_name_is(&n, span_str(h->name), h->port))
			continue;
		host_take_order(h);
		if (o->kind == ADMIN_DRAIN || o->kind == ADMIN_FLUSH_HOST) {
			o->closed += spares_count(h);
			spares_flush(h);
		}
		if (o->kind == ADMIN_RESUME || o->kind == ADMIN_FLUSH_HOST)
			host_give_chance(h);
	}
}

/* Returns NULL, or why not. */
static const char *order_host(struct order *o)
{
	struct broker *b = o->broker;
	struct state_names *all = state_orders_of(b->state);
	struct host_name n;
	int r = host_name_read(argument_of(o), &n);

	if (r < 0)
		return "this is no mail host's name: give NAME, NAME:PORT or [ADDRESS]:PORT";
	o->known = state_count_hosts(b->state, is_named, o);
	if (verbs[o->kind].order != STATEFILE_ORDER_NONE)
		r = orders_give(all, &n, verbs[o->kind].order, clock_wall());
	else if (o->kind == ADMIN_RESUME)
		r = orders_take_back(all, &n);
	else if (o->known == 0)
		return "no mail host of this name is known";
	if (r == -ENOSPC)
		return "too many mail hosts are drained or paused";
	if (r == -EBUSY)
		return "the host as a whole is drained or paused: resume it without a port";
	if (o->kind == ADMIN_RESUME && r == 0)
		return "no such mail host is drained or paused";
	if (o->kind != ADMIN_FLUSH_HOST)
		state_orders_changed(b->state);
	begin_with_hosts(o);
	return NULL;
}

/* --- users --- */

static void forget_user(struct order *o)
{
	struct key name;

	/* by what is known of him */
	if (keys_name(o->broker->keys, SERVICE_IMAP, argument_of(o), &name) == 0)
		o->closed += connection_close_known(o->broker, &name);
	for (uint32_t service = SERVICE_IMAP; service <= SERVICE_POP3; service++)
		if (keys_name(o->broker->keys, service, argument_of(o), &name) == 0)
			accounts_forget_user(o->broker->accounts, &name);
}

static unsigned close_idle_of_user(struct order *o)
{
	struct key name;

	/* nothing of POP3 is cached */
	return keys_name(o->broker->keys, SERVICE_IMAP, argument_of(o), &name) < 0
		       ? 0
		       : connection_close_user(o->broker, &name, A_TURN);
}

static bool is_session_of(const struct order *o, const struct client *c)
{
	return c->id < o->id && (c->connection || c->orphan || c->state == CLIENT_WAITING) &&
	       span_eq((struct span){ c->lease.user, c->lease.user_length }, argument_of(o));
}

/* What running sessions have is not cached any more, nor what errands are logging in on. */
static void disown_connections(struct order *o)
{
	struct key name;

	if (keys_name(o->broker->keys, SERVICE_IMAP, argument_of(o), &name) == 0)
		connection_disown_user(&name);
	for (struct client *c = o->broker->clients; c; c = c->next)
		if (c->connection && is_session_of(o, c))
			connection_disown(c->connection);
}

static unsigned end_sessions(struct order *o)
{
	unsigned count = 0;

	for (struct client *c = o->broker->clients, *next; c && count < A_TURN; c = next) {
		next = c->next;
		if (c->kicked_by == o->id || !is_session_of(o, c))
			continue;
		c->kicked_by = o->id;
		client_end(c, END_KICKED, "Session was ended by the administrator");
		count++;
	}
	return count;
}

/* Returns whether there is more to do. */
static bool turn_of_user(struct order *o)
{
	unsigned closed = close_idle_of_user(o);
	unsigned ended = o->kind == ADMIN_KICK_USER ? end_sessions(o) : 0;

	o->closed += closed;
	o->ended += ended;
	return closed == A_TURN || ended == A_TURN;
}

/* --- the end --- */

static int add_count(struct buf *out, const char *before, unsigned count, const char *what)
{
	int r;

	(void)((r = buf_add_str(out, before)) || (r = buf_add_u64(out, count)) ||
	       (r = buf_add_str(out, what)) || (r = count == 1 ? 0 : buf_add_char(out, 's')));
	return r;
}

/* "drained: 1 known host, 3 connections closed" */
static void describe(const struct order *o, struct buf *out)
{
	const struct verb *v = &verbs[o->kind];

	(void)buf_add_str(out, v->done);
	if (v->of_user)
		(void)buf_add_str(out, ":");
	else if (o->known == 0)
		(void)buf_add_str(out, ": no mail host of this name is known yet,");
	else
		(void)(add_count(out, ": ", o->known, " known host") || buf_add_char(out, ','));
	(void)add_count(out, " ", o->closed, " connection");
	(void)buf_add_str(out, " closed");
	if (o->kind == ADMIN_KICK_USER)
		(void)(add_count(out, ", ", o->ended, " session") || buf_add_str(out, " ended"));
}

static void tell_log(const struct order *o, struct span outcome)
{
	const struct verb *v = &verbs[o->kind];
	char bytes[1600];
	struct buf line = BUF_OVER(bytes);

	if (buf_add_str(&line, "administrator:") == 0 && kv_add_u64(&line, "uid", o->uid) == 0 &&
	    kv_add(&line, "order", span_str(v->word)) == 0 &&
	    kv_add(&line, v->of_user ? "user" : "host", argument_of(o)) == 0 &&
	    buf_add_str(&line, ": ") == 0 && buf_add(&line, outcome) == 0)
		(void)log_write(LOG_NOTICE, buf_span(&line));
}

static unsigned running;

bool admin_orders_are_running(void)
{
	return running > 0;
}

static void finish(struct order *o, const char *why)
{
	char bytes[200];
	struct buf text = BUF_OVER(bytes);

	if (why)
		(void)buf_add_str(&text, why);
	else
		describe(o, &text);
	tell_log(o, buf_span(&text));
	o->done(o->context, why ? REPORT_FAILED : REPORT_DONE, buf_span(&text));
	free(o);
	running--;
}

static void on_turn(void *context)
{
	struct order *o = context;
	bool closes = o->kind == ADMIN_DRAIN || o->kind == ADMIN_FLUSH_HOST;
	bool more = verbs[o->kind].of_user ? turn_of_user(o) : closes && close_idle_of_hosts(o);

	broker_count(o->broker);
	if (!more || loop_timer(o->broker->loop, 0, on_turn, o, &o->turn) < 0)
		finish(o, NULL);
}

static void on_first_turn(void *context)
{
	struct order *o = context;
	const char *why = NULL;

	if (verbs[o->kind].of_user) {
		forget_user(o);
		disown_connections(o);
	} else {
		why = order_host(o);
	}
	if (why)
		finish(o, why);
	else
		on_turn(o);
}

int admin_orders_begin(struct broker *b, const struct msg_ADMIN *m, uid_t uid,
		       admin_orders_fn *done, void *context)
{
	struct order *o = m->argument.n > 0 && m->argument.n < sizeof(o->argument)
				  ? calloc(1, sizeof(*o))
				  : NULL;

	if (!o)
		return m->argument.n == 0 ? -EINVAL : -ENOMEM;
	*o = (struct order){ .broker = b,
			     .kind = (enum msg_admin)m->kind,
			     .uid = uid,
			     .done = done,
			     .context = context,
			     .id = b->next_id++,
			     .began = clock_ms(),
			     .length = m->argument.n };
	memcpy(o->argument, m->argument.p, m->argument.n);
	int r = loop_timer(b->loop, 0, on_first_turn, o, &o->turn);

	if (r < 0)
		free(o);
	else
		running++;
	return r;
}
