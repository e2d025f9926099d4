/* A LEASE until it is known where its account is, and that the password is right where the
 * directory judges it: proof, look-up, mail hosts. What comes behind that is lease.c's.
 *
 * With auth directory or both an answer is believed for that very password: what is remembered lies
 * under name and proof. A password that the mail host wants in the place of the client's
 * is never remembered, so the directory is asked for it with each login; what is remembered
 * without it finds cached connections while the directory is away.
 *
 * The secret is turned into a proof at once, while its message is still in the receive buffer. A
 * copy stays in the memory of secrets.c only as long as it may be needed to prove the password
 * again: until it is clear which connection the session gets.
 */
#include <errno.h>

#include "cachebrokerd/accounts.h"
#include "cachebrokerd/client.h"
#include "cachebrokerd/host.h"
#include "cachebrokerd/lease.h"
#include "cachebrokerd/lookup.h"
#include "cachebrokerd/made.h"
#include "cachebrokerd/master.h"
#include "cachebrokerd/secrets.h"
#include "lib/clock.h"
#include "lib/config_login.h"

/* May the client have connections of this host and key? After a login it is the same account, and
 * where its mail was then; after a connection that was dead, the same login. */
static bool may_have(const struct client *c)
{
	const struct lease *l = &c->lease;

	return (!c->bound || key_same(&c->bound_to, &l->account)) &&
	       (!l->repeats || key_same(&c->repeated, &l->key));
}

/* An errand will log in for the client: can it, and may the client have that? If not, it is told.
 */
static bool lets_errand(struct client *c)
{
	struct lease *l = &c->lease;
	const struct span user = { l->user, l->user_length };
	const struct span authzid = { l->authzid, l->authzid_length };
	char name[sizeof(l->user)];
	struct buf whole = BUF_OVER(name);

	l->by_errand = true;
	if (!made_serves(c->service)) {
		client_refuse(c, REFUSAL_UNAVAILABLE,
			      l->master ? "there is no POP3 with a master user"
					: "there is no POP3 with a password of the directory");
		return false;
	}
	/* whose name it is the errand says; somebody else's is not the directory's to allow */
	if (l->authzid_length > 0 && (config_login_name(&c->broker->config, authzid, &whole) < 0 ||
				      !span_eq(buf_span(&whole), user))) {
		client_refuse(c, REFUSAL_PASSWORD, "an authorization identity of another user");
		return false;
	}
	l->authzid_length = 0;
	return true;
}

/* What the account's record means to the login itself. False: the client has been told. */
static bool may_log_in(struct client *c, const struct account *found)
{
	struct lease *l = &c->lease;

	if (l->auth != c->broker->config.auth) {
		client_refuse(c, REFUSAL_UNAVAILABLE, "the settings have changed meanwhile");
		return false;
	}
	if (!found->other_password || l->master)
		return true;
	if (!lets_errand(c))
		return false;
	if (lease_make_proof(c) == 0)
		return true;
	client_refuse(c, REFUSAL_UNAVAILABLE, "no proof can be made");
	return false;
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

	if (!may_log_in(c, found))
		return; /* it has been told */
	if (good) {
		memcpy(l->backend_user, backend_user.p, backend_user.n);
		l->backend_user_length = backend_user.n;
	}
	while (good && l->host_count < ROUTE_HOSTS_MOST && route_next(&text_of_hosts, &route) > 0) {
		l->hosts[l->host_count] = host_find(b, &route, (enum msg_service)c->service);
		good = l->hosts[l->host_count] && lease_turn_to(c, l->host_count) == 0;
		found_one = true;
		l->host_count += may_have(c);
	}
	if (!good || !found_one)
		client_refuse(c, REFUSAL_UNAVAILABLE, "the account's record cannot be used");
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
	if (lifetime > 0 && lifetime < fresh)
		fresh = lifetime;
	if (found->other_password && !c->lease.master)
		fresh = 0; /* it is asked for each time */
	accounts_store(c->broker->accounts, &c->lease.name, found, now_ms + (int64_t)fresh * 1000,
		       now_ms + ((int64_t)fresh + config->lookup_stale_max) * 1000);
}

static void remember_none(struct client *c, enum msg_account status)
{
	struct broker *b = c->broker;
	const int64_t now_ms = clock_ms();
	const int64_t until = now_ms + (int64_t)b->config.lookup_negative_ttl * 1000;

	if (now_ms < b->settled_at)
		return;
	if (status == ACCOUNT_REFUSED)
		accounts_store_refused(b->accounts, &c->lease.name, until);
	else
		accounts_store_unknown(b->accounts, &c->lease.name, until);
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

/* The directory's word. */
static void take_found(struct client *c, const struct msg_ACCOUNT *answer)
{
	struct lease *l = &c->lease;
	const struct account found = { .hosts = answer->hosts,
				       .backend_user = answer->backend_user,
				       .other_password = answer->password.n > 0 };

	if (found.other_password && !l->master) {
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
	else if (use_stale(c))
		return;
	if (answer && answer->ACCOUNT.error.n > 0) {
		memcpy(why, answer->ACCOUNT.error.p, answer->ACCOUNT.error.n);
		why[answer->ACCOUNT.error.n] = '\0';
	}
	client_refuse(c, status == ACCOUNT_UNKNOWN ? REFUSAL_UNKNOWN : REFUSAL_UNAVAILABLE, why);
}

int lease_make_proof(struct client *c)
{
	const struct broker *b = c->broker;
	struct lease *l = &c->lease;

	if (l->auth != b->config.auth)
		return -ECANCELED;
	if (l->master)
		return master_proof(b, &l->given, &l->proof);
	if (l->by_errand)
		return keys_made(b->keys, &l->given, SPAN_NONE, SPAN_NONE, &l->proof);
	l->proof = l->given;
	return 0;
}

/* The name that everybody but the client knows the account by. 0 or -errno. */
static int complete_name(struct client *c, struct span name)
{
	struct lease *l = &c->lease;
	struct buf whole = BUF_OVER(l->user);
	int r = config_login_name(&c->broker->config, name, &whole);

	l->user_length = r == 0 ? whole.len : 0;
	return r;
}

static bool ends_somewhere(struct span secret)
{
	for (size_t i = 0; i < secret.n; i++)
		if (secret.p[i] == '\0' || secret.p[i] == '\r' || secret.p[i] == '\n')
			return true;
	return false;
}

/* Who judges the secret, and who logs in with what? False: the client has been refused. */
static bool choose_judge(struct client *c, const struct msg_LEASE *m)
{
	const struct broker *b = c->broker;
	struct lease *l = &c->lease;

	l->auth = (enum auth_policy)b->config.auth;
	/* tokens are no directory's to judge */
	l->checked = l->auth != AUTH_BACKEND && !l->token;
	l->master = master_shares_secret(b) || (l->checked && master_is_on(b));
	if (l->master && !lets_errand(c))
		return false;
	if (master_shares_secret(b)) {
		if (l->token || m->authzid.n > 0 || !master_admits(b, m->secret)) {
			client_refuse(c, REFUSAL_SECRET, "shared secret was wrong");
			return false;
		}
	} else if (l->checked && (m->secret.n == 0 || ends_somewhere(m->secret))) {
		client_refuse(c, REFUSAL_PASSWORD, "no account can have this password");
		return false;
	}
	return true;
}

static int make_digests(struct client *c, const struct msg_LEASE *m)
{
	struct broker *b = c->broker;
	struct lease *l = &c->lease;
	const struct span user = { l->user, l->user_length };
	int r;

	(void)((r = keys_proof(b->keys, m->proof_kind, m->secret, &l->given)) ||
	       (r = lease_make_proof(c)) ||
	       (r = l->checked ? keys_login(b->keys, c->service, user, &l->given, &l->name)
			       : keys_name(b->keys, c->service, user, &l->name)));
	return r;
}

/* Nothing is known of it, or nothing that is fresh. */
static void ask(struct client *c, const struct msg_LEASE *m)
{
	struct broker *b = c->broker;
	struct lease *l = &c->lease;
	const struct msg question = { .type = MSG_LOOKUP,
				      .LOOKUP = { .service = c->service,
						  .check = l->checked,
						  .client = span_str(l->checked ? c->origin : ""),
						  .user = { l->user, l->user_length },
						  .secret = l->checked ? m->secret : SPAN_NONE } };

	if (lease_start_deadline(c) < 0)
		client_refuse(c, REFUSAL_UNAVAILABLE, "out of memory");
	else if (lookup_ask(b->lookup, &question, on_account, c, &l->question) < 0 && !use_stale(c))
		client_refuse(c, REFUSAL_UNAVAILABLE, "too many look-ups wait");
}

void lease_begin(struct client *c, const struct msg *m)
{
	struct broker *b = c->broker;
	struct lease *l = &c->lease;
	struct account known;

	*l = (struct lease){ .serial = m->serial,
			     .token = m->LEASE.proof_kind != PROOF_PASSWORD,
			     .plain = m->LEASE.plain || c->swapped,
			     .repeats = c->must_repeat,
			     .client_id = m->LEASE.client_id,
			     .authzid_length = m->LEASE.authzid.n };
	c->must_repeat = false;
	memcpy(l->authzid, m->LEASE.authzid.p, m->LEASE.authzid.n);
	if (complete_name(c, m->LEASE.user) < 0) {
		client_refuse(c, REFUSAL_UNKNOWN, "no account can have this name");
		return;
	}
	if (!choose_judge(c, &m->LEASE))
		return;
	if (!l->token && !l->master && c->service == SERVICE_IMAP &&
	    b->config.cache_expiration_time > 0 && errand_may_log_in(b))
		l->secret = secret_keep(m->LEASE.secret);
	if (make_digests(c, &m->LEASE) < 0) {
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
	case ACCOUNTS_REFUSED:
		client_refuse(c, REFUSAL_PASSWORD, "the directory refused the password");
		return;
	default:
		ask(c, &m->LEASE);
	}
}
