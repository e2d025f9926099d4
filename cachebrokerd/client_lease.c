/* What a session says about its lease, and what becomes of the connection.
 *
 * What a taken-over session can try stands in the checks here: it names no key with GIVE, it brings
 * back only the socket it was handed, it has so many tries, and after a success only its own
 * account.
 */
#include "cachebrokerd/client_lease.h"

#include <errno.h>

#include "cachebrokerd/client_challenge.h"
#include "cachebrokerd/client_tls.h"
#include "cachebrokerd/habits.h"
#include "cachebrokerd/host.h"
#include "cachebrokerd/lists.h"
#include "cachebrokerd/master.h"
#include "cachebrokerd/proofs.h"
#include "cachebrokerd/recheck.h"
#include "cachebrokerd/tally.h"
#include "cachebrokerd/tracing.h"
#include "lib/cidr.h"
#include "lib/clock.h"
#include "lib/codes.h"
#include "lib/fd.h"
#include "lib/sasl.h"

static struct span user_of(const struct client *c)
{
	return (struct span){ c->lease.user, c->lease.user_length };
}

/* Are kind, authzid and secret such as belong together? Who says that it was verified, or has shown
 * a certificate, must have. */
static bool is_proof(const struct client *c, const struct msg_LEASE *lease)
{
	struct sasl_row row;
	struct span identity;

	if (lease->proof_kind == PROOF_VERIFIED)
		return lease->authzid.n == 0 && lease->secret.n == 0 &&
		       client_verified(c, &identity);

	if (lease->proof_kind == PROOF_EXTERNAL)
		return lease->secret.n == 0 && client_certified(c, &identity);
	if (sasl_token_of(lease->proof_kind, &row))
		return lease->authzid.n == 0 && lease->secret.n > 0;
	return lease->proof_kind == PROOF_PASSWORD;
}

/* Does the name come from the client? */
static bool is_by_secret(uint32_t kind)
{
	return kind != PROOF_VERIFIED && kind != PROOF_EXTERNAL;
}

/* Was it verified under the settings of before a reload? Directories, authorities and mechanisms
 * may be others now. After a login it is bound to its account, whoever says that. */
static bool is_old_proof(const struct client *c, uint32_t kind)
{
	if (c->bound)
		return false;
	return kind == PROOF_VERIFIED ? client_challenge_is_old(c)
				      : kind == PROOF_EXTERNAL &&
						c->identity_of != c->broker->settled_at;
}

/* May it say that it serves somebody else? The session's process has asked that itself, but it
 * hears strangers. */
static bool is_trusted(const struct client *c)
{
	return cidr_list_holds(span_str(c->broker->config.trusted_addresses), span_str(c->origin));
}

int client_on_lease(struct client *c, const struct msg *m, int *fd)
{
	(void)fd;
	if (m->serial == 0 || !is_proof(c, &m->LEASE) || m->LEASE.user.n == 0)
		return -EPROTO;
	c->lease.serial = m->serial;
	caller_set(&c->caller, &c->connected, is_trusted(c), &m->LEASE);
	if (c->limited && !c->made_room) {
		c->limited = false;
		client_refuse(c, REFUSAL_LIMIT, "the mail host has too many of this user");
		return 0;
	}
	if (m->LEASE.proof_kind == PROOF_VERIFIED && client_challenge_paid(c)) {
		/* its challenge was this attempt */
	} else if (c->leases >= c->broker->config.login_attempts) {
		client_refuse(c, REFUSAL_ATTEMPTS, "login_attempts");
		return 0;
	} else {
		tries_set(c->broker->tries, &c->visit, ++c->leases);
	}
	if (is_old_proof(c, m->LEASE.proof_kind)) {
		client_refuse(c, REFUSAL_UNAVAILABLE, "the settings have changed since the client "
						      "was verified");
		return 0;
	}
	/* else strangers could guess the master's password here, wherever the mail host takes it
	 * from us only */
	if (is_by_secret(m->LEASE.proof_kind) && !master_may_name(c->broker, m->LEASE.user)) {
		client_refuse(c, REFUSAL_UNKNOWN, "master_separator stands in the name");
		return 0;
	}
	c->state = CLIENT_WAITING;
	lease_begin(c, m);
	return 0;
}

void client_refuse(struct client *c, enum msg_refusal reason, const char *text)
{
	uint32_t serial = c->lease.serial, code = c->lease.code;

	c->lease.code = CODE_NONE;
	lease_end(c);
	c->state = CLIENT_READY;
	bool refused = reason == REFUSAL_PASSWORD || reason == REFUSAL_SECRET;

	state_count(c->broker->state, refused ? COUNTER_logins_refused : COUNTER_logins_failed, 1);
	(void)client_refuse_code(c, serial, reason, code, text);
}

void client_ask_again(struct client *c)
{
	struct span user;
	uint32_t serial = c->lease.serial;
	bool verified = c->lease.verified && client_verified(c, &user);

	c->must_repeat = c->lease.repeats;
	lease_end(c);
	c->state = CLIENT_READY;
	if (verified)
		client_challenge_pay(c);
	else
		tries_set(c->broker->tries, &c->visit, --c->leases);
	(void)client_refuse_with(c, serial, REFUSAL_AGAIN, "");
}

/* A fresh login: from now on this is the account's password, or its token, and what lies there
 * under another one must not be reached with that any more. */
static void note_password(struct broker *b, const struct connection *fresh)
{
	const struct key *record = &fresh->record;

	proofs_accept(b->proofs, record, &fresh->plain, fresh->born);
	if (proofs_current(b->proofs, record, &fresh->plain))
		(void)connection_close_record(b, &fresh->entry.account, record, &fresh->plain);
}

/* The session has a connection that is logged in. */
static void accepted(struct client *c)
{
	struct state *state = c->broker->state;
	bool reused = connection_is_reused(c->connection);

	c->accepted = true;
	/* a log-in of its own must not buy the process further tries over another socket */
	tries_set(c->broker->tries, &c->visit, TRIES_ALL);
	c->connection->proven = true;
	c->limited = false;
	if (!reused && c->service == SERVICE_IMAP) /* with POP3 each login is proven */
		note_password(c->broker, c->connection);
	c->bound = true;
	c->bound_to = c->connection->entry.account;
	state_count(state, COUNTER_logins, 1);
	if (connection_is_marked(c->connection))
		state_count(state, COUNTER_offers_kept, 1);
	state_count(state, reused ? COUNTER_logins_reused : COUNTER_logins_fresh, 1);
	host_count_login(c->connection->host, reused, true);
	client_show_active(c, user_of(c), c->connection->host->label);
}

static struct span text_of(const char *text)
{
	return span_str(text ? text : "");
}

void client_lease(struct client *c, struct connection *connection, int fd, int64_t idle_ms)
{
	AUTO_FD sent = fd;
	bool offered = connection_is_marked(connection);
	const char *preauth = connection->cached || c->service != SERVICE_IMAP
				      ? NULL
				      : c->broker->config.preauth_command;
	bool reused = connection_is_reused(connection);
	bool prove = reused && idle_ms >= (int64_t)c->broker->config.cache_validate_after * 1000;
	const struct lists *lists = c->broker->lists;
	const struct msg m = {
		.type = MSG_LEASED,
		.serial = c->lease.serial,
		.LEASED = { .session = c->id,
			    .cached = connection->cached,
			    .made = connection->made,
			    .prove = prove,
			    .promise = reused && !offered && c->lease.promise,
			    .greeted = !connection->cached &&
				       (connection->spare ||
					connection->host->tls == TLS_STARTTLS),
			    .tell_client = !connection->cached &&
					   c->broker->config.tell_client_address,
			    .host_port = connection->host->port,
			    .host = span_str(connection->host->name),
			    .user = user_of(c),
			    .backend_user = span_str(connection->backend_user),
			    .capabilities = connection->cached
						    ? text_of(connection->capabilities)
						    : lists_find(lists, &connection->plain),
			    .offered = text_of(connection->cached ? NULL : connection->offered),
			    .fingerprint = text_of(connection->fingerprint),
			    .opening = text_of(offered ? connection->opening : NULL),
			    .preauth_command = text_of(preauth),
			    .examined = text_of(offered ? NULL : connection->examined) }
	};

	lease_end(c);
	c->connection = connection;
	c->state = CLIENT_LEASED;
	if (connection->cached) {
		c->bound = true;
		c->bound_to = connection->entry.account;
	}
	if (connection->cached && !prove && !offered)
		accepted(c);
	else if (offered)
		client_show_active(c, user_of(c), connection->host->label);
	tracing_join(c);
	(void)peer_send(c->peer, &m,
			sent); /* a client that is gone gives the connection up in client_gone() */
}

void client_lose_connection(struct client *c)
{
	struct connection *connection = c->connection;
	struct key key;

	if (!connection)
		return;
	key = connection->entry.key;
	c->connection = NULL;
	lease_unset_returning(c);
	connection_lost(connection);
	lease_wake(&key);
}

/* What was taken for a login was none. */
static void take_back(struct client *c)
{
	struct state *state = c->broker->state;
	bool reused = connection_is_reused(c->connection);

	c->accepted = false;
	if (connection_is_marked(c->connection))
		state_uncount(state, COUNTER_offers_kept, 1);
	state_uncount(state, COUNTER_logins, 1);
	state_uncount(state, reused ? COUNTER_logins_reused : COUNTER_logins_fresh, 1);
	host_count_login(c->connection->host, reused, false);
	state_session_gone(state, c->id);
}

/* The mail host had ended the spare connection before the login was judged. That costs its process
 * no attempt, once, if the same credentials come again; and it gets no spare one any more. */
static void spare_died(struct client *c)
{
	spares_died(c->connection->host);
	if (c->spare_died)
		return;
	c->spare_died = c->must_repeat = true;
	c->repeated = c->connection->plain;
	if (!tries_did(c->broker->tries, &c->visit, TRIES_DEAD_SPARE))
		tries_set(c->broker->tries, &c->visit, --c->leases);
}

int client_on_outcome(struct client *c, const struct msg *m, int *fd)
{
	struct state *state = c->broker->state;
	const struct key account = c->connection->entry.account;

	(void)fd;
	if (c->accepted && m->OUTCOME.outcome != OUTCOME_STALE)
		return -EPROTO; /* there is one outcome */
	switch (m->OUTCOME.outcome) {
	case OUTCOME_ACCEPTED:
		accepted(c);
		return 0;
	case OUTCOME_REFUSED:
		state_count(state, COUNTER_logins_refused, 1);
		c->connection->host->figures->logins_refused++;
		recheck_refused(c->broker, &account, &c->connection->record, &c->connection->plain,
				false);
		break;
	case OUTCOME_LIMIT:
		if (c->connection->cached)
			return -EPROTO;
		state_count(state, COUNTER_limited, 1);
		c->limited = true;
		c->made_room =
			connection_close_account(c->broker, &account, NULL, COUNTER_evicted) > 0;
		break;
	case OUTCOME_FAILED:
		state_count(state, COUNTER_logins_failed, 1);
		c->connection->host->figures->logins_failed++;
		break;
	case OUTCOME_STALE:
		if (!c->connection->cached) {
			if (!c->connection->spare || c->accepted)
				return -EPROTO;
			spare_died(c);
			break;
		}
		if (c->accepted)
			take_back(c);
		state_count(state, COUNTER_stale, 1);
		/* its proof was good; another try for the same account costs nothing, unless each
		 * of them is a login */
		if (connection_is_reused(c->connection))
			tries_set(c->broker->tries, &c->visit, --c->leases);
		break;
	default:
		return -EPROTO;
	}
	client_lose_connection(c);
	tracing_leave(c);
	c->state = CLIENT_READY;
	return 0;
}

/* The client's offered connection comes back as it went: it wants another one. That costs no
 * attempt, since its proof was good, and happens once. */
int client_on_untouched(struct client *c, const struct msg *m, int *fd)
{
	struct connection *connection = c->connection;
	struct key key = connection->entry.key;

	(void)m;
	if (c->accepted || c->swapped || !connection_is_marked(connection))
		return -EPROTO;
	c->swapped = true;
	c->connection = NULL;
	tracing_leave(c);
	c->state = CLIENT_READY;
	tries_set(c->broker->tries, &c->visit, --c->leases);
	state_count(c->broker->state, COUNTER_offers_swapped, 1);
	int r = connection_given(connection, fd);

	lease_wake(&key);
	return r == -EBADF ? r : 0;
}

int client_on_returning(struct client *c, const struct msg *m, int *fd)
{
	struct span fingerprint = m->RETURNING.fingerprint;

	(void)fd;
	/* a connection of POP3 ends with its session: its deletions are made then */
	if (c->service != SERVICE_IMAP || !c->accepted || !span_is_printable(fingerprint) ||
	    span_eq(fingerprint, SPAN("?")))
		return -EPROTO;
	if (connection_mark(c->connection, fingerprint) < 0)
		return -ENOMEM;
	habits_note(c->broker->habits, &c->lease.habit, fingerprint, clock_ms());
	c->state = CLIENT_RETURNING;
	lease_set_returning(c);
	return 0;
}

int client_on_give(struct client *c, const struct msg *m, int *fd)
{
	const struct msg_GIVE *give = &m->GIVE;
	struct connection *connection = c->connection;
	struct key key = connection->entry.key, plain = connection->plain;

	c->connection = NULL;
	c->state = CLIENT_DONE;
	lease_unset_returning(c);
	connection->from_client += give->from_client;
	connection->from_backend += give->from_backend;
	int r = connection_describe(connection, give->capabilities, give->opening, give->examined);

	if (r == 0)
		r = connection_given(connection, fd);
	else
		connection_lost(connection);
	if (r == 0)
		lists_note(c->broker->lists, &plain, give->capabilities);
	lease_wake(&key);
	if (r == -EBADF)
		return r;
	r = tally_session(c, give->reason, give->select, give->from_client, give->from_backend,
			  give->line);
	if (r == 0)
		peer_end(c->peer); /* it says no more: no need to wait for its hang-up */
	return r;
}
