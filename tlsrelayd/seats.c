/* The connections: each has a seat from the broker's request until its worker has closed it.
 *
 * Until it was answered the seat holds the end of the plain pair that the broker will get. A worker
 * is believed only about seats of its own. A seat goes when its worker is done with it and what is
 * to be said of it is out, whichever comes last.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uthash.h>
#include <utlist.h>

#include "lib/clock.h"
#include "lib/config.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "tlsrelayd/crew.h"

#define SILENT_MS	  3000 /* that a worker may be late with its answer */
#define HOSTS_SHAKING_MAX 2000 /* the broker's dials, which it bounds itself */
#define WORKERS_ASKED	  8    /* of which all but the last had died */

struct answer {
	bool is_ready, resumed;
	char version[33], cipher[65], name[256], identity[256];
	struct errors_text failure;
};

struct seat {
	UT_hash_handle hh;
	struct seat *prev, *next; /* of the unsent */
	struct seat *shaking_previous, *shaking_next;
	uint32_t id;
	uint32_t serial; /* of the request; 0: it was answered, or nobody waits any more */
	enum kind kind;
	uint32_t port;
	int plain; /* the broker's end, or -1 */
	bool shaking;
	int64_t deadline_ms;
	uint64_t generation;
	struct worker_proc *worker; /* NULL: it has reported the end */
	bool held;		    /* TLS_BEGUN was not sent yet */
	struct answer *answer;	    /* not sent yet */
	bool unsent;		    /* one of the two: it is on the list */
	char *host;		    /* of KIND_HOSTS */
};

static struct link_job job;

/* --- seats ------------------------------------------------------------------------------------ */

static void stop_shaking(struct master *m, struct seat *s)
{
	if (!s->shaking)
		return;
	DL_DELETE2(m->shaking[s->kind], s, shaking_previous, shaking_next);
	m->shaking_count[s->kind]--;
	s->shaking = false;
}

static void free_seat(struct master *m, struct seat *s)
{
	stop_shaking(m, s);
	if (s->worker && --s->worker->connections == 0)
		s->worker->idle_since_ms = clock_ms();
	if (s->unsent)
		DL_DELETE(m->unsent, s);
	HASH_DEL(m->seats, s);
	fd_drop(&s->plain);
	free(s->answer);
	free(s->host);
	free(s);
}

static struct seat *new_seat(struct master *m, enum kind kind, uint32_t serial)
{
	struct seat *s = calloc(1, sizeof(*s)), *other;

	if (!s)
		return NULL;
	do {
		s->id = ++m->last_id;
		HASH_FIND(hh, m->seats, &s->id, sizeof(s->id), other);
	} while (other);
	s->kind = kind;
	s->serial = serial;
	s->plain = -1;
	s->shaking = true;
	s->generation = m->settings.generation;
	s->deadline_ms = clock_ms() + (int64_t)m->settings.handshake_seconds * 1000 + SILENT_MS;
	DL_APPEND2(m->shaking[kind], s, shaking_previous, shaking_next);
	m->shaking_count[kind]++;
	HASH_ADD(hh, m->seats, id, sizeof(s->id), s);
	return s;
}

/* --- answers ---------------------------------------------------------------------------------- */

static int send_answer(struct master *m, const struct seat *s, const struct answer *a)
{
	struct msg message = { .serial = s->serial };

	if (a->is_ready) {
		message.type = MSG_TLS_READY;
		message.TLS_READY.resumed = a->resumed;
		message.TLS_READY.version = span_str(a->version);
		message.TLS_READY.cipher = span_str(a->cipher);
		message.TLS_READY.name = span_str(a->name);
		if (s->kind == KIND_CLIENTS)
			message.TLS_READY.identity = span_str(a->identity);
	} else {
		message.type = MSG_TLS_FAILED;
		message.TLS_FAILED.reason = (uint32_t)a->failure.reason;
		message.TLS_FAILED.text = span_str(a->failure.text);
	}
	return broker_send(m, &message, a->is_ready ? s->plain : -1);
}

/* The session gets its end of the stream when a worker has the other one, and the worker waits for
 * its word: whoever of us dies, either the session still has the connection and asks anew, or the
 * handshake goes on between client and worker. */
static int send_begun(struct master *m, const struct seat *s)
{
	const struct msg begun = { .type = MSG_TLS_BEGUN, .serial = s->serial };

	return broker_send(m, &begun, s->plain);
}

/* It is on the list until the broker takes messages again. */
static void wait_for_room(struct master *m, struct seat *s)
{
	if (!s->unsent)
		DL_APPEND(m->unsent, s);
	s->unsent = true;
	broker_wait(m);
}

/* The answer is out, or there is nobody to give it to. */
static void answered(struct master *m, struct seat *s)
{
	if (s->unsent)
		DL_DELETE(m->unsent, s);
	s->unsent = s->held = false;
	free(s->answer);
	s->answer = NULL;
	s->serial = 0;
	fd_drop(&s->plain);
	if (!s->worker)
		free_seat(m, s);
}

static void announce(struct master *m, struct seat *s)
{
	s->held = send_begun(m, s) == -EAGAIN;
	if (s->held)
		wait_for_room(m, s);
}

static void answer(struct master *m, struct seat *s, const struct answer *a)
{
	stop_shaking(m, s);
	if (s->serial == 0 || s->answer)
		return;
	if (!a->is_ready) {
		fd_drop(&s->plain); /* by its end a worker that still has it knows */
		s->held = false;
	}
	if (!s->held && send_answer(m, s, a) != -EAGAIN) {
		answered(m, s);
		return;
	}
	s->answer = malloc(sizeof(*a));
	if (!s->answer) {
		answered(m, s);
		return;
	}
	*s->answer = *a;
	wait_for_room(m, s);
}

/* The seat is gone afterwards unless its worker still has it. */
static void answer_failure(struct master *m, struct seat *s, enum msg_tls_failure reason,
			   const char *peer, const char *text)
{
	struct answer a = { .is_ready = false };

	errors_say(&a.failure, peer, reason, text);
	answer(m, s, &a);
}

void seats_send_unsent(struct master *m)
{
	while (m->unsent) {
		struct seat *s = m->unsent;

		if (s->held)
			s->held = send_begun(m, s) == -EAGAIN;
		if (s->held || (s->answer && send_answer(m, s, s->answer) == -EAGAIN)) {
			broker_wait(m);
			return;
		}
		if (s->answer) {
			answered(m, s);
		} else {
			DL_DELETE(m->unsent, s);
			s->unsent = false;
		}
	}
}

bool seats_are_awaited(const struct master *m)
{
	return m->unsent || m->shaking_count[KIND_CLIENTS] > 0 || m->shaking_count[KIND_HOSTS] > 0;
}

void seats_forget_requests(struct master *m)
{
	struct seat *s, *next;

	HASH_ITER(hh, m->seats, s, next)
	if (s->serial != 0)
		answered(m, s);
}

/* --- what workers report ---------------------------------------------------------------------- */

static void take_ready(struct master *m, struct seat *s, const struct link_report *report)
{
	struct answer a = { .is_ready = true, .resumed = report->resumed };

	if (!s->shaking)
		return;
	memcpy(a.version, report->version, sizeof(a.version));
	memcpy(a.cipher, report->cipher, sizeof(a.cipher));
	memcpy(a.name, report->name, sizeof(a.name) - 1);
	a.name[sizeof(a.name) - 1] = '\0';
	memcpy(a.identity, report->identity, sizeof(a.identity));
	answer(m, s, &a);
}

/* The worker has closed it. */
static void leave_seat(struct master *m, struct seat *s)
{
	if (--s->worker->connections == 0)
		s->worker->idle_since_ms = clock_ms();
	s->worker = NULL;
	if (!s->unsent)
		free_seat(m, s);
}

static void take_failure(struct master *m, struct seat *s, const struct link_report *report)
{
	const struct answer a = { .failure = report->failure };

	answer(m, s, &a);
	leave_seat(m, s);
}

void seats_take_report(struct master *m, const struct worker_proc *w,
		       const struct link_report *report)
{
	struct seat *s = NULL;

	if (report->word == LINK_LINE) {
		log_printf(LOG_INFO, "%s", report->failure.text);
		return;
	}
	HASH_FIND(hh, m->seats, &report->id, sizeof(report->id), s);
	if (!s || s->worker != w)
		return;
	switch ((enum link_word)report->word) {
	case LINK_READY:
		take_ready(m, s, report);
		break;
	case LINK_FAILED:
		take_failure(m, s, report);
		break;
	case LINK_TICKET:
		if (s->kind == KIND_HOSTS)
			tickets_put(m->tickets, s->host, s->port, s->generation,
				    (struct span){ report->ticket, report->ticket_length });
		break;
	case LINK_GONE:
		m->truncated += report->truncated != 0;
		leave_seat(m, s);
		break;
	case LINK_LINE:
		break; /* above */
	}
}

/* --- workers that fail ------------------------------------------------------------------------ */

void seats_lose(struct master *m, const struct worker_proc *w)
{
	struct seat *s, *next;

	HASH_ITER(hh, m->seats, s, next)
	{
		if (s->worker != w)
			continue;
		s->worker = NULL;
		if (s->serial != 0 && !s->answer)
			answer_failure(m, s, TLS_LOST, s->host ? s->host : "client",
				       "the process that carried it has died");
		else if (!s->answer)
			free_seat(m, s);
	}
}

void seats_give_up_late(struct master *m, int64_t now_ms)
{
	struct seat *s, *next;

	HASH_ITER(hh, m->seats, s, next)
	{
		if (!s->shaking || s->deadline_ms > now_ms)
			continue;
		if (s->worker)
			crew_shun(s->worker);
		answer_failure(m, s, TLS_TIMEOUT, s->host ? s->host : "client",
			       "the process that carries it does not answer");
	}
}

/* --- requests --------------------------------------------------------------------------------- */

/* A pair of streams that neither end can be blocked with. */
static int make_plain(int ret[2])
{
	return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ret) < 0 ? -errno
											   : 0;
}

static int hand_over(struct master *m, struct seat *s, struct worker_proc *w, int tcp)
{
	const int on = 1;
	int pair[2];
	int r = make_plain(pair);

	if (r < 0)
		return r;
	(void)setsockopt(tcp, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	const int fds[2] = { tcp, pair[1] };

	job.id = s->id;
	r = link_send_job(w->link, &job, fds);
	close(pair[1]);
	if (r < 0) {
		close(pair[0]);
		return r;
	}
	s->plain = pair[0];
	s->worker = w;
	w->connections++;
	w->served = true;
	if (s->kind == KIND_CLIENTS)
		announce(m, s);
	return 0;
}

static const char *copy_peer(struct span peer)
{
	if (peer.n == 0 || peer.n >= sizeof(job.peer))
		return NULL;
	memcpy(job.peer, peer.p, peer.n);
	job.peer[peer.n] = '\0';
	return job.peer;
}

/* Fills in the job. Returns why it cannot be done, or NULL. */
static const char *make_job(struct master *m, struct seat *s, const struct msg *request)
{
	if (s->kind == KIND_CLIENTS) {
		job = (struct link_job){ .kind = LINK_ACCEPT,
					 .service = request->TLS_ACCEPT.service };
		if (!copy_peer(request->TLS_ACCEPT.client))
			(void)copy_peer(SPAN("client"));
		return contexts_serve(m->contexts)
			       ? NULL
			       : "there is no certificate for clients (tls_server_cert_file)";
	}
	job = (struct link_job){ .kind = LINK_DIAL,
				 .service = request->TLS_CONNECT.service,
				 .starttls = request->TLS_CONNECT.mode == TLS_STARTTLS,
				 .port = request->TLS_CONNECT.port };
	s->host = copy_peer(request->TLS_CONNECT.host) ? strdup(job.peer) : NULL;
	s->port = job.port;
	if (!s->host)
		return "this is no name of a mail host";
	if (!contexts_connect(m->contexts))
		return "TLS with mail hosts is not set up (server_tls)";
	job.ticket_length =
		(uint32_t)tickets_take(m->tickets, s->host, s->port, s->generation, job.ticket);
	return NULL;
}

/* There is one handshake more than there may be. Among clients the oldest one goes: a flood of
 * those who stall pushes itself out, while a real client is done long before its turn comes. */
static const char *limit_handshakes(struct master *m, enum kind kind)
{
	if (kind == KIND_HOSTS)
		return m->shaking_count[kind] > HOSTS_SHAKING_MAX
			       ? "there are too many TLS handshakes with mail hosts"
			       : NULL;
	while (m->shaking_count[kind] > m->settings.handshakes)
		answer_failure(m, m->shaking[kind], TLS_UNAVAILABLE, "client",
			       "its handshake was the oldest unfinished one, and there are too "
			       "many (tls_handshakes)");
	return NULL;
}

/* A worker that has died and is still to be buried takes nothing: then another one is asked. NULL,
 * or why there is none. */
static const char *find_worker(struct master *m, struct seat *s, int tcp)
{
	int r = -EPIPE;

	for (int i = 0; i < WORKERS_ASKED && (r == -EPIPE || r == -ECONNRESET); i++) {
		struct worker_proc *w = crew_choose(m, s->kind);

		r = w ? hand_over(m, s, w, tcp) : -EAGAIN;
		if (r == -EPIPE || r == -ECONNRESET)
			w->leaving = true;
	}
	return r < 0 ? "there is no process that could carry it" : NULL;
}

void seats_take(struct master *m, const struct msg *request, int tcp)
{
	enum kind kind = request->type == MSG_TLS_ACCEPT ? KIND_CLIENTS : KIND_HOSTS;
	struct seat *s = new_seat(m, kind, request->serial);

	if (!s) {
		close(tcp);
		return;
	}
	const char *why = make_job(m, s, request);

	if (!why)
		why = limit_handshakes(m, kind);
	if (!why)
		why = find_worker(m, s, tcp);
	close(tcp);
	if (why)
		answer_failure(m, s, TLS_UNAVAILABLE, job.peer, why);
	explicit_bzero(&job, sizeof(job));
}
