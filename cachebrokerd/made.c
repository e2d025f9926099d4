/* Logins by errand: secret → errand → connection.
 *
 * What opens a mailbox and is not the client's own is known to this process and to the errand that
 * logs in: one job, a jail, no client's bytes. A session's process, which parses what strangers
 * send, gets a connection that is logged in already.
 */
#include "cachebrokerd/made.h"

#include <errno.h>
#include <stdlib.h>

#include "cachebrokerd/client.h"
#include "cachebrokerd/errand.h"
#include "cachebrokerd/host.h"
#include "cachebrokerd/master.h"
#include "cachebrokerd/proofs.h"
#include "cachebrokerd/secrets.h"
#include "cachebrokerd/traces.h"
#include "lib/fd.h"
#include "lib/log.h"

/* One login under way. */
struct made {
	struct client *waits; /* or NULL */
	struct connection *connection;
	bool own_password; /* the directory's for the account, not a master user's */
};

const char *made_problem(const struct client *c, enum msg_refusal *ret_reason)
{
	const struct broker *b = c->broker;
	const struct lease *l = &c->lease;

	*ret_reason = REFUSAL_UNAVAILABLE;
	if (l->verified && !l->secret && !master_may_log_in(b))
		return "a verified client needs a clear password in the directory, or a master "
		       "user (auth_sasl_plain_username, auth_sasl_plain_password)";
	if (!l->verified && !l->master && !l->secret)
		return "the directory's password for the mail host is not at hand";
	if (!l->secret && !master_may_name(b, (struct span){ l->user, l->user_length })) {
		*ret_reason = REFUSAL_UNKNOWN;
		return "master_separator stands in the name";
	}
	return errand_has_listener(b) ? NULL : "there is no listener for a login by errand";
}

/* The mail host may have said more about the account than that; not what it says about whoever has
 * logged in: the client has shown who it is. Only of the account's own password it may be told that
 * it is too old. */
static uint32_t code_for(const struct made *m, enum errand_verdict verdict, enum response_code code)
{
	if (verdict == VERDICT_REFUSED)
		return m->own_password && code == CODE_EXPIRED ? code : CODE_NONE;
	return code == CODE_AUTHENTICATIONFAILED || code == CODE_AUTHORIZATIONFAILED ? CODE_NONE
										     : code;
}

/* A client that is verified, or whose password the directory has taken, has shown who it is:
 * whatever is wrong, it is not its password. */
static void refuse(struct client *c, const struct host *h, enum errand_verdict verdict,
		   bool own_password)
{
	const bool shown = c->lease.verified || c->lease.checked;

	if (verdict != VERDICT_REFUSED) {
		client_refuse(c, REFUSAL_UNAVAILABLE,
			      shown ? "the login for a verified client came to nothing"
				    : "the master login came to nothing");
		return;
	}
	log_printf(LOG_WARNING, "%s is refused by %s",
		   own_password ? "a password of the directory" : "the master user's login",
		   h->label);
	client_refuse(c, shown ? REFUSAL_UNAVAILABLE : REFUSAL_PASSWORD,
		      shown ? "the mail host refused the login for a verified client"
			    : "the mail host refused the master login");
}

/* The mail host has too many connections of this user, as it says. If idle ones of ours are among
 * them they go, and the login is made again behind their LOGOUT, once: as with a session's own. */
static bool makes_room(struct client *c, const struct connection *fresh, enum response_code code)
{
	if (code != CODE_LIMIT)
		return false;
	state_count(c->broker->state, COUNTER_limited, 1);
	if (c->made_room || connection_close_account(c->broker, &fresh->entry.account, NULL,
						     COUNTER_evicted) == 0)
		return false;
	c->limited = c->made_room = true;
	client_ask_again(c);
	return true;
}

/* The listener may have ended before it began with it: another one is asked, once. */
static bool makes_again(struct client *c, enum errand_verdict verdict)
{
	if (verdict != VERDICT_LOST || c->made_again)
		return false;
	c->made_again = true;
	client_ask_again(c);
	return true;
}

/* The mail host's word, by the errand. */
static int on_verdict(void *context, enum errand_verdict verdict, enum response_code code, int *fd,
		      struct span capabilities)
{
	struct made *m = context;
	struct connection *fresh = m->connection;
	struct client *c = m->waits;
	bool same = *fd >= 0 && connection_is(fresh, *fd), own_password = m->own_password;
	int r = *fd >= 0 && !same ? -EBADF : 0;

	if (c) {
		c->lease.login = NULL;
		c->lease.code = r == 0 ? code_for(m, verdict, code) : CODE_NONE;
	}
	free(m);
	if (!same || verdict != VERDICT_ACCEPTED ||
	    connection_describe(fresh, capabilities, SPAN_NONE, SPAN_NONE) < 0) {
		if (c && !(r == 0 && verdict == VERDICT_NONE && makes_room(c, fresh, code)) &&
		    !(r == 0 && makes_again(c, verdict)))
			refuse(c, fresh->host, r == 0 ? verdict : VERDICT_NONE,
			       own_password);
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

static bool is_masters(const struct lease *l)
{
	return l->master || (l->verified && !l->secret);
}

/* What it is made with; borrows from the client's lease and the configuration. 0 or -errno. */
static int choose(const struct client *c, const struct connection *fresh, struct errand_login *ret)
{
	const struct lease *l = &c->lease;

	if (is_masters(l))
		return master_login(c->broker, l->verified, span_str(fresh->backend_user), ret);
	if (!l->secret)
		return -EACCES;
	*ret = (struct errand_login){ .backend_user = span_str(fresh->backend_user),
				      .authzid = SPAN_NONE,
				      .secret = secret_span(l->secret) };
	return 0;
}

int made_start(struct client *c, struct connection *fresh, int fd, struct made **ret)
{
	struct broker *b = c->broker;
	struct errand_login with;
	int r = choose(c, fresh, &with);
	struct made *m = r < 0 ? NULL : calloc(1, sizeof(*m));

	if (m) {
		with.caller = &c->caller;
		*m = (struct made){ .waits = c,
				    .connection = fresh,
				    .own_password = !is_masters(&c->lease) };
		r = errand_log_in(b, fresh->host, fresh->id, fd, &with, on_verdict, m);
		if (r == 0)
			*ret = m;
		else
			free(m);
	}
	secret_wipe(&c->lease.secret);
	traces_wipe();
	return m || r < 0 ? r : -ENOMEM;
}

void made_leave(struct made **m)
{
	if (*m)
		(*m)->waits = NULL;
	*m = NULL;
}
