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
#include <stdlib.h>
#include <string.h>

#include "cachebrokerd/host.h"
#include "cachebrokerd/peer.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "lib/msgsock.h"

#define ERRANDS_MOST   16
#define WAITING_MOST   16
#define LOGOUT_SECONDS 5    /* at most, whatever backend_timeout says: nobody waits for it */
#define GRACE_MS       5000 /* for starting the process, on top of the job's own time */

/* A connection that is to be logged out. */
struct job {
	const struct host *host;
	uint64_t id;
	int fd;
};

struct errand {
	struct broker *broker;
	struct peer *peer;
	struct timer *overdue;
	const struct host *host;
	uint64_t id;
	bool done; /* it has told its outcome */
};

static struct job waiting[WAITING_MOST]; /* in the order they came */
static size_t waiting_count;
static unsigned running;

static uint32_t logout_seconds(const struct broker *b)
{
	uint32_t seconds = b->config.backend_timeout;

	return seconds < LOGOUT_SECONDS ? seconds : LOGOUT_SECONDS;
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
	state_count(e->broker->state, COUNTER_errands_failed, 1);
	log_printf(LOG_INFO, "connection %llu to %s was not logged out: %s",
		   (unsigned long long)e->id, e->host->label, why);
}

static int on_message(struct peer *p, const struct msg *m, int *fd)
{
	struct errand *e = p->owner;

	(void)fd;
	if (e->done || (m->DONE.outcome != DONE_WELL && m->DONE.outcome != DONE_BADLY))
		return -EPROTO;
	e->done = true;
	if (m->DONE.outcome == DONE_BADLY)
		note_failure(e, "the mail host did not answer as it should");
	return 0;
}

static void serve_waiting(struct broker *b);

static void on_gone(struct peer *p)
{
	struct errand *e = p->owner;
	struct broker *b = e->broker;

	timer_end(&e->overdue);
	if (!e->done)
		note_failure(e, "its errand ended without a word");
	running--;
	loop_bury(b->loop, e, free);
	serve_waiting(b);
}

static const struct peer_kind errand_kind = { ROLE_ERRAND, on_message, on_gone };

static void on_overdue(void *context)
{
	const struct errand *e = context;

	peer_end(e->peer);
}

/* The broker's end of a started errand's socket. Without memory to watch it the errand runs all the
 * same. */
static void watch_errand(struct broker *b, const struct job *j, int fd)
{
	struct errand *e = calloc(1, sizeof(*e));

	if (!e) {
		fd_drop(&fd);
		return;
	}
	*e = (struct errand){ .broker = b, .host = j->host, .id = j->id };
	if (peer_new(b, fd, &errand_kind, &e->peer) < 0) {
		free(e);
		return;
	}
	e->peer->owner = e;
	running++;
	if (loop_timer(b->loop, (int64_t)logout_seconds(b) * 1000 + GRACE_MS, on_overdue, e,
		       &e->overdue) < 0)
		peer_end(e->peer);
}

/* Puts the job into a socket pair and asks a listener for a process on its other end. 0 or -errno.
 */
static int start(struct broker *b, const struct job *j)
{
	const struct msg job = { .type = MSG_JOB,
				 .JOB = { .kind = JOB_LOGOUT, .timeout = logout_seconds(b) } };
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

	(void)((r = msgsock_send(ours, &job, j->fd)) || (r = peer_send(listener, &errand, theirs)));
	if (r == 0)
		watch_errand(b, j, take_fd(&ours));
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
	while (waiting_count > 0 && running < ERRANDS_MOST) {
		struct job next = waiting[0];

		memmove(waiting, waiting + 1, --waiting_count * sizeof(waiting[0]));
		start_or_close(b, &next);
	}
}

void errand_logout(struct broker *b, const struct host *host, uint64_t id, int fd)
{
	struct job j = { .host = host, .id = id, .fd = fd };

	if (running < ERRANDS_MOST || b->stopping) {
		start_or_close(b, &j);
	} else if (waiting_count < WAITING_MOST) {
		waiting[waiting_count++] = j;
	} else {
		state_count(b->state, COUNTER_errands_dropped, 1);
		fd_drop(&j.fd);
	}
}
