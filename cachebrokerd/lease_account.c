/* A LEASE until it is known where its account is, and that the password is right where the
 * directory judges it: look-up, mail hosts. Who judges is lease_judge.c's, what comes behind it
 * lease.c's.
 *
 * With auth directory or both an answer is believed for that very password: what is remembered lies
 * under name and proof. A password that the mail host wants in the place of the client's
 * is never remembered, so the directory is asked for it with each login; what is remembered
 * without it finds cached connections while the directory is away.
 */
#include <errno.h>
#include <stdio.h>

#include "cachebrokerd/accounts.h"
#include "cachebrokerd/client.h"
#include "cachebrokerd/host.h"
#include "cachebrokerd/lease.h"
#include "cachebrokerd/lookup.h"
#include "cachebrokerd/master.h"
#include "cachebrokerd/own.h"
#include "cachebrokerd/secrets.h"
#include "cachebrokerd/tls.h"
#include "lib/clock.h"
#include "lib/config_tls.h"
#include "lib/sasl.h"
#include "lib/selfhost.h"

#define DIAL_ROUNDS  2 /* times connect_timeout: two addresses that do not answer */
/* an account that is looked up, and its mail host's name */
#define LOOKUP_EXTRA (LOOKUP_SECONDS + RESOLVE_SECONDS)

uint32_t lease_longest(const struct broker *b)
{
	uint32_t tries = b->config.connect_timeout * DIAL_ROUNDS, one = tries + LOOKUP_EXTRA;

	if (config_tls_possible(&b->config))
		one += tls_longest(b) * DIAL_ROUNDS;
	if (b->config.auth != AUTH_BACKEND)
		one += PASSWORD_SECONDS;
	if (b->config.auth != AUTH_BACKEND || master_may_log_in(b) ||
	    config_offers(&b->config, SASL_CHALLENGES | SASL_EXTERNAL))
		one += errand_login_seconds(b);
	/* proven before each answer: that may come to nothing, and the session dials after all */
	return b->config.auth_recheck > 0 ? one : 2 * one + errand_login_seconds(b);
}

/* May the client have connections of this host and key? After a login it is the same account, and
 * where its mail was then; after a connection that was dead, the same login. */
static bool may_have(const struct client *c)
{
	const struct lease *l = &c->lease;

	return (!c->bound || key_same(&c->bound_to, &l->account)) &&
	       (!l->repeats || key_same(&c->repeated, &l->key));
}

/* The host of a route, or this host's own server where that is the same. NULL: there is none, and
 * *ret_why says why. For one who has been served before, addresses that are too old are good
 * enough: it must come to the same server. */
static struct host *host_of(const struct client *c, const struct route *route, const char **ret_why)
{
	static char text[100];
	struct broker *b = c->broker;
	const enum msg_service service = (enum msg_service)c->service;
	struct host *h = route->local ? NULL : host_find(b, route, service);

	if (h && !own_was(h, !c->bound && !c->lease.repeats))
		return h;
	if (!h && !route->local) {
		*ret_why = "there is no room for another mail host";
		return NULL;
	}
	(void)snprintf(text, sizeof(text), "the mail is on this host, and %s is not set",
		       selfhost_key(service));
	*ret_why = h ? own_problem(h) : text;
	return own_server(b, service);
}

/* Two proxies that have each other for the mail host would pass a login to and fro without end. */
static void refuse_loop(struct client *c)
{
	char host[OWN_NAME_MAX + 1], why[300];

	own_name(c->broker, host);
	(void)snprintf(why, sizeof(why),
		       "loop: the login came through %u proxies, %.64s would "
		       "pass it on to %.80s",
		       c->caller.hops, host, c->lease.hosts[0]->label);
	client_refuse(c, REFUSAL_UNAVAILABLE, why);
}

/* What the account's record means to the login itself. False: the client has been told. */
static bool may_log_in(struct client *c, const struct account *found)
{
	struct lease *l = &c->lease;

	if (found->private && !l->private) {
		client_refuse(c, REFUSAL_UNKNOWN, "the account may not log in without TLS");
		return false;
	}
	if (l->verified)
		return true;
	if (l->auth != c->broker->config.auth) {
		client_refuse(c, REFUSAL_UNAVAILABLE, "the settings have changed meanwhile");
		return false;
	}
	if (!found->other_password || l->master)
		return true;
	if (!lease_let_errand(c))
		return false;
	if (lease_make_proof(c) == 0)
		return true;
	client_refuse(c, REFUSAL_UNAVAILABLE, "no proof can be made");
	return false;
}

/* The account's record is there: the keys can be made. */
static void set_account(struct client *c, const struct account *found)
{
	struct lease *l = &c->lease;
	const struct span backend_user = found->backend_user;
	struct span text_of_hosts = found->hosts;
	bool good = backend_user.n <= sizeof(l->backend_user) &&
		    (!l->master || master_may_name(c->broker, backend_user));
	struct route route;
	bool found_one = false;
	const char *why = "the account's record cannot be used";

	if (!may_log_in(c, found))
		return; /* it has been told */
	if (good) {
		memcpy(l->backend_user, backend_user.p, backend_user.n);
		l->backend_user_length = backend_user.n;
	}
	while (good && l->host_count < ROUTE_HOSTS_MOST && route_next(&text_of_hosts, &route) > 0) {
		struct host *host = host_of(c, &route, &why);

		if (!host)
			continue;
		l->hosts[l->host_count] = host;
		good = lease_turn_to(c, l->host_count) == 0;
		found_one = true;
		if (good && may_have(c)) {
			host_hold(host);
			l->host_count++;
		} else {
			l->host = NULL; /* another one may be made in its place */
		}
	}
	if (!good || !found_one)
		client_refuse(c, REFUSAL_UNAVAILABLE, why);
	else if (l->host_count == 0)
		client_refuse(c, REFUSAL_ATTEMPTS,
			      l->repeats ? "another login after a dead connection"
					 : "another account after a login");
	else if (c->caller.hops >= CALLER_HOPS_MOST)
		refuse_loop(c);
	else
		lease_find(c);
}

static void remember(struct client *c, const struct account *found, uint32_t lifetime)
{
	const struct config *config = &c->broker->config;
	const int64_t now_ms = clock_ms();
	uint32_t fresh = config->lookup_ttl;

	if (now_ms < c->broker->settled_at)
		return;
	(void)connection_close_misplaced(c->broker, &c->lease.name, found);
	if (lifetime > 0 && lifetime < fresh)
		fresh = lifetime;
	if (found->other_password && !c->lease.master)
		fresh = 0; /* it is asked for each time */
	accounts_store(c->broker->accounts, &c->lease.known_as, &c->lease.name, found,
		       now_ms + (int64_t)fresh * 1000,
		       now_ms + ((int64_t)fresh + config->lookup_stale_max) * 1000);
}

/* Of a client without TLS it may be that which a directory did not like: then it says nothing of
 * the account, and belongs to no user of whom more is known. */
static void remember_none(struct client *c, enum msg_account status)
{
	struct broker *b = c->broker;
	const struct lease *l = &c->lease;
	const struct key *user = l->told_plain ? &l->known_as : &l->name;
	const int64_t now_ms = clock_ms();
	const int64_t until = now_ms + (int64_t)b->config.lookup_negative_ttl * 1000;

	if (now_ms < b->settled_at)
		return;
	/* what strangers type closes nothing */
	if (status == ACCOUNT_UNKNOWN && !l->told_plain)
		(void)connection_close_misplaced(b, &l->name, NULL);
	accounts_store_none(b->accounts, &l->known_as, user, status == ACCOUNT_REFUSED, until);
}

/* Nobody can say it: is it known of before? Whether it counts as fresh is no matter. place: of
 * the directory that cannot be asked, 0: none of them can. What one in front of it has said once is
 * good no more: by now it says no. */
static bool use_stale(struct client *c, uint32_t place)
{
	struct accounts *accounts = c->broker->accounts;
	struct account known;
	enum accounts_state state =
		accounts_find(accounts, &c->lease.known_as, clock_ms(), &known);

	if (state != ACCOUNTS_FRESH && state != ACCOUNTS_STALE)
		return false;
	if (known.place < place) {
		accounts_forget_login(accounts, &c->lease.known_as);
		return false;
	}
	if (known.other_password)
		secret_wipe(&c->lease.secret); /* the client's own: nobody logs in with that */
	set_account(c, &known);
	return true;
}

/* The directory's word. */
static void take_found(struct client *c, const struct msg_ACCOUNT *answer)
{
	struct lease *l = &c->lease;
	/* a verified client has none of its own that this could be another one than */
	const struct account found = { .hosts = answer->hosts,
				       .backend_user = answer->backend_user,
				       .other_password = !l->verified && answer->password.n > 0,
				       .private = answer->private,
				       .place = answer->place };

	if (answer->password.n > 0 && !l->master) {
		secret_wipe(&l->secret); /* the client's own: nobody logs in with that */
		l->secret = secret_keep(answer->password);
	}
	remember(c, &found, answer->lifetime);
	set_account(c, &found);
}

static void on_account(void *context, const struct msg *answer)
{
	struct client *c = context;
	char why[201] = "the account cannot be looked up";
	const uint32_t status = answer ? answer->ACCOUNT.status : ACCOUNT_UNAVAILABLE;

	c->lease.question = NULL;
	if (c->lease.asked_under != c->broker->settled_at) {
		/* the directories may be others by now, whoever of them has said this */
		client_ask_again(c);
		return;
	}
	if (status == ACCOUNT_REFUSED && c->lease.checked) {
		remember_none(c, ACCOUNT_REFUSED);
		client_refuse(c, REFUSAL_PASSWORD, "the directory refused the password");
		return;
	}
	if (status == ACCOUNT_FOUND) {
		take_found(c, &answer->ACCOUNT);
		return;
	}
	if (status == ACCOUNT_UNKNOWN)
		remember_none(c, ACCOUNT_UNKNOWN);
	else if (!c->lease.verified && /* it has no password */
		 use_stale(c, answer ? answer->ACCOUNT.place : 0))
		return;
	if (answer && answer->ACCOUNT.error.n > 0) {
		memcpy(why, answer->ACCOUNT.error.p, answer->ACCOUNT.error.n);
		why[answer->ACCOUNT.error.n] = '\0';
	}
	client_refuse(c, status == ACCOUNT_UNKNOWN ? REFUSAL_UNKNOWN : REFUSAL_UNAVAILABLE, why);
}

/* Nothing is known of it, or nothing that is fresh. */
static void ask(struct client *c, const struct msg_LEASE *m)
{
	struct broker *b = c->broker;
	struct lease *l = &c->lease;
	const struct msg question = { .type = MSG_LOOKUP,
				      .LOOKUP = { .service = c->service,
						  .check = l->verified	? CHECK_VERIFIED
							   : l->checked ? CHECK_PASSWORD
									: CHECK_NOTHING,
						  .tls = m->tls,
						  .attempt = c->leases,
						  .client = span_str(c->caller.client),
						  .user = { l->user, l->user_length },
						  .secret = l->checked ? m->secret : SPAN_NONE } };

	l->asked_under = b->settled_at;
	if (lease_start_deadline(c) < 0)
		client_refuse(c, REFUSAL_UNAVAILABLE, "out of memory");
	else if (lookup_ask(b->lookup, &question, on_account, c, &l->question) < 0 &&
		 (l->verified || !use_stale(c, 0)))
		client_refuse(c, REFUSAL_UNAVAILABLE, "too many look-ups wait");
}

void lease_begin(struct client *c, const struct msg *m)
{
	struct broker *b = c->broker;
	struct lease *l = &c->lease;
	struct account known;

	if (!lease_judge(c, m))
		return; /* it has been told */
	/* the directory's passwords are not remembered */
	switch (l->verified ? ACCOUNTS_NOTHING
			    : accounts_find(b->accounts, &l->known_as, clock_ms(), &known)) {
	case ACCOUNTS_FRESH:
		set_account(c, &known);
		return;
	case ACCOUNTS_UNKNOWN:
		client_refuse(c, REFUSAL_UNKNOWN, "no such login, as of a moment ago");
		return;
	case ACCOUNTS_REFUSED:
		client_refuse(c, REFUSAL_PASSWORD, "the directory refused the password");
		return;
	case ACCOUNTS_STALE:
		if (lookup_is_stuck(b->lookup) && use_stale(c, 0))
			return;
		break;
	case ACCOUNTS_NOTHING:
		break;
	}
	ask(c, &m->LEASE);
}
