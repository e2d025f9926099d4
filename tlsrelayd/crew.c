/* The workers, and the connections in them.
 *
 * Each connection has a seat from the request on: until it was answered the seat holds the end of
 * the plain pair that the broker will get. A worker is believed only about seats of its own. What
 * it was last to say is read before its death is acted on.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>
#include <unistd.h>
#include <uthash.h>
#include <utlist.h>

#include "lib/clock.h"
#include "lib/config.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "lib/msgsock.h"
#include "tlsrelayd/link.h"
#include "tlsrelayd/master.h"
#include "tlsrelayd/pool.h"
#include "tlsrelayd/worker.h"

#define WORKERS_MAX   4096
#define IDLE_MS	      30000 /* then a worker with nothing to do is one too many */
#define SILENT_MS     3000  /* that a worker may be late with its answer */
#define REPORTS_ONCE  64
#define END_MS	      3000 /* in.imapproxyd gives us 5 s in all */

struct worker_proc {
	struct worker_proc *prev, *next;
	pid_t pid;
	int link;
	sd_event_source *source;
	enum kind kind;
	uint32_t connections;
	int64_t idle_since_ms;
	bool leaving;
	bool served; /* at least one connection */
	struct master *master;
};

/* What the broker is told when it takes nothing at the moment. */
struct answer {
	bool is_ready, resumed;
	char version[33], cipher[65], name[256];
	struct errors_text failure;
};

struct seat {
	UT_hash_handle hh;
	struct seat *prev, *next; /* of the unsent */
	uint32_t id;
	uint32_t serial; /* of the request; 0: it was answered, or nobody waits any more */
	enum kind kind;
	uint32_t port;
	int plain; /* the broker's end, or -1 */
	bool shaking;
	int64_t deadline_ms;
	uint64_t generation;
	struct worker_proc *worker; /* NULL: it has reported the end */
	struct answer *answer;	    /* not sent yet */
	char *host;		    /* of KIND_HOSTS */
};

static struct link_job job;
static struct link_report report;

/* --- seats ---------------------------------------------------------------------------------------- */

static void stop_shaking(struct master *m, struct seat *s)
{
	if (s->shaking)
		m->shaking[s->kind]--;
	s->shaking = false;
}

static void free_seat(struct master *m, struct seat *s)
{
	stop_shaking(m, s);
	if (s->worker && --s->worker->connections == 0)
		s->worker->idle_since_ms = clock_ms();
	if (s->answer)
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
	s->deadline_ms =
		clock_ms() + (int64_t)m->settings.handshake_seconds * 1000 + SILENT_MS;
	m->shaking[kind]++;
	HASH_ADD(hh, m->seats, id, sizeof(s->id), s);
	return s;
}

/* --- answers -------------------------------------------------------------------------------------- */

static int send_answer(struct master *m, const struct seat *s, const struct answer *a)
{
	struct msg message = { .serial = s->serial };

	if (a->is_ready) {
		message.type = MSG_TLS_READY;
		message.TLS_READY.resumed = a->resumed;
		message.TLS_READY.version = span_str(a->version);
		message.TLS_READY.cipher = span_str(a->cipher);
		message.TLS_READY.name = span_str(a->name);
	} else {
		message.type = MSG_TLS_FAILED;
		message.TLS_FAILED.reason = (uint32_t)a->failure.reason;
		message.TLS_FAILED.text = span_str(a->failure.text);
	}
	return broker_send(m, &message, a->is_ready ? s->plain : -1);
}

/* The answer is out, or there is nobody to give it to. */
static void answered(struct master *m, struct seat *s)
{
	if (s->answer)
		DL_DELETE(m->unsent, s);
	free(s->answer);
	s->answer = NULL;
	s->serial = 0;
	fd_drop(&s->plain);
	if (!s->worker)
		free_seat(m, s);
}

static void answer(struct master *m, struct seat *s, const struct answer *a)
{
	stop_shaking(m, s);
	if (s->serial == 0 || s->answer)
		return;
	if (send_answer(m, s, a) != -EAGAIN) {
		answered(m, s);
		return;
	}
	s->answer = malloc(sizeof(*a));
	if (!s->answer) {
		answered(m, s);
		return;
	}
	*s->answer = *a;
	DL_APPEND(m->unsent, s);
	broker_wait(m);
}

/* The seat is gone afterwards unless its worker still has it. */
static void answer_failure(struct master *m, struct seat *s, enum msg_tls_failure reason,
			   const char *peer, const char *text)
{
	struct answer a = { .is_ready = false };

	errors_say(&a.failure, peer, reason, text);
	answer(m, s, &a);
}

void crew_send_unsent(struct master *m)
{
	while (m->unsent) {
		struct seat *s = m->unsent;

		if (send_answer(m, s, s->answer) == -EAGAIN) {
			broker_wait(m);
			return;
		}
		if (m->unsent == s) /* else the broker went, and all is forgotten */
			answered(m, s);
	}
}

void crew_forget_requests(struct master *m)
{
	struct seat *s, *next;

	HASH_ITER (hh, m->seats, s, next)
		if (s->serial != 0)
			answered(m, s);
}

/* --- what workers report -------------------------------------------------------------------------- */

static void take_ready(struct master *m, struct seat *s)
{
	struct answer a = { .is_ready = true, .resumed = report.resumed };

	if (!s->shaking)
		return;
	memcpy(a.version, report.version, sizeof(a.version));
	memcpy(a.cipher, report.cipher, sizeof(a.cipher));
	memcpy(a.name, report.name, sizeof(a.name) - 1);
	a.name[sizeof(a.name) - 1] = '\0';
	answer(m, s, &a);
}

/* The worker has closed it. */
static void leave_seat(struct master *m, struct seat *s)
{
	if (--s->worker->connections == 0)
		s->worker->idle_since_ms = clock_ms();
	s->worker = NULL;
	if (!s->answer)
		free_seat(m, s);
}

static void take_failure(struct master *m, struct seat *s)
{
	const struct answer a = { .failure = report.failure };

	answer(m, s, &a);
	leave_seat(m, s);
}

static void take_report(struct master *m, const struct worker_proc *w)
{
	struct seat *s = NULL;

	HASH_FIND(hh, m->seats, &report.id, sizeof(report.id), s);
	if (!s || s->worker != w)
		return;
	switch ((enum link_word)report.word) {
	case LINK_READY:
		take_ready(m, s);
		break;
	case LINK_FAILED:
		take_failure(m, s);
		break;
	case LINK_TICKET:
		if (s->kind == KIND_HOSTS)
			tickets_put(m->tickets, s->host, s->port, s->generation,
				    (struct span){ report.ticket, report.ticket_length });
		break;
	case LINK_GONE:
		m->truncated += report.truncated != 0;
		leave_seat(m, s);
		break;
	}
}

/* Returns whether there may be more. */
static bool read_reports(struct master *m, struct worker_proc *w)
{
	for (int i = 0; i < REPORTS_ONCE; i++) {
		int r = link_receive_report(w->link, &report);

		if (r == 0)
			take_report(m, w);
		explicit_bzero(&report, sizeof(report));
		if (r == -EAGAIN)
			return false;
		if (r < 0) {
			if (r == -EBADMSG)
				log_printf(LOG_ERR, "worker %d says nonsense: it is killed",
					   (int)w->pid);
			if (r == -EBADMSG)
				(void)kill(w->pid, SIGKILL);
			(void)sd_event_source_set_enabled(w->source, SD_EVENT_OFF);
			return false;
		}
	}
	return true;
}

static int on_report(sd_event_source *source, int fd, uint32_t events, void *context)
{
	struct worker_proc *w = context;

	(void)source;
	(void)fd;
	(void)events;
	(void)read_reports(w->master, w);
	return 0;
}

/* --- workers -------------------------------------------------------------------------------------- */

/* The child's side of the fork. */
__attribute__((noreturn)) static void become_worker(struct master *m, enum kind kind, int link)
{
	static const int ignored[] = { SIGHUP, SIGINT, SIGUSR2, SIGPIPE };
	const struct worker_setup setup = {
		.contexts = m->contexts,
		.link = link,
		.handshake_seconds = m->settings.handshake_seconds,
		.uid = m->settings.uid,
		.gid = m->settings.gid,
	};

	/* a hang-up of the whole process group is the master's to handle */
	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		(void)signal(ignored[i], SIG_IGN);
	(void)signal(SIGTERM, SIG_DFL);
	(void)sigprocmask(SIG_SETMASK, &m->before, NULL);
	tickets_free(m->tickets);
	if (kind == KIND_CLIENTS)
		contexts_drop_hosts(m->contexts);
	else
		contexts_drop_clients(m->contexts);
	_exit(worker_run(&setup));
}

static struct worker_proc *start_worker(struct master *m, enum kind kind)
{
	struct worker_proc *w = calloc(1, sizeof(*w));
	int pair[2] = { -1, -1 };
	int r = w ? msgsock_pair(pair) : -ENOMEM;

	if (r == 0)
		r = sd_event_add_io(m->event, &w->source, pair[0], EPOLLIN, on_report, w);
	if (r >= 0)
		w->pid = fork();
	if (r >= 0 && w->pid == 0)
		become_worker(m, kind, pair[1]);
	fd_drop(&pair[1]);
	if (r < 0 || w->pid < 0) {
		log_printf(LOG_ERR, "a worker cannot be started: %s",
			   strerror(r < 0 ? -r : errno));
		if (w)
			sd_event_source_unref(w->source);
		fd_drop(&pair[0]);
		free(w);
		return NULL;
	}
	w->link = pair[0];
	w->kind = kind;
	w->master = m;
	w->idle_since_ms = clock_ms();
	DL_APPEND(m->workers, w);
	return w;
}

static void free_worker(struct master *m, struct worker_proc *w)
{
	DL_DELETE(m->workers, w);
	sd_event_source_unref(w->source);
	fd_drop(&w->link);
	free(w);
}

static void tell_to_leave(struct worker_proc *w)
{
	if (!w->leaving) {
		job = (struct link_job){ .kind = LINK_LEAVE };
		/* one that does not read hangs: it is killed, when its seats are empty */
		if (link_send_job(w->link, &job, NULL) == -EAGAIN)
			(void)shutdown(w->link, SHUT_WR);
	}
	w->leaving = true;
}

/* What it had is lost. */
static void lose_seats(struct master *m, const struct worker_proc *w)
{
	struct seat *s, *next;

	HASH_ITER (hh, m->seats, s, next) {
		if (s->worker != w)
			continue;
		s->worker = NULL;
		if (s->serial != 0 && !s->answer)
			answer_failure(m, s, TLS_UNAVAILABLE, s->host ? s->host : "client",
				       "the process that carried it has died");
		else if (!s->answer)
			free_seat(m, s);
	}
}

static void bury_worker(struct master *m, struct worker_proc *w, int status)
{
	bool clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;

	while (read_reports(m, w))
		;
	if (!clean || w->connections > 0) {
		m->workers_lost++;
		log_printf(LOG_WARNING, "worker %d ended with %s %d and %u connections",
			   (int)w->pid, WIFSIGNALED(status) ? "signal" : "exit code",
			   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
			   (unsigned)w->connections);
		lose_seats(m, w);
	}
	free_worker(m, w);
}

void crew_reap(struct master *m)
{
	struct worker_proc *w, *next;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		DL_FOREACH_SAFE (m->workers, w, next)
			if (w->pid == pid)
				bury_worker(m, w, status);
}

void crew_renew(struct master *m)
{
	struct worker_proc *w;

	DL_FOREACH (m->workers, w)
		tell_to_leave(w);
}

/* --- the choice ----------------------------------------------------------------------------------- */

static size_t make_rows(const struct master *m, enum kind kind, struct pool_row *rows,
			struct worker_proc **workers)
{
	struct worker_proc *w;
	size_t count = 0;

	DL_FOREACH (m->workers, w) {
		if (count == WORKERS_MAX)
			break;
		bool is_used_up = m->settings.sessions_per_worker == 1 && w->served;

		workers[count] = w;
		rows[count++] = (struct pool_row){
			.takes = w->kind == kind && !w->leaving && !is_used_up,
			.connections = w->connections,
		};
	}
	return count;
}

static struct pool_row rows[WORKERS_MAX];
static struct worker_proc *row_workers[WORKERS_MAX];

static struct worker_proc *choose_worker(struct master *m, enum kind kind)
{
	static long cpus;
	size_t count = make_rows(m, kind, rows, row_workers);

	if (cpus < 1)
		cpus = sysconf(_SC_NPROCESSORS_ONLN);
	int i = pool_choose(rows, count, m->settings.sessions_per_worker,
			    cpus > 0 ? (size_t)cpus : 1, count < WORKERS_MAX);

	if (i == POOL_NEW)
		return start_worker(m, kind);
	return i < 0 ? NULL : row_workers[i];
}

/* --- requests ------------------------------------------------------------------------------------- */

/* A pair of streams that neither end can be blocked with. */
static int make_plain(int ret[2])
{
	return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ret) < 0 ? -errno
											   : 0;
}

static int hand_over(struct seat *s, struct worker_proc *w, int tcp)
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
	job.ticket_length = (uint32_t)tickets_take(m->tickets, s->host, s->port, s->generation,
						   job.ticket);
	return NULL;
}

void crew_take(struct master *m, const struct msg *request, int tcp)
{
	enum kind kind = request->type == MSG_TLS_ACCEPT ? KIND_CLIENTS : KIND_HOSTS;
	bool is_full = m->shaking[kind] >= m->settings.handshakes;
	struct seat *s = new_seat(m, kind, request->serial);

	if (!s) {
		close(tcp);
		return;
	}
	const char *why = make_job(m, s, request);

	if (!why && is_full)
		why = kind == KIND_CLIENTS ? "there are too many TLS handshakes (tls_handshakes)"
					   : "there are too many TLS handshakes with mail hosts";
	struct worker_proc *w = why ? NULL : choose_worker(m, kind);

	if (!why && (!w || hand_over(s, w, tcp) < 0))
		why = "there is no process that could carry it";
	close(tcp);
	if (why)
		answer_failure(m, s, TLS_UNAVAILABLE, job.peer, why);
	explicit_bzero(&job, sizeof(job));
}

/* --- the clock ------------------------------------------------------------------------------------ */

static void give_up_late(struct master *m, int64_t now)
{
	struct seat *s, *next;

	HASH_ITER (hh, m->seats, s, next)
		if (s->shaking && s->deadline_ms <= now)
			/* the worker sees the end of its plain side, if it ever looks again */
			answer_failure(m, s, TLS_TIMEOUT, s->host ? s->host : "client",
				       "the process that carries it does not answer");
}

void crew_tick(struct master *m)
{
	int64_t now = clock_ms();

	give_up_late(m, now);
	for (enum kind kind = 0; kind < KINDS; kind++) {
		size_t count = make_rows(m, kind, rows, row_workers);

		for (size_t i = 0; i < count; i++) {
			struct worker_proc *w = row_workers[i];
			bool is_used_up = m->settings.sessions_per_worker == 1 && w->served;

			if (w->kind != kind || w->connections > 0 || w->leaving)
				continue;
			if (is_used_up || (now - w->idle_since_ms >= IDLE_MS &&
					   pool_is_surplus(rows, count, i))) {
				tell_to_leave(w);
				rows[i].takes = false;
			}
		}
	}
}

void crew_count(const struct master *m, uint32_t *workers, uint32_t *connections)
{
	const struct worker_proc *w;

	*workers = 0;
	*connections = 0;
	DL_FOREACH (m->workers, w) {
		(*workers)++;
		*connections += w->connections;
	}
}

/* A worker whose link has ended leaves with its last connection. They have END_MS for that: what
 * the sessions were last to say shall arrive, and each connection end as TLS wants it. */
static void wait_for_workers(struct master *m)
{
	int64_t by = clock_ms() + END_MS, now;
	struct worker_proc *w, *next;
	sigset_t child;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	DL_FOREACH (m->workers, w)
		(void)shutdown(w->link, SHUT_RDWR);
	while (m->workers && (now = clock_ms()) < by) {
		const struct timespec left = { .tv_sec = (by - now) / 1000,
					       .tv_nsec = (by - now) % 1000 * 1000000 };

		DL_FOREACH_SAFE (m->workers, w, next)
			if (waitpid(w->pid, NULL, WNOHANG) == w->pid)
				free_worker(m, w);
		if (m->workers)
			(void)sigtimedwait(&child, NULL, &left);
	}
}

void crew_end(struct master *m)
{
	struct worker_proc *w;

	wait_for_workers(m);
	DL_FOREACH (m->workers, w)
		(void)kill(w->pid, SIGTERM);
	while (m->workers) {
		w = m->workers;
		(void)waitpid(w->pid, NULL, 0);
		w->connections = 0;
		free_worker(m, w);
	}
}
