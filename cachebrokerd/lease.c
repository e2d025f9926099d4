/* Finding a connection for a session.
 *
 * The secret is turned into a proof at once, while its message is still in the receive buffer;
 * nothing here keeps it.
 */
#include "cachebrokerd/lease.h"

#include <errno.h>

#include "cachebrokerd/accounts.h"
#include "cachebrokerd/client.h"
#include "cachebrokerd/dial.h"
#include "cachebrokerd/habits.h"
#include "cachebrokerd/host.h"
#include "cachebrokerd/lookup.h"
#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/log.h"

#define PATIENCE_MS  50
#define DIAL_ROUNDS  2 /* times connect_timeout: two addresses that do not answer */
#define LOOKUP_EXTRA 5 /* seconds */

static struct client *awaiting;	 /* those that wait for a connection on its way back */
static struct client *returning; /* those that bring one back */

uint32_t lease_longest(const struct broker *b)
{
	return b->config.connect_timeout * DIAL_ROUNDS + LOOKUP_EXTRA;
}

static void stop_awaiting(struct client *c)
{
	struct client **at = &awaiting;

	timer_end(&c->lease.patience);
	if (!c->lease.awaits)
		return;
	c->lease.awaits = false;
	while (*at && *at != c)
		at = &(*at)->lease.next;
	if (*at)
		*at = c->lease.next;
}

void lease_end(struct client *c)
{
	struct lease *l = &c->lease;

	stop_awaiting(c);
	question_drop(&l->question);
	dial_give_up(&l->dial);
	timer_end(&l->deadline);
	if (l->dialling)
		c->broker->leased--;
	l->dialling = false;
}

static void on_deadline(void *context)
{
	client_refuse(context, REFUSAL_UNAVAILABLE, "no mail host in time");
}

/* From here on the lease takes time: all of it together has one deadline, shorter than the
 * session's own. */
static int start_deadline(struct client *c)
{
	struct timer **slot = &c->lease.deadline;

	return *slot ? 0
		     : loop_timer(c->broker->loop, (int64_t)lease_longest(c->broker) * 1000,
				  on_deadline, c, slot);
}

static struct span text(const char *p, size_t n)
{
	return (struct span){ p, n };
}

static void on_dialled(void *context, int fd, const char *why)
{
	struct client *c = context;
	struct broker *b = c->broker;
	struct lease *l = &c->lease;

	l->dial = NULL;
	l->dialling = false;
	b->leased--; /* connection_new() counts it again */
	if (fd < 0) {
		client_refuse(c, REFUSAL_UNAVAILABLE, why);
		return;
	}
	struct connection *fresh =
		connection_new(b, l->host, &l->key, &l->account, text(l->user, l->user_length),
			       text(l->backend_user, l->backend_user_length), fd);

	if (fresh) {
		client_lease(c, fresh, fd, 0);
	} else {
		fd_drop(&fd);
		client_refuse(c, REFUSAL_UNAVAILABLE, "out of memory");
	}
}

static void dial(struct client *c)
{
	struct broker *b = c->broker;
	struct lease *l = &c->lease;

	if (!host_is_up(l->host)) {
		client_refuse(c, REFUSAL_UNAVAILABLE, "the mail host did not answer a moment ago");
		return;
	}
	if (!connection_make_room(b)) {
		client_refuse(c, REFUSAL_LIMIT, "cache_size connections are in use");
		return;
	}
	if (dial_start(b, l->host, on_dialled, c, &l->dial) < 0) {
		client_refuse(c, REFUSAL_UNAVAILABLE, "too many look-ups wait");
		return;
	}
	l->dialling = true;
	b->leased++;
}

void lease_set_returning(struct client *c)
{
	c->lease.returning = true;
	c->lease.returning_previous = NULL;
	c->lease.returning_next = returning;
	if (returning)
		returning->lease.returning_previous = c;
	returning = c;
}

void lease_unset_returning(struct client *c)
{
	struct lease *l = &c->lease;

	if (!l->returning)
		return;
	l->returning = false;
	if (l->returning_previous)
		l->returning_previous->lease.returning_next = l->returning_next;
	else
		returning = l->returning_next;
	if (l->returning_next)
		l->returning_next->lease.returning_previous = l->returning_previous;
}

static bool is_on_its_way_back(const struct key *key)
{
	for (const struct client *c = returning; c; c = c->lease.returning_next)
		if (key_same(&c->connection->entry.key, key))
			return true;
	return false;
}

static void on_impatient(void *context)
{
	stop_awaiting(context);
	dial(context);
}

static bool take_cached(struct client *c)
{
	const struct lease *l = &c->lease;
	struct connection *cached = NULL;
	int64_t idle_ms;
	int fd;

	if (l->wants)
		cached = connection_take(c->broker, &l->wanted, &fd, &idle_ms);
	if (!cached)
		cached = connection_take(c->broker, &l->key, &fd, &idle_ms);
	if (cached)
		client_lease(c, cached, fd, idle_ms);
	return cached != NULL;
}

static bool may_be_on_its_way(const struct lease *l)
{
	return is_on_its_way_back(&l->key) || (l->wants && is_on_its_way_back(&l->wanted));
}

/* The account is known: cache, a moment's wait, or a new connection. */
static void find_connection(struct client *c)
{
	struct lease *l = &c->lease;

	if (take_cached(c))
		return;
	if (start_deadline(c) < 0) {
		client_refuse(c, REFUSAL_UNAVAILABLE, "out of memory");
		return;
	}
	if (may_be_on_its_way(l) &&
	    loop_timer(c->broker->loop, PATIENCE_MS, on_impatient, c, &l->patience) == 0) {
		l->awaits = true;
		l->next = awaiting;
		awaiting = c;
		return;
	}
	dial(c);
}

void lease_wake(const struct key *key)
{
	for (struct client *c = awaiting, *next; c; c = next) {
		next = c->lease.next;
		if (!key_same(&c->lease.key, key) &&
		    (!c->lease.wants || !key_same(&c->lease.wanted, key)))
			continue;
		if (take_cached(c))
			return; /* there was one */
		if (!may_be_on_its_way(&c->lease)) {
			stop_awaiting(c);
			dial(c);
			next = awaiting; /* the list may have changed */
		}
	}
}

/* What will this client want? Only a guess: it is made sure of before it matters. */
static void guess_wish(struct client *c)
{
	struct broker *b = c->broker;
	struct lease *l = &c->lease;
	struct span wish;

	if (keys_habit(b->keys, &l->account, l->client_id, span_str(c->origin), &l->habit) < 0)
		return;
	wish = habits_find(b->habits, &l->habit, clock_ms(), &l->promise);
	l->wants = !l->plain && wish.n > 0 &&
		   keys_fingerprint(b->keys, &l->key, wish, &l->wanted) == 0;
}

/* The account's record is there: the keys can be made. */
static void set_account(struct client *c, const struct account *found)
{
	struct broker *b = c->broker;
	struct lease *l = &c->lease;
	const struct span backend_user = found->backend_user;
	const struct key_account account = { .service = c->service,
					     .port = found->port,
					     .host = found->host,
					     .backend_user = backend_user,
					     .authzid = text(l->authzid, l->authzid_length) };

	l->host = host_find(b, found->host, found->port);
	if (!l->host || backend_user.n > sizeof(l->backend_user) ||
	    keys_account(b->keys, &account, &l->proof, &l->key) < 0 ||
	    keys_account(b->keys, &account, NULL, &l->account) < 0) {
		client_refuse(c, REFUSAL_UNAVAILABLE, "the account's record cannot be used");
		return;
	}
	memcpy(l->backend_user, backend_user.p, backend_user.n);
	l->backend_user_length = backend_user.n;
	if (c->bound && !key_same(&c->bound_to, &l->account)) {
		client_refuse(c, REFUSAL_ATTEMPTS, "another account after a login");
		return;
	}
	guess_wish(c);
	find_connection(c);
}

static void on_account(void *context, const struct msg *answer)
{
	struct client *c = context;
	char why[201] = "the account cannot be looked up";

	c->lease.question = NULL;
	if (answer && answer->ACCOUNT.status == ACCOUNT_FOUND) {
		const struct account found = { .host = answer->ACCOUNT.host,
					       .port = answer->ACCOUNT.host_port,
					       .backend_user = answer->ACCOUNT.backend_user };

		accounts_store(c->broker->accounts, &c->lease.name, &found,
			       clock_ms() + (int64_t)c->broker->config.lookup_ttl * 1000);
		set_account(c, &found);
		return;
	}
	if (answer && answer->ACCOUNT.error.n > 0) {
		memcpy(why, answer->ACCOUNT.error.p, answer->ACCOUNT.error.n);
		why[answer->ACCOUNT.error.n] = '\0';
	}
	client_refuse(c,
		      answer && answer->ACCOUNT.status == ACCOUNT_UNKNOWN ? REFUSAL_UNKNOWN
									  : REFUSAL_UNAVAILABLE,
		      why);
}

void lease_begin(struct client *c, const struct msg *m)
{
	struct broker *b = c->broker;
	struct lease *l = &c->lease;
	const struct msg question = { .type = MSG_LOOKUP,
				      .LOOKUP = { .service = c->service, .user = m->LEASE.user } };
	struct account known;

	*l = (struct lease){ .serial = m->serial,
			     .plain = m->LEASE.plain || c->swapped,
			     .client_id = m->LEASE.client_id,
			     .user_length = m->LEASE.user.n,
			     .authzid_length = m->LEASE.authzid.n };
	memcpy(l->user, m->LEASE.user.p, m->LEASE.user.n);
	memcpy(l->authzid, m->LEASE.authzid.p, m->LEASE.authzid.n);
	if (keys_proof(b->keys, m->LEASE.proof_kind, m->LEASE.secret, &l->proof) < 0 ||
	    keys_name(b->keys, c->service, m->LEASE.user, &l->name) < 0)
		client_refuse(c, REFUSAL_UNAVAILABLE, "no proof can be made");
	else if (accounts_find(b->accounts, &l->name, clock_ms(), &known))
		set_account(c, &known);
	else if (start_deadline(c) < 0 ||
		 lookup_ask(b->lookup, &question, on_account, c, &l->question) < 0)
		client_refuse(c, REFUSAL_UNAVAILABLE, "too many look-ups wait");
}
