/* Errands, as the broker sees them.
 *
 * The job itself waits in the errand's socket before a listener is asked for a process: a listener
 * passes on a descriptor and never sees what a job holds. The end of that socket is the end of the
 * errand, however the process ended; a process that does not even do that is given up after a
 * while, since a frozen listener must not fill all places for ever.
 *
 * At most ERRANDS_MOST run, at most WAITING_MOST more wait, each with one descriptor: both come out
 * of the broker's reserve (RESERVE in broker.c).
 */
#include "cachebrokerd/errand.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "cachebrokerd/host.h"
#include "cachebrokerd/lease.h"
#include "cachebrokerd/peer.h"
#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "lib/msgsock.h"

#define ERRANDS_MOST   16
#define WAITING_MOST   16
#define LOGOUT_SECONDS 5    /* at most, whatever backend_timeout says: nobody waits for it */
#define LOGIN_STEPS    2    /* times backend_timeout */
#define GRACE_MS       5000 /* for starting the process, on top of the job's own time */

/* What is to be done on a connection. */
struct job {
	enum msg_job kind;
	struct host *host;
	struct key account; /* of a LOGOUT */
	uint64_t id;
	int fd;
	const struct errand_login *with; /* of a login */
	errand_login_fn *on_login;	 /* NULL: of a LOGOUT */
	void *context;
};

struct errand {
	struct broker *broker;
	struct errand *previous, *next; /* all that run */
	struct peer *peer;
	struct timer *overdue;
	struct host *host;
	struct key account;
	uint64_t id;
	enum msg_job kind;
	errand_login_fn *on_login; /* NULL: it says LOGOUT */
	void *context;
	bool done;   /* it has told its outcome */
	bool ended;  /* by us: it has taken too long, or lied */
};

static struct job waiting[WAITING_MOST]; /* in the order they came */
static size_t waiting_count;
static struct errand *errands;
static unsigned running;
static unsigned reserved; /* for logins that are being dialled */

static uint32_t logout_seconds(const struct broker *b)
{
	uint32_t seconds = b->config.backend_timeout;

	return seconds < LOGOUT_SECONDS ? seconds : LOGOUT_SECONDS;
}

uint32_t errand_login_seconds(const struct broker *b)
{
	return b->config.backend_timeout * LOGIN_STEPS;
}

static uint32_t seconds_for(const struct broker *b, const struct job *j)
{
	return j->on_login ? errand_login_seconds(b) : logout_seconds(b);
}

/* A listener that has introduced itself, or NULL. */
static struct peer *find_listener(const struct broker *b)
{
	struct peer *p = b->listeners;

	while (p && !p->owner)
		p = p->next;
	return p;
}

static void note_failure(struct errand *e, const char *why)
{
	static const char *const names[] = { [JOB_LOGOUT] = "logged out",
					     [JOB_LOGIN] = "logged in",
					     [JOB_GREET] = "greeted" };

	state_count(e->broker->state, COUNTER_errands_failed, 1);
	log_printf(LOG_INFO, "connection %llu to %s was not %s: %s", (unsigned long long)e->id,
		   e->host->label, names[e->kind], why);
}

static int on_message(struct peer *p, const struct msg *m, int *fd)
{
	static const enum errand_verdict verdicts[] = { [DONE_WELL] = VERDICT_ACCEPTED,
							[DONE_BADLY] = VERDICT_NONE,
							[DONE_REFUSED] = VERDICT_REFUSED };
	struct errand *e = p->owner;
	bool proven = m->type == MSG_PROVEN;
	uint32_t outcome = proven ? DONE_WELL : m->DONE.outcome;
	uint32_t code = proven ? CODE_NONE : m->DONE.code;

	e->ended = true; /* if this is not taken */
	if (e->done || outcome < DONE_WELL || outcome > DONE_REFUSED || code >= CODE_COUNT ||
	    (code != CODE_NONE && (e->kind != JOB_LOGIN || outcome == DONE_WELL)) ||
	    (!e->on_login && proven) || (e->kind != JOB_LOGIN && outcome == DONE_REFUSED))
		return -EPROTO;
	if (e->on_login) {
		int r = e->on_login(e->context, verdicts[outcome], (enum response_code)code, fd,
				    proven ? m->PROVEN.capabilities : SPAN_NONE);

		e->done = true;
		if (r < 0)
			return r;
	}
	e->done = true;
	if (outcome == DONE_BADLY)
		note_failure(e, code == CODE_NONE ? "the mail host did not answer as it should"
						  : code_word(code));
	return 0;
}

static void serve_waiting(struct broker *b);

/* Its listener may be gone as well, and the event of that behind this one: who asks again must not
 * meet it. */
static void end_hung_up_listeners(const struct broker *b)
{
	for (struct peer *p = b->listeners, *next; p; p = next) {
		struct pollfd fd = { .fd = p->fd };

		next = p->next;
		if (poll(&fd, 1, 0) == 1 && fd.revents & (POLLHUP | POLLERR))
			peer_end(p);
	}
}

static void on_gone(struct peer *p)
{
	struct errand *e = p->owner;
	struct broker *b = e->broker;

	timer_end(&e->overdue);
	DL_DELETE2(errands, e, previous, next);
	running--;
	e->host->by_errand -= e->on_login != NULL;
	if (!e->done) {
		int none = -1;

		note_failure(e, "its errand ended without a word");
		end_hung_up_listeners(b);
		if (e->on_login)
			(void)e->on_login(e->context, e->ended ? VERDICT_NONE : VERDICT_LOST,
					  CODE_NONE, &none, SPAN_NONE);
	}
	host_release(e->host);
	loop_bury(b->loop, e, free);
	serve_waiting(b);
	lease_logged_out(b);
}

static const struct peer_kind errand_kind = { ROLE_ERRAND, on_message, on_gone };

static void on_overdue(void *context)
{
	struct errand *e = context;

	e->ended = true;
	peer_end(e->peer);
}

/* The broker's end of a started errand's socket. Without memory to watch it the errand runs all the
 * same, but what a login becomes is not heard. 0 or -errno. */
static int watch_errand(struct broker *b, const struct job *j, int fd)
{
	struct errand *e = calloc(1, sizeof(*e));

	if (!e) {
		fd_drop(&fd);
		return -ENOMEM;
	}
	*e = (struct errand){ .broker = b,
			      .host = j->host,
			      .account = j->account,
			      .id = j->id,
			      .kind = j->kind,
			      .on_login = j->on_login,
			      .context = j->context };
	int r = peer_new(b, fd, &errand_kind, &e->peer);

	if (r == 0)
		r = loop_timer(b->loop, (int64_t)seconds_for(b, j) * 1000 + GRACE_MS, on_overdue, e,
			       &e->overdue);
	if (r < 0 && !e->peer) {
		free(e);
		return r;
	}
	e->peer->owner = e;
	host_hold(e->host);
	DL_APPEND2(errands, e, previous, next);
	running++;
	e->host->by_errand += e->on_login != NULL;
	if (r < 0) { /* nobody would end it */
		e->done = true;
		peer_end(e->peer);
	}
	return r;
}

/* For whom the login is, as far as the mail host is told. */
static void tell_caller(const struct broker *b, const struct caller *c, struct msg_JOB *job)
{
	if (!c)
		return;
	job->tell_client = b->config.tell_client_address;
	job->hops = c->hops;
	job->client = span_str(c->client);
	job->client_port = c->client_port;
	job->local = span_str(c->local);
	job->local_port = c->local_port;
}

/* Puts the job into a socket pair and asks a listener for a process on its other end. 0 or -errno.
 */
static int start(struct broker *b, const struct job *j)
{
	struct msg job = { .type = MSG_JOB,
			   .JOB = { .kind = j->kind,
				    .service = j->host->service,
				    .timeout = seconds_for(b, j),
				    .greeted = j->on_login && j->host->tls == TLS_STARTTLS } };
	const struct msg errand = { .type = MSG_ERRAND,
				    .ERRAND = { .uid = b->uid,
						.gid = b->gid,
						.log_facility = b->config.syslog_facility,
						.log_priority = b->config.syslog_prioritymask } };
	struct peer *listener = find_listener(b);
	int pair[2];
	int r = listener ? msgsock_pair(pair) : -ENOENT;

	if (r < 0)
		return r;
	AUTO_FD ours = pair[0], theirs = pair[1];

	if (j->with) {
		job.JOB.backend_user = j->with->backend_user;
		job.JOB.authzid = j->with->authzid;
		job.JOB.secret = j->with->secret;
		if (j->host->service == SERVICE_IMAP)
			job.JOB.preauth_command = span_str(b->config.preauth_command);
		tell_caller(b, j->with->caller, &job.JOB);
	}
	(void)((r = msgsock_send(ours, &job, j->fd)) || (r = peer_send(listener, &errand, theirs)));
	if (r == 0) {
		int watched = watch_errand(b, j, take_fd(&ours));

		r = j->on_login ? watched : 0;
	}
	return r;
}

/* The job's descriptor is closed here in any case: a started errand has its own. */
static void start_or_close(struct broker *b, struct job *j)
{
	int r = b->stopping ? -ECANCELED : start(b, j);

	state_count(b->state, r < 0 ? COUNTER_errands_dropped : COUNTER_errands, 1);
	fd_drop(&j->fd);
}

static void serve_waiting(struct broker *b)
{
	while (waiting_count > 0 && running + reserved < ERRANDS_MOST) {
		struct job next = waiting[0];

		memmove(waiting, waiting + 1, --waiting_count * sizeof(waiting[0]));
		start_or_close(b, &next);
		host_release(next.host);
	}
}

bool errand_logs_out(const struct key *account)
{
	for (size_t i = 0; i < waiting_count; i++)
		if (key_same(&waiting[i].account, account))
			return true;
	for (const struct errand *e = errands; e; e = e->next)
		if (!e->on_login && key_same(&e->account, account))
			return true;
	return false;
}

unsigned errand_room(const struct broker *b)
{
	unsigned taken = running + reserved;

	return taken < ERRANDS_MOST && !b->stopping && find_listener(b) ? ERRANDS_MOST - taken : 0;
}

bool errand_has_place(const struct broker *b, const struct host *h)
{
	unsigned others = running + reserved - h->by_errand, most = ERRANDS_MOST - others;

	if (b->config.directory.count > 0)
		most = (most + 1) / 2;
	return h->by_errand < most && errand_room(b) > 0;
}

void errand_reserve(void)
{
	reserved++;
}

static void on_released(void *context)
{
	serve_waiting(context);
}

void errand_release(struct broker *b)
{
	static struct timer *soon; /* the login itself comes first */

	reserved--;
	if (waiting_count > 0 && !soon)
		(void)loop_timer(b->loop, 0, on_released, b, &soon);
}

bool errand_may_log_in(const struct broker *b)
{
	return errand_room(b) > 0;
}

bool errand_has_listener(const struct broker *b)
{
	return find_listener(b) || clock_ms() < b->listeners_by;
}

static int start_at_once(struct broker *b, const struct job *j)
{
	int r = errand_may_log_in(b) ? start(b, j) : -EAGAIN;

	if (r == 0)
		state_count(b->state, COUNTER_errands, 1);
	return r;
}

int errand_log_in(struct broker *b, struct host *host, uint64_t id, int fd,
		  const struct errand_login *with, errand_login_fn *done, void *context)
{
	const struct job j = { .kind = JOB_LOGIN,
			       .host = host,
			       .id = id,
			       .fd = fd,
			       .with = with,
			       .on_login = done,
			       .context = context };

	return start_at_once(b, &j);
}

int errand_greet(struct broker *b, struct host *host, uint64_t id, int fd,
		 errand_login_fn *done, void *context)
{
	const struct job j = { .kind = JOB_GREET,
			       .host = host,
			       .id = id,
			       .fd = fd,
			       .on_login = done,
			       .context = context };

	return start_at_once(b, &j);
}

void errand_logout(struct broker *b, struct host *host, const struct key *account,
		   uint64_t id, int fd)
{
	struct job j = {
		.kind = JOB_LOGOUT, .host = host, .account = *account, .id = id, .fd = fd
	};

	if (running + reserved < ERRANDS_MOST || b->stopping) {
		start_or_close(b, &j);
	} else if (waiting_count < WAITING_MOST) {
		host_hold(host);
		waiting[waiting_count++] = j;
	} else {
		state_count(b->state, COUNTER_errands_dropped, 1);
		fd_drop(&j.fd);
	}
}
