/* One password being proven again: room → dial → errand → verdict.
 *
 * Only a verdict of the mail host changes anything. Whatever else happens (no room, a host that is
 * down, an errand that dies) leaves things as they are; the next login of the user tries again, but
 * not before PAUSE_MS. What an errand hands back is believed only if it is the very socket that it
 * was given; the password counts as proven from the moment its connection was made.
 *
 * Tokens are not proven here (RECHECK_ITSELF): they end by themselves after an hour or so, and the
 * client learns from the mail host's own report, before its answer, that it must fetch another one.
 */
#include "cachebrokerd/recheck.h"

#include <errno.h>
#include <stdlib.h>

#include "cachebrokerd/client.h"
#include "cachebrokerd/connection.h"
#include "cachebrokerd/dial.h"
#include "cachebrokerd/errand.h"
#include "cachebrokerd/host.h"
#include "cachebrokerd/master.h"
#include "cachebrokerd/proofs.h"
#include "cachebrokerd/secrets.h"
#include "cachebrokerd/traces.h"
#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/log.h"

#define PAUSE_MS     30000 /* between two tries, when the mail host said neither yes nor no */
#define DIALLED_MOST 16	   /* at once, each a descriptor of the broker's reserve */

struct recheck {
	struct broker *broker;
	struct client *waits; /* or NULL */
	bool master;	      /* the master user logs in, not who has the secret */
	struct secret *secret;
	struct dial *dial;
	struct connection *connection;
	struct host *host;
	struct key key, account;
	char user[512], authzid[512], backend_user[512];
	size_t user_length, authzid_length, backend_user_length;
	struct caller caller;
};

static unsigned dialled;

static struct span text(const char *p, size_t n)
{
	return (struct span){ p, n };
}

static int64_t due_before(const struct broker *b)
{
	return clock_ms() - (int64_t)b->config.auth_recheck * 1000;
}

enum recheck_need recheck_need(const struct client *c)
{
	const struct broker *b = c->broker;
	const struct lease *l = &c->lease;

	if (l->verified) /* just now: there is no password to be proven */
		return RECHECK_NOT;
	if (b->config.auth_recheck > 0 &&
	    proofs_fresh(b->proofs, &l->record, &l->key, due_before(b)))
		return RECHECK_NOT;
	if (l->token || (!l->secret && !l->master) || dialled >= DIALLED_MOST ||
	    !errand_has_place(b, l->host) || !host_is_up(l->host) ||
	    !proofs_current(b->proofs, &l->record, &l->key))
		return RECHECK_ITSELF;
	return b->config.auth_recheck > 0 ? RECHECK_BEHIND : RECHECK_BEFORE;
}

/* The end of a recheck, however it went: the waiting client, if there is one, is told. */
static void finish(struct recheck *r, enum errand_verdict verdict)
{
	struct client *c = r->waits;

	if (verdict == VERDICT_NONE || verdict == VERDICT_LOST)
		state_count(r->broker->state, COUNTER_rechecks_open, 1);
	secret_wipe(&r->secret);
	if (r->connection)
		connection_lost(r->connection);
	free(r);
	if (c)
		lease_proven(c, verdict);
}

void recheck_refused(struct broker *b, const struct key *account, const struct key *record,
		     const struct key *key, bool end)
{
	if (!end && !proofs_current(b->proofs, record, key))
		return; /* a wrong password, not one that was right */
	proofs_refuse(b->proofs, record, key);
	(void)connection_close_record(b, account, record, NULL);
	broker_count(b);
	for (struct client *c = b->clients, *next; end && c; c = next) {
		next = c->next;
		/* who is only offered one has had its OK, too */
		if (c->connection && (c->accepted || connection_is_marked(c->connection)) &&
		    key_same(&c->connection->plain, key))
			client_end(c, END_PASSWORD_REFUSED, "Password is not accepted any more");
	}
}

/* The mail host's word, by the errand. */
static int on_verdict(void *context, enum errand_verdict verdict, enum response_code code, int *fd,
		      struct span capabilities)
{
	struct recheck *r = context;
	struct broker *b = r->broker;
	struct connection *fresh = r->connection;

	if (*fd >= 0 && !connection_is(fresh, *fd)) {
		finish(r, VERDICT_NONE);
		return -EBADF;
	}
	if (verdict == VERDICT_ACCEPTED) {
		fresh->proven = true;
		proofs_accept(b->proofs, &r->account, &r->key, fresh->born);
		/* a client that waits gets the old one: that is what it waits for */
		if (r->waits && lease_take(r->waits))
			r->waits = NULL;
		if (*fd >= 0) {
			r->connection = NULL;
			if (connection_describe(fresh, capabilities, SPAN_NONE, SPAN_NONE) == 0)
				(void)connection_given(fresh, fd);
			else
				connection_lost(fresh);
			broker_count(b);
		}
	} else if (verdict == VERDICT_REFUSED) {
		state_count(b->state, COUNTER_rechecks_refused, 1);
		log_printf(LOG_NOTICE, "a password that was accepted before is refused by %s now",
			   r->host->label);
		/* of a master user's login it may be the master that is refused, for all accounts
		 */
		recheck_refused(b, &r->account, &r->account, &r->key, !r->master);
	}
	/* a client that gets another connection than this one asks its mail host itself */
	if (r->waits && verdict == VERDICT_REFUSED && !r->master)
		r->waits->lease.code = code;
	finish(r, verdict);
	return 0;
}

static void on_dialled(void *context, int fd, const char *why)
{
	struct recheck *r = context;
	struct broker *b = r->broker;
	AUTO_FD owned = fd;

	(void)why; /* host_failed() has logged it */
	r->dial = NULL;
	dialled--;
	connection_dialled(b, r->host);
	if (fd >= 0)
		r->connection = connection_new(b, r->host, &r->key, &r->account,
					       text(r->user, r->user_length),
					       text(r->backend_user, r->backend_user_length), fd);
	if (!r->connection) {
		finish(r, VERDICT_NONE);
		return;
	}
	const struct span name = text(r->backend_user, r->backend_user_length);
	struct errand_login with;
	int e = 0;

	if (r->master)
		e = master_login(b, false, name, &with);
	else
		with = (struct errand_login){ .backend_user = name,
					      .authzid = text(r->authzid, r->authzid_length),
					      .secret = secret_span(r->secret) };
	with.caller = &r->caller;
	if (e == 0 && !errand_has_place(b, r->host))
		e = -EAGAIN;
	if (e == 0)
		e = errand_log_in(b, r->host, r->connection->id, fd, &with, on_verdict, r);

	secret_wipe(&r->secret);
	traces_wipe();
	if (e < 0)
		finish(r, VERDICT_NONE);
}

static struct recheck *make(struct client *c)
{
	const struct lease *l = &c->lease;
	struct recheck *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	*r = (struct recheck){ .broker = c->broker,
			       .master = l->master,
			       .host = l->host,
			       .key = l->key,
			       .account = l->account,
			       .user_length = l->user_length,
			       .authzid_length = l->authzid_length,
			       .backend_user_length = l->backend_user_length,
			       .caller = c->caller };
	memcpy(r->user, l->user, l->user_length);
	memcpy(r->authzid, l->authzid, l->authzid_length);
	memcpy(r->backend_user, l->backend_user, l->backend_user_length);
	return r;
}

int recheck_start(struct client *c, struct secret **secret, bool waits, struct recheck **ret)
{
	struct broker *b = c->broker;
	struct host *h = c->lease.host;
	int64_t now = clock_ms(), pause = (int64_t)b->config.auth_recheck * 1000;

	if (pause > PAUSE_MS)
		pause = PAUSE_MS;
	if (!waits && !proofs_try(b->proofs, &c->lease.account, now - pause, now))
		return -EALREADY;
	if (connection_make_room(b, h))
		return -EAGAIN;
	struct recheck *r = make(c);

	if (!r)
		return -ENOMEM;
	int e = dial_start(b, h, on_dialled, r, &r->dial);

	if (e < 0) {
		free(r);
		return e;
	}
	dial_for(r->dial, &r->caller);
	connection_dialling(b, h);
	dialled++;
	state_count(b->state, COUNTER_rechecks, 1);
	r->secret = *secret;
	*secret = NULL;
	if (waits) {
		r->waits = c;
		*ret = r;
	}
	return 0;
}

void recheck_leave(struct recheck **r)
{
	if (*r)
		(*r)->waits = NULL;
	*r = NULL;
}
