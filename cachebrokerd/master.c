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

#include "cachebrokerd/client.h"
#include "cachebrokerd/host.h"
#include "cachebrokerd/proofs.h"
#include "lib/fd.h"
#include "lib/log.h"

/* One login under way. */
struct master {
	struct client *waits; /* or NULL */
	struct connection *connection;
};

bool master_is_on(const struct broker *b)
{
	const struct config *c = &b->config;

	return *c->auth_sasl_plain_username && *c->auth_sasl_plain_password &&
	       *c->auth_shared_secret;
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

int master_login(const struct broker *b, struct span account, struct errand_login *ret)
{
	if (!master_is_on(b))
		return -EACCES; /* a reload has ended that */
	*ret = (struct errand_login){ .backend_user = span_str(b->config.auth_sasl_plain_username),
				      .authzid = account,
				      .secret = span_str(b->config.auth_sasl_plain_password) };
	return 0;
}

static void refuse(struct client *c, const struct host *h, enum errand_verdict verdict)
{
	if (verdict == VERDICT_REFUSED) {
		log_printf(LOG_WARNING, "the master user's login is refused by %s", h->label);
		client_refuse(c, REFUSAL_PASSWORD, "the mail host refused the master login");
	} else {
		client_refuse(c, REFUSAL_UNAVAILABLE, "the master login came to nothing");
	}
}

/* The mail host's word, by the errand. */
static int on_verdict(void *context, enum errand_verdict verdict, int *fd, struct span capabilities)
{
	struct master *m = context;
	struct connection *fresh = m->connection;
	struct client *c = m->waits;
	bool same = *fd >= 0 && connection_is(fresh, *fd);
	int r = *fd >= 0 && !same ? -EBADF : 0;

	free(m);
	if (c)
		c->lease.login = NULL;
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
	proofs_accept(fresh->broker->proofs, &fresh->entry.account, &fresh->plain, fresh->born);
	(void)connection_given(fresh, fd);
	return 0;
}

int master_start(struct client *c, struct connection *fresh, int fd, struct master **ret)
{
	struct broker *b = c->broker;
	struct errand_login with;
	int r = master_login(b, span_str(fresh->backend_user), &with);
	struct master *m = r < 0 ? NULL : calloc(1, sizeof(*m));

	if (!m)
		return r < 0 ? r : -ENOMEM;
	with.caller = &c->caller;
	*m = (struct master){ .waits = c, .connection = fresh };
	r = errand_log_in(b, fresh->host, fresh->id, fd, &with, on_verdict, m);
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
