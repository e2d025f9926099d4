/* A LEASE until it is known where its account is: proof, look-up, mail hosts. What comes behind
 * that is lease.c's.
 *
 * The secret is turned into a proof at once, while its message is still in the receive buffer. A
 * copy stays in the memory of secrets.c only as long as it may be needed to prove the password
 * again: until it is clear which connection the session gets.
 */
#include "cachebrokerd/accounts.h"
#include "cachebrokerd/client.h"
#include "cachebrokerd/host.h"
#include "cachebrokerd/lease.h"
#include "cachebrokerd/lookup.h"
#include "cachebrokerd/master.h"
#include "cachebrokerd/secrets.h"
#include "lib/clock.h"

/* May the client have connections of this host and key? After a login it is the same account, and
 * where its mail was then; after a connection that was dead, the same login. */
static bool may_have(const struct client *c)
{
	const struct lease *l = &c->lease;

	return (!c->bound || key_same(&c->bound_to, &l->account)) &&
	       (!l->repeats || key_same(&c->repeated, &l->key));
}

/* The account's record is there: the keys can be made. */
static void set_account(struct client *c, const struct account *found)
{
	struct broker *b = c->broker;
	struct lease *l = &c->lease;
	const struct span backend_user = found->backend_user;
	struct span text_of_hosts = found->hosts;
	bool good = backend_user.n <= sizeof(l->backend_user);
	struct route route;
	bool found_one = false;
	const char *why = "the account's record cannot be used";

	if (good) {
		memcpy(l->backend_user, backend_user.p, backend_user.n);
		l->backend_user_length = backend_user.n;
	}
	while (good && l->host_count < ROUTE_HOSTS_MOST && route_next(&text_of_hosts, &route) > 0) {
		struct host *host = host_find(b, &route, (enum msg_service)c->service);

		if (!host)
			why = "there is no room for another mail host";
		l->hosts[l->host_count] = host;
		good = host && lease_turn_to(c, l->host_count) == 0;
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
		set_account(c, &found);
		return;
	}
	if (answer && answer->ACCOUNT.status == ACCOUNT_UNKNOWN)
		remember_unknown(c);
	else if (use_stale(c))
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

static int make_proof(const struct broker *b, const struct msg *m, struct key *ret)
{
	return master_is_on(b) ? master_proof(b, ret)
			       : keys_proof(b->keys, m->LEASE.proof_kind, m->LEASE.secret, ret);
}

void lease_begin(struct client *c, const struct msg *m)
{
	struct broker *b = c->broker;
	struct lease *l = &c->lease;
	const struct msg question = { .type = MSG_LOOKUP,
				      .LOOKUP = { .service = c->service, .user = m->LEASE.user } };
	struct account known;

	*l = (struct lease){ .serial = m->serial,
			     .token = m->LEASE.proof_kind != PROOF_PASSWORD,
			     .plain = m->LEASE.plain || c->swapped,
			     .repeats = c->must_repeat,
			     .client_id = m->LEASE.client_id,
			     .user_length = m->LEASE.user.n,
			     .authzid_length = m->LEASE.authzid.n };
	c->must_repeat = false;
	memcpy(l->user, m->LEASE.user.p, m->LEASE.user.n);
	memcpy(l->authzid, m->LEASE.authzid.p, m->LEASE.authzid.n);
	if (master_is_on(b) && c->service != SERVICE_IMAP) {
		/* an errand speaks IMAP only, and nobody's password goes to the mail host then */
		client_refuse(c, REFUSAL_UNAVAILABLE, "there is no POP3 with a master user");
		return;
	}
	if (master_is_on(b)) {
		l->master = true;
		if (l->token || m->LEASE.authzid.n > 0 || !master_admits(b, m->LEASE.secret)) {
			client_refuse(c, REFUSAL_SECRET, "shared secret was wrong");
			return;
		}
	} else if (!l->token && c->service == SERVICE_IMAP &&
		   b->config.cache_expiration_time > 0 && errand_may_log_in(b)) {
		l->secret = secret_keep(m->LEASE.secret);
	}
	if (make_proof(b, m, &l->proof) < 0 ||
	    keys_name(b->keys, c->service, m->LEASE.user, &l->name) < 0) {
		client_refuse(c, REFUSAL_UNAVAILABLE, "no proof can be made");
		return;
	}
	switch (accounts_find(b->accounts, &l->name, clock_ms(), &known)) {
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
