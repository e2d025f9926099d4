/* One poll loop over signals, notifications and deadlines; nothing here sleeps.
 *
 * What the service is doing is a phase. The stop phases are rows, in the order in which clients
 * lose least: no new clients, then every session with BYE, then the look-ups. Session processes are
 * children of the listener and become ours when it has gone; their end is awaited. tlsrelayd is
 * told last, since their BYE may have its way through it. A start that fails takes the same way
 * out.
 */
#include "imapproxyd/supervisor.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "imapproxyd/notify.h"
#include "imapproxyd/orphans.h"
#include "imapproxyd/reload.h"
#include "imapproxyd/report.h"
#include "lib/clock.h"
#include "lib/fd.h"

#define START_LIMIT_MS	 30000 /* a machine that boots has much else to do */
#define RESTART_LIMIT_MS 60000

enum phase {
	STARTING,
	RUNNING,
	STOP_LISTENER,
	STOP_BROKER,
	STOP_LOOKUP,
	STOP_SESSIONS,
	STOP_TLS,
	STOPPED
};

static const struct {
	enum child_name child;
	int signal_number;
	int64_t limit_ms;
} stops[] = {
	[STOP_LISTENER] = { CHILD_LISTENER, SIGTERM, 5000 },
	[STOP_BROKER] = { CHILD_BROKER, SIGINT, 10000 },
	[STOP_LOOKUP] = { CHILD_LOOKUP, SIGTERM, 5000 },
	[STOP_SESSIONS] = { CHILD_COUNT, 0, 5000 },
	[STOP_TLS] = { CHILD_TLS, SIGTERM, 5000 },
};

struct run {
	struct supervisor *s;
	enum phase phase;
	int64_t phase_by; /* what the phase waits for is killed then */
	int result;
	bool reload_later; /* SIGHUP came; during the start it has to wait */
	int signal_fd;
};

static struct child *find_child(struct supervisor *s, pid_t pid)
{
	for (size_t i = 0; i < CHILD_COUNT; i++)
		if (pid > 0 && s->children[i].pid == pid)
			return &s->children[i];
	return NULL;
}

/* --- stopping ---------------------------------------------------------- */

static void enter_phase(struct run *run, enum phase phase)
{
	/* The listener has gone: better refuse clients than let them wait in its backlog. */
	if (phase == STOP_BROKER)
		child_close_fds(&run->s->children[CHILD_LISTENER]);
	run->phase = phase;
	run->phase_by = phase < STOP_LISTENER || phase == STOPPED
				? CHILD_NEVER
				: clock_ms() + stops[phase].limit_ms;
	if (phase >= STOP_LISTENER && phase < STOPPED && phase != STOP_SESSIONS)
		child_signal(&run->s->children[stops[phase].child], stops[phase].signal_number);
}

static void begin_stop(struct run *run, int result)
{
	if (run->phase >= STOP_LISTENER)
		return;
	run->result = result;
	enter_phase(run, STOP_LISTENER);
}

/* Is what the stop phase waits for gone? */
static bool is_phase_done(const struct run *run)
{
	if (run->phase == STOP_SESSIONS)
		return !orphans_left(run->s->children[CHILD_TLS].pid);
	return run->s->children[stops[run->phase].child].pid == 0;
}

static void overrun(struct run *run)
{
	run->phase_by = CHILD_NEVER;
	if (run->phase == STOP_SESSIONS) {
		int n = orphans_kill(run->s->children[CHILD_TLS].pid);

		report(LOG_WARNING, "sessions did not end in time: %d processes are killed", n);
		if (n == 0)
			enter_phase(run, STOP_TLS); /* nothing that a wait could end */
		return;
	}
	const struct child *c = &run->s->children[stops[run->phase].child];

	report(LOG_WARNING, "%s (process %d) did not end in time and is killed", child_program(c),
	       c->pid);
	child_signal(c, SIGKILL);
}

static void go_on_stopping(struct run *run)
{
	if (run->phase_by <= clock_ms())
		overrun(run);
	while (run->phase >= STOP_LISTENER && run->phase < STOPPED && is_phase_done(run))
		enter_phase(run, run->phase + 1);
}

/* --- starting ---------------------------------------------------------- */

/* Starts the next child, once those before it are ready. */
static void go_on_starting(struct run *run)
{
	for (size_t i = 0; i < CHILD_COUNT; i++) {
		struct child *c = &run->s->children[i];

		if (!c->wanted || c->ready)
			continue;
		if (c->pid == 0 && child_start(c, &run->s->setup, clock_ms(), START_LIMIT_MS) < 0)
			begin_stop(run, -ECHILD);
		return;
	}
	enter_phase(run, RUNNING);
	run->s->on_ready(run->s->context);
}

static void check_ready(struct run *run, struct child *c, int64_t now)
{
	if (c->pid == 0 || c->ready_by > now)
		return;
	c->ready_by = CHILD_NEVER;
	if (run->phase == STARTING) {
		report(LOG_ERR, "%s was not ready within %d s", child_program(c),
		       START_LIMIT_MS / 1000);
		begin_stop(run, -ETIMEDOUT);
		return;
	}
	report(LOG_ERR, "%s (process %d) was not ready within %d s and is killed", child_program(c),
	       c->pid, RESTART_LIMIT_MS / 1000);
	child_signal(c, SIGKILL);
}

static void restart_due(struct run *run)
{
	int64_t now = clock_ms();

	for (size_t i = 0; i < CHILD_COUNT; i++) {
		struct child *c = &run->s->children[i];

		check_ready(run, c, now);
		if (run->phase != RUNNING || c->pid != 0 || c->restart_at > now)
			continue;
		if (child_start(c, &run->s->setup, now, RESTART_LIMIT_MS) < 0)
			child_retry(c, now);
	}
}

/* --- events ---------------------------------------------------------- */

static void on_end(struct run *run, struct child *c, int status)
{
	char words[80];
	pid_t pid = c->pid;
	bool was_ready = c->ready;

	child_ended(c, status, clock_ms());
	child_words(status, words, sizeof(words));
	if (run->phase == STARTING) {
		report(LOG_ERR, "%s %s %s; its own lines in the log say why", child_program(c),
		       words, was_ready ? "during the start" : "before it was ready");
		begin_stop(run, -ECHILD);
	} else if (run->phase == RUNNING) {
		report(status == 0 ? LOG_NOTICE : LOG_ERR,
		       "%s (process %d) %s; it is started again%s", child_program(c), pid, words,
		       c->pause ? " after a pause" : "");
	} else if (status != 0) {
		report(LOG_WARNING, "%s (process %d) %s", child_program(c), pid, words);
	}
}

static void reap(struct run *run)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct child *c = find_child(run->s, pid);

		if (c)
			on_end(run, c, status);
	}
}

static void read_notifications(struct run *run)
{
	char text[NOTIFY_MAX];
	struct notify_datagram d;

	for (int r = 0; r == 0;) {
		r = notify_receive(run->s->notify_fd, text, &d);
		if (r == -EBADMSG) {
			report(LOG_WARNING,
			       "a notification was too long or incomplete and is dropped");
			r = 0;
			continue;
		}
		if (r < 0)
			return;
		struct child *c = find_child(run->s, d.sender);

		if (c) {
			child_notified(c, d.text, d.fds, d.count);
			continue;
		}
		for (size_t i = 0; i < d.count; i++)
			close(d.fds[i]);
	}
}

/* Those who read the settings are told; a change that brings TLS in starts tlsrelayd. */
static void reload(struct run *run)
{
	static const enum child_name readers[] = { CHILD_BROKER, CHILD_LOOKUP, CHILD_TLS };
	struct child *relay = &run->s->children[CHILD_TLS];
	bool tls;

	run->reload_later = false;
	if (reload_settings(run->s, &tls) < 0)
		return;
	for (size_t i = 0; i < sizeof(readers) / sizeof(readers[0]); i++) {
		struct child *c = &run->s->children[readers[i]];

		/* One that is not ready may lack its handler yet, and would die of it. */
		if (c->ready)
			child_signal(c, SIGHUP);
		else
			c->reload = true;
	}
	if (tls && !relay->wanted) {
		relay->wanted = true;
		relay->reload = false; /* it will read what is there */
		relay->restart_at = clock_ms();
	}
}

static void read_signals(struct run *run)
{
	struct signalfd_siginfo info;

	while (read(run->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		switch (info.ssi_signo) {
		case SIGCHLD:
			break; /* reaped after every wake-up */
		case SIGHUP:
			run->reload_later = true;
			break;
		default:
			if (run->phase < STOP_LISTENER)
				report(LOG_NOTICE, "ending: %s", strsignal((int)info.ssi_signo));
			/* told to end before it was ready: an end, no failure; a starter that still
			 * waits hears of it by its pipe */
			begin_stop(run, 0);
		}
	}
}

static int wait_ms(const struct run *run)
{
	int64_t now = clock_ms(), by = run->phase_by;

	for (size_t i = 0; i < CHILD_COUNT; i++) {
		const struct child *c = &run->s->children[i];

		if (run->phase < STOP_LISTENER && c->pid > 0 && c->ready_by < by)
			by = c->ready_by;
		if (run->phase == RUNNING && c->pid == 0 && c->restart_at < by)
			by = c->restart_at;
	}
	if (by == CHILD_NEVER)
		return -1;
	return by <= now ? 0 : (int)(by - now);
}

static void handle_events(struct run *run)
{
	struct pollfd polled[] = {
		{ .fd = run->signal_fd, .events = POLLIN },
		{ .fd = run->s->notify_fd, .events = POLLIN },
	};

	if (poll(polled, 2, wait_ms(run)) < 0 && errno != EINTR)
		report(LOG_ERR, "poll: %s", strerror(errno));
	read_notifications(run); /* before reaping: the last words of a child */
	read_signals(run);
	reap(run);
}

int supervisor_run(struct supervisor *s)
{
	AUTO_FD signal_fd = signalfd(-1, &s->signals, SFD_CLOEXEC | SFD_NONBLOCK);
	struct run run = {
		.s = s, .phase = STARTING, .phase_by = CHILD_NEVER, .signal_fd = signal_fd
	};

	if (signal_fd < 0)
		return -errno;
	for (size_t i = 0; i < CHILD_COUNT; i++) {
		s->children[i].name = (enum child_name)i;
		s->children[i].ready_by = s->children[i].restart_at = CHILD_NEVER;
	}
	for (;;) {
		if (run.phase == STARTING)
			go_on_starting(&run);
		if (run.phase == RUNNING && run.reload_later)
			reload(&run);
		if (run.phase < STOP_LISTENER)
			restart_due(&run);
		if (run.phase >= STOP_LISTENER)
			go_on_stopping(&run);
		if (run.phase == STOPPED)
			break;
		handle_events(&run);
	}
	for (size_t i = 0; i < CHILD_COUNT; i++)
		fdstore_wipe(&s->children[i].store);
	return run.result;
}
