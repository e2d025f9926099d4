/* Master logins: secret → errand → connection.
 *
 * The master user's password opens every mailbox. It is known to this process, and to the errand
 * that logs in: one job, a jail, no client's bytes. A session's process, which parses what
 * strangers send, gets a connection that is logged in already, and never the password. What the
 * client sent is compared here and goes nowhere else; above all it is never tried as a password at
 * the mail host.
 */
#include "cachebrokerd/master.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cachebrokerd/client.h"
#include "cachebrokerd/host.h"
#include "cachebrokerd/proofs.h"
#include "cachebrokerd/secrets.h"
#include "cachebrokerd/traces.h"
#include "lib/buf.h"
#include "lib/fd.h"
#include "lib/log.h"

#define BACKEND_NAME_MAX 512 /* of JOB */

/* One login under way. */
struct master {
	struct client *waits; /* or NULL */
	struct connection *connection;
	bool own_password; /* the directory's for the account, not a master user's */
};

bool master_may_log_in(const struct broker *b)
{
	return *b->config.auth_sasl_plain_username && *b->config.auth_sasl_plain_password;
}

bool master_is_on(const struct broker *b)
{
	return master_may_log_in(b) && *b->config.auth_shared_secret;
}

/* Digests are compared: neither the secret's bytes nor its length shows in the time. */
bool master_admits(const struct broker *b, struct span secret)
{
	struct span right = span_str(b->config.auth_shared_secret);
	struct key given, wanted;

	return keys_proof(b->keys, PROOF_PASSWORD, secret, &given) == 0 &&
	       keys_proof(b->keys, PROOF_PASSWORD, right, &wanted) == 0 &&
	       key_same(&given, &wanted);
}

int master_proof(const struct broker *b, struct key *ret)
{
	const struct config *c = &b->config;

	return keys_master(b->keys, span_str(c->auth_shared_secret),
			   span_str(c->auth_sasl_plain_username),
			   span_str(c->auth_sasl_plain_password), ret);
}

bool master_can_log_in(const struct client *c)
{
	return c->lease.secret || master_may_log_in(c->broker);
}

bool master_may_name(const struct broker *b, struct span user)
{
	const char *separator = b->config.master_separator;

	return !*separator || !memchr(user.p, *separator, user.n);
}

/* "user*master" */
static int write_name(const struct broker *b, struct span account, struct buf *out)
{
	int r;

	(void)((r = buf_add(out, account)) ||
	       (r = buf_add_str(out, b->config.master_separator)) ||
	       (r = buf_add_str(out, b->config.auth_sasl_plain_username)));
	return r;
}

static int be_master(const struct broker *b, struct span account, struct errand_login *ret)
{
	static char bytes[BACKEND_NAME_MAX];
	struct buf name = BUF_OVER(bytes);

	if (!master_may_log_in(b))
		return -EACCES; /* a reload has ended that */
	if (!master_may_name(b, account))
		return -EINVAL;
	if (*b->config.master_separator) {
		if (write_name(b, account, &name) < 0)
			return -EINVAL;
		*ret = (struct errand_login){
			.backend_user = buf_span(&name),
			.secret = span_str(b->config.auth_sasl_plain_password)
		};
		return 0;
	}
	*ret = (struct errand_login){ .backend_user = span_str(b->config.auth_sasl_plain_username),
				      .authzid = account,
				      .secret = span_str(b->config.auth_sasl_plain_password) };
	return 0;
}

int master_login(const struct broker *b, struct span account, struct errand_login *ret)
{
	return master_is_on(b) ? be_master(b, account, ret) : -EACCES;
}

/* What it logs in with for this client: borrows from the lease as well. */
static int login_for(const struct client *c, const struct connection *fresh,
		     struct errand_login *ret)
{
	const struct span account = span_str(fresh->backend_user);

	if (!c->lease.verified)
		return master_login(c->broker, account, ret);
	if (!c->lease.secret)
		return be_master(c->broker, account, ret);
	*ret = (struct errand_login){ .backend_user = account,
				      .authzid = SPAN_NONE,
				      .secret = secret_span(c->lease.secret) };
	return 0;
}

/* The mail host may have said more about the account than that; not what it says about whoever has
 * logged in: the client has shown who it is. Only of the account's own password it may be told that
 * it is too old. */
static uint32_t code_for(const struct master *m, enum errand_verdict verdict,
			 enum response_code code)
{
	if (verdict == VERDICT_REFUSED)
		return m->own_password && code == CODE_EXPIRED ? code : CODE_NONE;
	return code == CODE_AUTHENTICATIONFAILED || code == CODE_AUTHORIZATIONFAILED ? CODE_NONE
										     : code;
}

static void refuse(struct client *c, const struct host *h, enum errand_verdict verdict)
{
	if (c->lease.verified) {
		/* the client has shown who it is: whatever is wrong, it is not its password */
		client_refuse(c, REFUSAL_UNAVAILABLE,
			      verdict == VERDICT_REFUSED
				      ? "the mail host refused the login for a verified client"
				      : "the login for a verified client came to nothing");
	} else if (verdict == VERDICT_REFUSED) {
		log_printf(LOG_WARNING, "the master user's login is refused by %s", h->label);
		client_refuse(c, REFUSAL_PASSWORD, "the mail host refused the master login");
	} else {
		client_refuse(c, REFUSAL_UNAVAILABLE, "the master login came to nothing");
	}
}

/* The mail host's word, by the errand. */
static int on_verdict(void *context, enum errand_verdict verdict, enum response_code code, int *fd,
		      struct span capabilities)
{
	struct master *m = context;
	struct connection *fresh = m->connection;
	struct client *c = m->waits;
	bool same = *fd >= 0 && connection_is(fresh, *fd);
	int r = *fd >= 0 && !same ? -EBADF : 0;

	if (c) {
		c->lease.login = NULL;
		c->lease.code = r == 0 ? code_for(m, verdict, code) : CODE_NONE;
	}
	free(m);
	if (!same || verdict != VERDICT_ACCEPTED ||
	    connection_describe(fresh, capabilities, SPAN_NONE, SPAN_NONE) < 0) {
		if (c)
			refuse(c, fresh->host, r == 0 ? verdict : VERDICT_NONE);
		connection_lost(fresh);
		return r;
	}
	fresh->proven = fresh->cached = fresh->made = true;
	if (c) {
		client_lease(c, fresh, take_fd(fd), 0);
		return 0;
	}
	if (fresh->host->service == SERVICE_IMAP)
		proofs_accept(fresh->broker->proofs, &fresh->record, &fresh->plain, fresh->born);
	(void)connection_given(fresh, fd);
	return 0;
}

int master_start(struct client *c, struct connection *fresh, int fd, struct master **ret)
{
	struct broker *b = c->broker;
	struct errand_login with;
	int r = login_for(c, fresh, &with);
	struct master *m = r < 0 ? NULL : calloc(1, sizeof(*m));

	if (!m)
		return r < 0 ? r : -ENOMEM;
	with.caller = &c->caller;
	*m = (struct master){ .waits = c,
			      .connection = fresh,
			      .own_password = c->lease.verified && c->lease.secret };
	r = errand_log_in(b, fresh->host, fresh->id, fd, &with, on_verdict, m);
	secret_wipe(&c->lease.secret);
	traces_wipe();
	if (r < 0) {
		free(m);
		return r;
	}
	*ret = m;
	return 0;
}

void master_leave(struct master **m)
{
	if (*m)
		(*m)->waits = NULL;
	*m = NULL;
}
