/* Finding a connection for a session, when the mail hosts of its account are known.
 *
 * The keys are those of one host at a time: whoever looks at another one turns the lease to it.
 */
#include "cachebrokerd/lease.h"

#include <errno.h>
#include <stdlib.h>
#include <utlist.h>

#include "cachebrokerd/client.h"
#include "cachebrokerd/dial.h"
#include "cachebrokerd/habits.h"
#include "cachebrokerd/lookup.h"
#include "cachebrokerd/made.h"
#include "cachebrokerd/own.h"
#include "cachebrokerd/recheck.h"
#include "cachebrokerd/secrets.h"
#include "cachebrokerd/tls.h"
#include "lib/clock.h"
#include "lib/config_login.h"
#include "lib/fd.h"
#include "lib/log.h"

#define PATIENCE_MS	   50
#define LOGOUT_PATIENCE_MS 1000

static struct client *awaiting;	       /* those that wait for a connection on its way back */
static struct client *awaiting_room;   /* those for whom another one's has to make room */
static struct client *awaiting_logout; /* those that wait for their account's to be logged out */
static struct client *awaiting_errand; /* those for whom an errand shall log in */

static void stop_awaiting(struct client *c)
{
	struct client **at = &awaiting;

	timer_end(&c->lease.patience);
	if (c->lease.awaits_logout)
		DL_DELETE2(awaiting_logout, c, lease.logout_previous, lease.logout_next);
	c->lease.awaits_logout = false;
	if (c->lease.awaits_errand)
		DL_DELETE2(awaiting_errand, c, lease.errand_previous, lease.errand_next);
	c->lease.awaits_errand = false;
	if (c->lease.awaits_room)
		DL_DELETE2(awaiting_room, c, lease.room_previous, lease.room_next);
	c->lease.awaits_room = false;
	if (!c->lease.awaits)
		return;
	c->lease.awaits = false;
	while (*at && *at != c)
		at = &(*at)->lease.next;
	if (*at)
		*at = c->lease.next;
}

/* The errand that was kept free for the client is its own, or not needed. */
static void settle_errand(struct client *c)
{
	if (!c->lease.owed)
		return;
	errand_release(c->broker);
	c->lease.host->by_errand--;
	c->lease.owed = false;
	lease_logged_out(c->broker); /* another one may have it */
}

void lease_end(struct client *c)
{
	struct lease *l = &c->lease;

	stop_awaiting(c);
	secret_wipe(&l->secret);
	recheck_leave(&l->recheck);
	made_leave(&l->login);
	settle_errand(c);
	question_drop(&l->question);
	dial_give_up(&l->dial);
	timer_end(&l->deadline);
	if (l->dialling)
		connection_dialled(c->broker, l->host);
	l->dialling = false;
	while (l->host_count > 0)
		host_release(l->hosts[--l->host_count]);
}

static void on_deadline(void *context)
{
	client_refuse(context, REFUSAL_UNAVAILABLE, "no mail host in time");
}

int lease_start_deadline(struct client *c)
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

/* The keys of the account's connections, and of those that the client may have. 0 or -errno. */
static int make_keys(struct client *c)
{
	struct broker *b = c->broker;
	struct lease *l = &c->lease;
	const struct key_account account = { .service = c->service,
					     .port = l->host->port,
					     .host = span_str(l->host->name),
					     .backend_user =
						     text(l->backend_user, l->backend_user_length),
					     .preauth = span_str(b->config.preauth_command),
					     .tls = host_tls(l->host),
					     .authzid = text(l->authzid, l->authzid_length) };
	int r = keys_account(b->keys, &account, &l->proof, &l->key);

	l->settings = b->settings;
	if (r == 0)
		r = keys_account(b->keys, &account, NULL, &l->account);
	l->record = l->account;
	if (r == 0 && l->verified)
		r = keys_verified(b->keys, &l->account, &l->record);
	return r == 0 && l->token ? keys_tokens(b->keys, &l->account, &l->record) : r;
}

/* A reload while it was dialled: what is said on the connection now is what the new settings say.
 */
static int renew_keys(struct client *c)
{
	struct lease *l = &c->lease;

	if (l->settings == c->broker->settings)
		return 0;
	int r = lease_make_proof(c);

	return r < 0 ? r : make_keys(c);
}

static void guess_wish(struct client *c);
static void dial(struct client *c);

int lease_turn_to(struct client *c, size_t at)
{
	struct lease *l = &c->lease;

	l->host_at = at;
	if (l->host == l->hosts[at])
		return 0;
	l->host = l->hosts[at];
	int r = make_keys(c);

	if (r == 0)
		guess_wish(c);
	return r;
}

/* This mail host cannot serve the client: the next one, if there is one. */
static void dial_next(struct client *c, enum msg_refusal reason, const char *why)
{
	struct lease *l = &c->lease;

	if (l->host_at + 1 < l->host_count && lease_turn_to(c, l->host_at + 1) == 0)
		dial(c);
	else
		client_refuse(c, reason, why);
}

static void dial_first(struct client *c)
{
	if (c->broker->config.host_order == HOST_ORDER_ROUND_ROBIN)
		host_sort(c->lease.hosts, c->lease.host_count);
	if (lease_turn_to(c, 0) == 0)
		dial(c);
	else
		client_refuse(c, REFUSAL_UNAVAILABLE, "no key can be made");
}

/* The mail host has turned out to be this very host: its own server takes its place. */
static bool goes_home(struct client *c)
{
	struct lease *l = &c->lease;
	struct host *home = own_is(l->host) ? own_server(c->broker, l->host->service) : NULL;

	if (!home || home == l->host)
		return false;
	l->host->spares.used = 0;
	host_hold(home);
	host_release(l->host);
	l->hosts[l->host_at] = home;
	lease_find(c);
	return true;
}

/* The connection on fd, which stays the caller's, in this lease's name. NULL: it cannot be made. */
static struct connection *make_fresh(struct client *c, int fd)
{
	struct lease *l = &c->lease;
	struct connection *fresh =
		renew_keys(c) < 0
			? NULL
			: connection_new(c->broker, l->host, &l->key, &l->account,
					 text(l->user, l->user_length),
					 text(l->backend_user, l->backend_user_length), fd);

	if (fresh)
		fresh->record = l->record;
	return fresh;
}

static void on_dialled(void *context, int fd, const char *why)
{
	struct client *c = context;
	struct broker *b = c->broker;
	struct lease *l = &c->lease;

	l->dial = NULL;
	l->dialling = false;
	connection_dialled(b, l->host); /* connection_new() counts it again */
	settle_errand(c);
	if (fd < 0 || !host_is_open(l->host)) {
		if (fd >= 0 || !goes_home(c))
			dial_next(c, REFUSAL_UNAVAILABLE, fd < 0 ? why : host_why_closed(l->host));
		fd_drop(&fd);
		return;
	}
	struct connection *fresh = make_fresh(c, fd);

	if (fresh && !l->by_errand) {
		client_lease(c, fresh, fd, 0);
		return;
	}
	if (!fresh || made_start(c, fresh, fd, &l->login) < 0) {
		if (fresh)
			connection_lost(fresh);
		client_refuse(c, REFUSAL_UNAVAILABLE, "the login cannot be made now");
	}
	fd_drop(&fd);
}

static void on_still_there(void *context)
{
	stop_awaiting(context);
	dial(context);
}

/* The mail host had too many connections of this user: the idle ones that were to make room must be
 * gone before it is asked again. */
static bool waits_for_logout(struct client *c)
{
	struct lease *l = &c->lease;

	if (!c->limited || !errand_logs_out(&l->account))
		return false;
	c->limited = false; /* once */
	if (loop_timer(c->broker->loop, LOGOUT_PATIENCE_MS, on_still_there, c, &l->patience) < 0)
		return false;
	l->awaits_logout = true;
	DL_APPEND2(awaiting_logout, c, lease.logout_previous, lease.logout_next);
	return true;
}

/* A login by errand takes an errand: one must be free before it is dialled, since their number
 * is small. Waits within the lease's deadline. */
static bool waits_for_errand(struct client *c)
{
	struct lease *l = &c->lease;

	if (!l->by_errand)
		return false;
	if (errand_has_place(c->broker, l->host)) {
		l->owed = true;
		l->host->by_errand++;
		errand_reserve();
		return false;
	}
	l->awaits_errand = true;
	DL_APPEND2(awaiting_errand, c, lease.errand_previous, lease.errand_next);
	return true;
}

/* All connections are in use, but somebody is just done with his. */
static bool waits_for_room(struct client *c)
{
	struct lease *l = &c->lease;

	if (l->has_awaited_room || connection_has_room(c->broker, l->host) ||
	    !lease_room_is_coming(c->broker, l->host) ||
	    loop_timer(c->broker->loop, PATIENCE_MS, on_still_there, c, &l->patience) < 0)
		return false;
	l->awaits_room = l->has_awaited_room = true; /* once */
	DL_APPEND2(awaiting_room, c, lease.room_previous, lease.room_next);
	return true;
}

/* A connection that waits for a login, if there is one. A login by errand does without: the
 * errand cannot tell a dead connection from a mail host that is out of order. */
static bool take_spare(struct client *c)
{
	struct lease *l = &c->lease;
	char *offered;
	int fd;

	if (l->by_errand || c->spare_died || renew_keys(c) < 0 ||
	    !spares_take(l->host, &fd, &offered))
		return false;
	struct connection *fresh = make_fresh(c, fd);

	if (!fresh) {
		fd_drop(&fd);
		free(offered);
		return false;
	}
	fresh->spare = true;
	fresh->offered = offered;
	client_lease(c, fresh, fd, 0);
	return true;
}

static void dial(struct client *c)
{
	struct broker *b = c->broker;
	struct lease *l = &c->lease;
	enum msg_refusal reason;
	const char *full, *problem;

	if (host_is_open(l->host) && host_is_up(l->host) && waits_for_room(c))
		return;
	if (!l->by_errand)
		secret_wipe(&l->secret); /* the session itself proves it */
	if (!host_is_open(l->host)) {
		dial_next(c, REFUSAL_UNAVAILABLE, host_why_closed(l->host));
		return;
	}
	if (!host_is_up(l->host)) {
		dial_next(c, REFUSAL_UNAVAILABLE, "the mail host did not answer a moment ago");
		return;
	}
	problem = l->by_errand ? made_problem(c, &reason) : NULL;
	if (problem) {
		client_refuse(c, reason, problem);
		return;
	}
	if (waits_for_logout(c) || waits_for_errand(c))
		return;
	host_takes_turn(l->host);
	if (take_spare(c))
		return;
	full = connection_make_room(b, l->host);
	if (full) {
		settle_errand(c); /* the next host's may be another matter */
		dial_next(c, connection_fills_host(b, l->host) ? REFUSAL_LIMIT : REFUSAL_ROOM,
			  full);
		return;
	}
	if (dial_start(b, l->host, on_dialled, c, &l->dial) < 0) {
		client_refuse(c, REFUSAL_UNAVAILABLE, "too many look-ups wait");
		return;
	}
	dial_for(l->dial, &c->caller);
	l->dialling = true;
	connection_dialling(b, l->host);
}

static void on_logged_out(void *context)
{
	const struct broker *b = context;

	for (struct client *c = awaiting_logout, *next; c; c = next) {
		next = c->lease.logout_next;
		if (errand_logs_out(&c->lease.account))
			continue;
		stop_awaiting(c);
		dial(c);
	}
	/* once through the line: who must wait again stands behind the last one then */
	const struct client *last = awaiting_errand ? awaiting_errand->lease.errand_previous : NULL;
	bool more = last != NULL, none = !errand_has_listener(b); /* which dial() says */

	for (struct client *c = awaiting_errand, *next; more && (none || errand_room(b) > 0);
	     c = next) {
		next = c->lease.errand_next;
		more = c != last;
		if (!none && !errand_has_place(b, c->lease.host))
			continue;
		stop_awaiting(c);
		dial(c);
	}
}

void lease_logged_out(struct broker *b)
{
	static struct timer *soon; /* whoever ended the errand may be at work on the cache */

	if ((awaiting_logout || awaiting_errand) && !soon)
		(void)loop_timer(b->loop, 0, on_logged_out, b, &soon);
}

static void on_impatient(void *context)
{
	stop_awaiting(context);
	dial_first(context);
}

bool lease_take(struct client *c)
{
	const struct lease *l = &c->lease;
	struct connection *cached = NULL;
	int64_t idle_ms;
	int fd;

	if (!host_is_open(l->host))
		return false;
	if (l->wants)
		cached = connection_take(c->broker, &l->wanted, &fd, &idle_ms);
	if (!cached)
		cached = connection_take(c->broker, &l->key, &fd, &idle_ms);
	if (cached)
		client_lease(c, cached, fd, idle_ms);
	return cached != NULL;
}

/* Answers from the cache, and lets the password be proven behind that. */
static bool take_and_recheck(struct client *c)
{
	struct secret *secret = c->lease.secret;

	c->lease.secret = NULL; /* the answer ends the lease */
	bool taken = lease_take(c);

	/* When it cannot be begun after all, the next login will try. */
	if (taken)
		(void)recheck_start(c, &secret, false, NULL);
	secret_wipe(&secret);
	return taken;
}

/* Is there an idle connection for it, one that it is offered or a plain one? */
static bool lies_ready(const struct client *c)
{
	const struct lease *l = &c->lease;
	const struct cache *cache = c->broker->cache;

	return host_is_open(l->host) &&
	       ((l->wants && cache_newest(cache, &l->wanted)) || cache_newest(cache, &l->key));
}

/* Serves the client from the cache, now or when its password has been proven. */
static bool take_cached(struct client *c)
{
	struct lease *l = &c->lease;

	if (!lies_ready(c))
		return false;
	switch (recheck_need(c)) {
	case RECHECK_NOT:
		return lease_take(c);
	case RECHECK_BEHIND:
		return take_and_recheck(c);
	case RECHECK_BEFORE:
		if (lease_start_deadline(c) < 0 ||
		    recheck_start(c, &l->secret, true, &l->recheck) < 0)
			return false;
		stop_awaiting(c);
		return true;
	default:
		return false;
	}
}

void lease_proven(struct client *c, enum errand_verdict verdict)
{
	c->lease.recheck = NULL;
	if (verdict == VERDICT_REFUSED)
		client_refuse(c, REFUSAL_PASSWORD, "the mail host refused the password");
	else if (verdict != VERDICT_ACCEPTED || !lease_take(c))
		dial_first(c);
}

static bool may_be_on_its_way(const struct lease *l)
{
	return lease_is_returning(&l->key) || (l->wants && lease_is_returning(&l->wanted));
}

/* Begins to wait if a connection may come back in a moment. */
static bool waits_for_return(struct client *c)
{
	struct lease *l = &c->lease;

	if (!host_is_open(l->host) || !may_be_on_its_way(l) || recheck_need(c) == RECHECK_ITSELF ||
	    loop_timer(c->broker->loop, PATIENCE_MS, on_impatient, c, &l->patience) < 0)
		return false;
	l->awaits = true;
	l->next = awaiting;
	awaiting = c;
	return true;
}

void lease_find(struct client *c)
{
	struct lease *l = &c->lease;

	l->hosts[0]->spares.used = clock_ms();
	for (size_t i = 0; i < l->host_count; i++)
		if (lease_turn_to(c, i) == 0 && take_cached(c))
			return;
	if (lease_start_deadline(c) < 0) {
		client_refuse(c, REFUSAL_UNAVAILABLE, "out of memory");
		return;
	}
	for (size_t i = 0; i < l->host_count; i++)
		if (lease_turn_to(c, i) == 0 && waits_for_return(c))
			return;
	dial_first(c);
}

/* Something has come back, or is gone: the first of those who wait for room may have it. */
static void wake_for_room(void)
{
	for (struct client *c = awaiting_room, *next; c; c = next) {
		next = c->lease.room_next;
		if (take_cached(c)) {
			next = awaiting_room; /* it may be gone, which calls this again */
		} else if (connection_has_room(c->broker, c->lease.host) ||
			   !lease_room_is_coming(c->broker, c->lease.host)) {
			stop_awaiting(c);
			dial(c);
			next = awaiting_room;
		}
	}
}

static void wake_for_key(const struct key *key)
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
			dial_first(c);
			next = awaiting; /* the list may have changed */
		}
	}
}

void lease_wake(const struct key *key)
{
	wake_for_key(key);
	wake_for_room();
}

/* What will this client want? Only a guess: it is made sure of before it matters. */
static void guess_wish(struct client *c)
{
	struct broker *b = c->broker;
	struct lease *l = &c->lease;
	struct span wish;

	l->wants = false;
	if (keys_habit(b->keys, &l->account, l->client_id, span_str(c->origin), &l->habit) < 0)
		return;
	wish = habits_find(b->habits, &l->habit, clock_ms(), &l->promise);
	l->wants = !l->plain && wish.n > 0 &&
		   keys_fingerprint(b->keys, &l->key, wish, &l->wanted) == 0;
}
