/* The workers: forked, given work, reaped. What one was last to say is read before its death is
 * acted on. Their connections are seats.c's. */
#include "tlsrelayd/crew.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>
#include <unistd.h>
#include <utlist.h>

#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "lib/msgsock.h"
#include "tlsrelayd/heap.h"
#include "tlsrelayd/link.h"
#include "tlsrelayd/pool.h"
#include "tlsrelayd/worker.h"

#define WORKERS_MAX   4096
#define IDLE_MS	      30000 /* then a worker with nothing to do is one too many */
#define REPORTS_ONCE  64
#define LINES_MOST    5 /* in a second; a worker that is ours says one at most */
#define END_MS	      3000 /* in.imapproxyd gives us 5 s in all */

static struct link_report report;

/* One that was taken over must not fill the log. */
static void take_report(struct worker_proc *w)
{
	if (report.word == LINK_LINE && ++w->lines > LINES_MOST)
		return;
	seats_take_report(w->master, w, &report);
}

/* Returns whether there may be more. */
static bool read_reports(struct worker_proc *w)
{
	for (int i = 0; i < REPORTS_ONCE; i++) {
		int r = link_receive_report(w->link, &report);

		if (r == 0)
			take_report(w);
		explicit_bzero(&report, sizeof(report));
		if (r == -EAGAIN)
			return false;
		if (r < 0) {
			if (r == -EBADMSG) {
				log_printf(LOG_ERR, "worker %d says nonsense: it is killed",
					   (int)w->pid);
				(void)kill(w->pid, SIGKILL);
			}
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
	(void)read_reports(w);
	return 0;
}

/* --- workers ---------------------------------------------------------------------------------- */

/* The child's side of the fork. */
__attribute__((noreturn)) static void become_worker(struct master *m, enum kind kind, int link)
{
	static const int ignored[] = { SIGHUP, SIGINT, SIGUSR1, SIGUSR2, SIGPIPE };
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
	heap_relax();
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
		static const struct link_job job = { .kind = LINK_LEAVE };

		/* one that hangs does not read: the end of file waits for it */
		if (link_send_job(w->link, &job, NULL) == -EAGAIN)
			(void)shutdown(w->link, SHUT_WR);
	}
	w->leaving = true;
}

void crew_shun(struct worker_proc *w)
{
	if (!w->leaving)
		log_printf(LOG_WARNING,
			   "worker %d does not answer: it gets no more connections, it has %u",
			   (int)w->pid, (unsigned)w->connections);
	tell_to_leave(w);
}

static void bury_worker(struct master *m, struct worker_proc *w, int status)
{
	bool clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;

	while (read_reports(w))
		;
	if (!clean || w->connections > 0) {
		m->workers_lost++;
		log_printf(LOG_WARNING, "worker %d ended with %s %d and %u connections",
			   (int)w->pid, WIFSIGNALED(status) ? "signal" : "exit code",
			   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
			   (unsigned)w->connections);
		seats_lose(m, w);
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

/* --- the choice ------------------------------------------------------------------------------- */

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

struct worker_proc *crew_choose(struct master *m, enum kind kind)
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

/* --- the clock -------------------------------------------------------------------------------- */

static void count_lines(const struct master *m)
{
	struct worker_proc *w;

	DL_FOREACH (m->workers, w) {
		if (w->lines > LINES_MOST)
			log_printf(LOG_WARNING, "worker %d: %u lines were left out", (int)w->pid,
				   (unsigned)(w->lines - LINES_MOST));
		w->lines = 0;
	}
}

void crew_tick(struct master *m)
{
	int64_t now = clock_ms();

	count_lines(m);
	seats_give_up_late(m, now);
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
	/* it has nothing to put in order, and may be stopped */
	DL_FOREACH (m->workers, w)
		(void)kill(w->pid, SIGKILL);
	while (m->workers) {
		w = m->workers;
		(void)waitpid(w->pid, NULL, 0);
		w->connections = 0;
		free_worker(m, w);
	}
}
