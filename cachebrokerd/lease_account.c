/* A LEASE until it is known where its account is: proof, look-up, mail hosts. What comes behind
 * that is lease.c's.
 *
 * The secret is turned into a proof at once, while its message is still in the receive buffer. A
 * copy stays in the memory of secrets.c only as long as it may be needed to prove the password
 * again: until it is clear which connection the session gets.
 */
#include <stdio.h>

#include "cachebrokerd/accounts.h"
#include "cachebrokerd/client.h"
#include "cachebrokerd/client_challenge.h"
#include "cachebrokerd/client_tls.h"
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
	if (master_may_log_in(b) || config_offers(&b->config, SASL_CHALLENGES | SASL_EXTERNAL))
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
	accounts_store(c->broker->accounts, &c->lease.name, found, now_ms + (int64_t)fresh * 1000,
		       now_ms + ((int64_t)fresh + config->lookup_stale_max) * 1000);
}

static void remember_unknown(struct client *c)
{
	struct broker *b = c->broker;

	if (clock_ms() < b->settled_at)
		return;
	(void)connection_close_misplaced(b, &c->lease.name, NULL);
	accounts_store_unknown(b->accounts, &c->lease.name,
			       clock_ms() + (int64_t)b->config.lookup_negative_ttl * 1000);
}

/* Nobody can say it: is it known of before? Whether it counts as fresh is no matter. */
static bool use_stale(struct client *c)
{
	struct account known;
	enum accounts_state state =
		accounts_find(c->broker->accounts, &c->lease.name, clock_ms(), &known);

	if (state != ACCOUNTS_FRESH && state != ACCOUNTS_STALE)
		return false;
	set_account(c, &known);
	return true;
}

static void on_account(void *context, const struct msg *answer)
{
	struct client *c = context;
	char why[201] = "the account cannot be looked up";

	c->lease.question = NULL;
	if (answer && answer->ACCOUNT.status == ACCOUNT_FOUND) {
		const struct account found = { .hosts = answer->ACCOUNT.hosts,
					       .backend_user = answer->ACCOUNT.backend_user };

		remember(c, &found, answer->ACCOUNT.lifetime);
		if (c->lease.verified && answer->ACCOUNT.password.n > 0)
			c->lease.secret = secret_keep(answer->ACCOUNT.password);
		set_account(c, &found);
		return;
	}
	if (answer && answer->ACCOUNT.status == ACCOUNT_UNKNOWN)
		remember_unknown(c);
	else if (!c->lease.verified && use_stale(c)) /* it has no password */
		return;
	if (answer && answer->ACCOUNT.error.n > 0) {
		memcpy(why, answer->ACCOUNT.error.p, answer->ACCOUNT.error.n);
		why[answer->ACCOUNT.error.n] = '\0';
	}
	client_refuse(c,
		      answer && answer->ACCOUNT.status == ACCOUNT_UNKNOWN ? REFUSAL_UNKNOWN
									  : REFUSAL_UNAVAILABLE,
		      why);
}

/* How its connections were logged in on: a verified client has brought nothing that could tell one
 * from the other. */
static int make_proof(const struct client *c, const struct msg *m, struct key *ret)
{
	const struct broker *b = c->broker;
	const struct lease *l = &c->lease;

	if (l->verified)
		return keys_proof(b->keys, PROOF_VERIFIED, SPAN_NONE, ret);
	return l->master ? master_proof(b, ret)
			 : keys_proof(b->keys, m->LEASE.proof_kind, m->LEASE.secret, ret);
}

static bool refuse(struct client *c, enum msg_refusal reason, const char *why)
{
	client_refuse(c, reason, why);
	return false;
}

/* May the client have what it asks for, as far as can be said without anybody else? False: it was
 * refused. */
static bool admit_certified(struct client *c, struct span authzid)
{
	const struct span user = { c->lease.user, c->lease.user_length };

	if (!config_offers_external(&c->broker->config))
		return refuse(c, REFUSAL_SECRET, "EXTERNAL is not in auth_mechanisms");
	if (authzid.n > 0 && !span_eq(authzid, user))
		return refuse(c, REFUSAL_PASSWORD, "the certificate is another user's");
	return true;
}

static bool admit_by_secret(struct client *c, const struct msg_LEASE *m)
{
	struct lease *l = &c->lease;

	l->master = true;
	if (l->token || m->authzid.n > 0 || !master_admits(c->broker, m->secret))
		return refuse(c, REFUSAL_SECRET, "shared secret was wrong");
	if (!master_may_name(c->broker, (struct span){ l->user, l->user_length }))
		return refuse(c, REFUSAL_UNKNOWN, "master_separator stands in the name");
	return true;
}

static bool admit(struct client *c, const struct msg_LEASE *m)
{
	const struct broker *b = c->broker;
	struct lease *l = &c->lease;

	if (m->proof_kind == PROOF_EXTERNAL)
		return admit_certified(c, m->authzid);
	if (l->verified) /* the directory's password comes with the account */
		return true;
	if (master_is_on(b))
		return admit_by_secret(c, m);
	if (!l->token && c->service == SERVICE_IMAP && b->config.cache_expiration_time > 0 &&
	    errand_may_log_in(b))
		l->secret = secret_keep(m->secret);
	return true;
}

/* What the client asks for; of a verified one only what is known of it is believed. */
static void note_request(struct client *c, const struct msg *m)
{
	struct lease *l = &c->lease;
	struct span user = m->LEASE.user, authzid = m->LEASE.authzid;
	const uint32_t kind = m->LEASE.proof_kind;
	struct sasl_row row;

	*l = (struct lease){ .serial = m->serial,
			     .token = sasl_token_of(kind, &row),
			     .verified = (kind == PROOF_EXTERNAL && client_certified(c, &user)) ||
					 (kind == PROOF_VERIFIED && client_verified(c, &user)),
			     .plain = m->LEASE.plain || c->swapped,
			     .repeats = c->must_repeat,
			     .client_id = m->LEASE.client_id };
	c->must_repeat = false;
	if (l->verified)
		authzid = SPAN_NONE;
	l->user_length = user.n;
	l->authzid_length = authzid.n;
	memcpy(l->user, user.p, user.n);
	memcpy(l->authzid, authzid.p, authzid.n);
}

void lease_begin(struct client *c, const struct msg *m)
{
	struct broker *b = c->broker;
	struct lease *l = &c->lease;
	struct account known;

	note_request(c, m);
	if (!admit(c, &m->LEASE))
		return;
	const struct span user = { l->user, l->user_length };
	const struct msg question = { .type = MSG_LOOKUP,
				      .LOOKUP = { .service = c->service,
						  .check = l->verified ? CHECK_VERIFIED
								       : CHECK_NOTHING,
						  .client = span_str(c->caller.client),
						  .user = user,
						  .secret = SPAN_NONE } };

	if (make_proof(c, m, &l->proof) < 0 || keys_name(b->keys, c->service, user, &l->name) < 0) {
		client_refuse(c, REFUSAL_UNAVAILABLE, "no proof can be made");
		return;
	}
	/* passwords are not remembered */
	switch (l->verified ? ACCOUNTS_NOTHING
			    : accounts_find(b->accounts, &l->name, clock_ms(), &known)) {
	case ACCOUNTS_FRESH:
		set_account(c, &known);
		return;
	case ACCOUNTS_UNKNOWN:
		client_refuse(c, REFUSAL_UNKNOWN, "no such login, as of a moment ago");
		return;
	case ACCOUNTS_STALE:
		if (lookup_is_stuck(b->lookup)) {
			set_account(c, &known);
			return;
		}
		break;
	case ACCOUNTS_NOTHING:
		break;
	}
	if (lease_start_deadline(c) < 0)
		client_refuse(c, REFUSAL_UNAVAILABLE, "out of memory");
	else if (lookup_ask(b->lookup, &question, on_account, c, &l->question) < 0 && !use_stale(c))
		client_refuse(c, REFUSAL_UNAVAILABLE, "too many look-ups wait");
}
