/* Who judges a LEASE, and what proof its connections are under.
 *
 *	auth backend		the mail host, unless all clients have a secret in common
 *	auth directory, both	the account's directory: LOOKUP takes the password along
 *	verified		nobody any more: a look-up worker or tlsrelayd has done so
 *
 * A directory that is told whether the client has TLS may answer one way or the other: what it said
 * to one is remembered for such only.
 *
 * Whoever is not logged in with what it gave gets connections of a proof of its own kind.
 * Here the secret is turned into that; a copy is kept only in the memory of secrets.c, for those
 * whose password may have to be proven again.
 */
#include <errno.h>

#include "cachebrokerd/client.h"
#include "cachebrokerd/client_challenge.h"
#include "cachebrokerd/client_tls.h"
#include "cachebrokerd/lease.h"
#include "cachebrokerd/master.h"
#include "cachebrokerd/secrets.h"
#include "lib/config_login.h"
#include "lib/config_tls.h"
#include "lib/sasl.h"

static bool refuse(struct client *c, enum msg_refusal reason, const char *why)
{
	client_refuse(c, reason, why);
	return false;
}

static struct span user_of(const struct lease *l)
{
	return (struct span){ l->user, l->user_length };
}

/* Does an authorization identity say what the client is anyway? */
static bool is_own(const struct client *c, struct span authzid)
{
	char name[sizeof(c->lease.user)];
	struct buf whole = BUF_OVER(name);

	return authzid.n == 0 || (config_login_name(&c->broker->config, authzid, &whole) == 0 &&
				  span_eq(buf_span(&whole), user_of(&c->lease)));
}

bool lease_let_errand(struct client *c)
{
	struct lease *l = &c->lease;

	l->by_errand = true;
	/* whose name it is the errand says; somebody else's is not the directory's to allow */
	if (!is_own(c, (struct span){ l->authzid, l->authzid_length }))
		return refuse(c, REFUSAL_PASSWORD, "an authorization identity of another user");
	l->authzid_length = 0;
	return true;
}

static bool admit_certified(struct client *c, struct span authzid)
{
	if (!config_offers_external(&c->broker->config))
		return refuse(c, REFUSAL_SECRET, "EXTERNAL is not in auth_mechanisms");
	if (!is_own(c, authzid))
		return refuse(c, REFUSAL_PASSWORD, "the certificate is another user's");
	return true;
}

static bool ends_somewhere(struct span secret)
{
	for (size_t i = 0; i < secret.n; i++)
		if (secret.p[i] == '\0' || secret.p[i] == '\r' || secret.p[i] == '\n')
			return true;
	return false;
}

/* A client with a secret: who judges it, and who logs in with what? False: it was refused. */
static bool admit_by_secret(struct client *c, const struct msg_LEASE *m)
{
	const struct broker *b = c->broker;
	struct lease *l = &c->lease;

	/* tokens are no directory's to judge */
	l->checked = l->auth != AUTH_BACKEND && !l->token;
	l->master = master_shares_secret(b) || (l->checked && master_is_on(b));
	if (master_shares_secret(b) &&
	    (l->token || m->authzid.n > 0 || !master_admits(b, m->secret)))
		return refuse(c, REFUSAL_SECRET, "shared secret was wrong");
	if (l->checked && (m->secret.n == 0 || ends_somewhere(m->secret)))
		return refuse(c, REFUSAL_PASSWORD, "no account can have this password");
	if (l->master && !master_may_name(b, user_of(l)))
		return refuse(c, REFUSAL_UNKNOWN, "master_separator stands in the name");
	return !l->master || lease_let_errand(c);
}

/* May the client have what it asks for, as far as can be said without anybody else? False: it was
 * refused. */
static bool admit(struct client *c, const struct msg_LEASE *m)
{
	struct lease *l = &c->lease;

	if (m->proof_kind == PROOF_EXTERNAL && !admit_certified(c, m->authzid))
		return false;
	l->by_errand = l->verified; /* the directory's password comes with the account */
	return l->verified || admit_by_secret(c, m);
}

int lease_make_proof(struct client *c)
{
	const struct broker *b = c->broker;
	struct lease *l = &c->lease;

	if (l->verified) /* it has brought nothing that could tell one from the other */
		return keys_proof(b->keys, PROOF_VERIFIED, SPAN_NONE, &l->proof);
	if (l->auth != b->config.auth)
		return -ECANCELED;
	if (l->master)
		return master_proof(b, &l->given, &l->proof);
	if (l->by_errand)
		return keys_made(b->keys, &l->given, SPAN_NONE, SPAN_NONE, &l->proof);
	l->proof = l->given;
	return 0;
}

static int make_digests(struct client *c, const struct msg_LEASE *m)
{
	const struct keys *keys = c->broker->keys;
	struct lease *l = &c->lease;
	int r;

	(void)((r = keys_proof(keys, m->proof_kind, m->secret, &l->given)) ||
	       (r = lease_make_proof(c)) ||
	       (r = keys_name(keys, c->service, user_of(l), &l->name)));
	l->known_as = l->name;
	(void)(r == 0 && l->checked &&
	       (r = keys_login(keys, c->service, user_of(l), &l->given, &l->known_as)));
	return r == 0 && l->told_plain ? keys_plain(keys, &l->known_as, &l->known_as) : r;
}

/* Is any directory told whether a client has TLS? */
static bool tells_tls(const struct config *c)
{
	for (size_t i = 0; i < c->directory.count; i++)
		if (strncmp(c->directory.items[i], "http", 4) == 0)
			return true;
	return false;
}

/* What the client asks for, by the name that everybody but it knows the account by; of a verified
 * one only what is known of it is believed. 0 or -errno. */
static int note_request(struct client *c, const struct msg *m)
{
	struct lease *l = &c->lease;
	struct buf whole = BUF_OVER(l->user);
	struct span user = m->LEASE.user, authzid = m->LEASE.authzid;
	const uint32_t kind = m->LEASE.proof_kind;
	struct sasl_row row;

	*l = (struct lease){ .serial = m->serial,
			     .auth = (enum auth_policy)c->broker->config.auth,
			     .token = sasl_token_of(kind, &row),
			     .verified = (kind == PROOF_EXTERNAL && client_certified(c, &user)) ||
					 (kind == PROOF_VERIFIED && client_verified(c, &user)),
			     .plain = m->LEASE.plain || c->swapped,
			     .told_plain = !m->LEASE.tls && tells_tls(&c->broker->config),
			     .private = m->LEASE.private,
			     .repeats = c->must_repeat,
			     .client_id = m->LEASE.client_id };
	c->must_repeat = false;
	if (l->verified)
		authzid = SPAN_NONE;
	l->authzid_length = authzid.n;
	memcpy(l->authzid, authzid.p, authzid.n);
	int r = config_login_name(&c->broker->config, user, &whole);

	l->user_length = r == 0 ? whole.len : 0;
	return r;
}

bool lease_judge(struct client *c, const struct msg *m)
{
	const struct broker *b = c->broker;
	struct lease *l = &c->lease;

	if (note_request(c, m) < 0)
		return refuse(c, REFUSAL_UNKNOWN, "no account can have this name");
	if (!admit(c, &m->LEASE))
		return false;
	if (!l->token && !l->verified && !l->master && c->service == SERVICE_IMAP &&
	    b->config.cache_expiration_time > 0 && errand_may_log_in(b))
		l->secret = secret_keep(m->LEASE.secret);
	if (make_digests(c, &m->LEASE) < 0)
		return refuse(c, REFUSAL_UNAVAILABLE, "no proof can be made");
	return true;
}
