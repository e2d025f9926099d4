/* The listener: never sees a client's byte, allocates nothing.
 *
 * It makes a door, a pair of sockets whose sending end every session holds, and gives the receiving
 * end to the broker, which also keeps it over its own death. A new broker makes no difference to
 * the sessions: what they put through the door waits for it. The processes that wait for clients
 * are made by the nursery, which knows the settings; when these change, there is a new one.
 *
 * It also forks a process for each errand that the broker asks for, and passes on the one
 * descriptor that comes with that; what the errand is about does not come by here.
 *
 * Started by root it gives root up, and enters chroot_directory, as soon as it knows the settings
 * and before the first fork. So that it still reaches the next broker from there, its current
 * directory is the run directory, outside of that root, and stays so; its children leave it.
 */
#include "proxyd/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/confine.h"
#include "lib/fd.h"
#include "lib/ids.h"
#include "lib/large.h"
#include "lib/log.h"
#include "lib/msgsock.h"
#include "proxyd/errand.h"
#include "proxyd/hello.h"
#include "proxyd/nursery.h"

#define RETRY_MS       200
#define RESPAWN_MS     1000 /* between two tries to start a nursery */
#define BROKER_WAIT_MS 15000
#define LEAVE_MS       1500 /* for the spares */
#define REMIND_MS      5
#define ERRANDS_MOST   64 /* the broker's bound is lower; but it may be the next broker */
#define SOCKET_NAME    "listener"

struct listener {
	const char *run_directory;
	char broker_path[256];
	bool goes_there; /* root started it: the run directory becomes the current one, */
	bool is_there;	 /* and is it now */
	int broker;	 /* -1: none at the moment */
	int door[2];	 /* the sending end, and the receiving end */
	int signals;
	int sockets[POOLS_MAX];
	const struct service *services[POOLS_MAX]; /* what each of them is for */
	size_t count;
	int64_t next_try; /* to reach the broker */

	pid_t errands[ERRANDS_MOST]; /* 0: free */
	int errand;		     /* the link of one that is to be started, or -1 */
	struct msg_ERRAND errand_start;

	struct session_settings settings; /* of the children */
	struct msg_POOL bounds;		  /* spare_least is 0 until they are known */

	struct pool_table *table;
	pid_t nursery; /* 0: none */
	int64_t next_nursery;
	int life;    /* our end of its life: closed, it leaves */
	int reports; /* our end */
};

/* Where the sockets listen, whoever has made them: the broker dials none of these places. */
static struct span describe_sockets(const struct listener *l, struct buf *out)
{
	for (size_t i = 0; i < l->count; i++) {
		struct msg_HELLO at;
		size_t whole = out->len;

		hello_describe(l->sockets[i], l->services[i]->service, &at);
		if (at.local_port == 0)
			continue; /* a path */
		if ((whole > 0 && buf_add_char(out, ' ') < 0) || buf_add(out, at.local) < 0 ||
		    buf_add_char(out, '/') < 0 || buf_add_u64(out, at.local_port) < 0) {
			out->len = whole;
			break;
		}
	}
	return buf_span(out);
}

/* Connects to the broker and gives it the door. It answers with the settings and POOL. */
static int meet_broker(struct listener *l)
{
	char bytes[900];
	struct buf places = BUF_OVER(bytes);
	struct msg hello = { .type = MSG_LISTENER,
			     .LISTENER = { .sockets = (uint32_t)l->count,
					   .places = describe_sockets(l, &places) } };
	socklen_t n = sizeof(hello.LISTENER.sending_end);

	if (l->door[0] < 0 && msgsock_pair(l->door) < 0)
		return -errno;
	if (getsockopt(l->door[0], SOL_SOCKET, SO_COOKIE, &hello.LISTENER.sending_end, &n) < 0)
		return -errno;
	if (l->goes_there && !l->is_there && chdir(l->run_directory) < 0)
		return -errno;
	l->is_there = l->goes_there;

	AUTO_FD fd = msgsock_connect(l->is_there ? SOCKET_NAME : l->broker_path);

	if (fd < 0)
		return fd;
	int r = msgsock_send(fd, &hello, l->door[1]);

	if (r < 0)
		return r;
	l->broker = take_fd(&fd);
	return 0;
}

/* SIGSYS is the jail's: the process did what it must not. The broker counts, and writes the line
 * when the logger was restarted a moment ago. */
static void report_killed(struct listener *l, const char *what, pid_t pid, int signal)
{
	struct msg m = { .type = MSG_REAPED, .REAPED = { .signal = (uint32_t)signal } };
	char text[160];
	int n = snprintf(text, sizeof(text), "%s process %d was killed by signal %d (%s)", what,
			 (int)pid, signal,
			 signal == SIGSYS ? "it tried a forbidden system call" : strsignal(signal));

	if (n > 0 && log_write(LOG_ERR, span_str(text)) < 0)
		m.REAPED.line = span_str(text);
	if (l->broker >= 0)
		(void)msgsock_send(l->broker, &m, -1);
}

static void take_reports(struct listener *l)
{
	struct nursery_report report;

	while (read(l->reports, &report, sizeof(report)) == (ssize_t)sizeof(report))
		report_killed(l, "session", report.pid, report.signal);
}

/* --- the nursery --------------------------------------------------------------------------- */

/* Its spares leave; who has a client goes on with it. */
static void retire_nursery(struct listener *l)
{
	if (l->nursery > 0) {
		pool_retire(l->table, (unsigned)l->count);
		take_reports(l);
	}
	l->nursery = 0;
	fd_drop(&l->life);
	fd_drop(&l->reports);
}

/* Somebody who holds the sending end has shut it down, or made the broker close the other one:
 * there is a new door, and the broker is told as if it were new. */
static void replace_door(struct listener *l)
{
	log_printf(LOG_WARNING, "the door is broken: there will be another one");
	retire_nursery(l);
	fd_drop(&l->door[0]);
	fd_drop(&l->door[1]);
	fd_drop(&l->broker);
	l->bounds.spare_least = 0; /* no nursery before the broker has the door */
	l->next_try = clock_ms();
}

static bool make_pipe(int *ret_read, int *ret_write)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return false;
	*ret_read = ends[0];
	*ret_write = ends[1];
	return true;
}

/* In a new process: nothing outside of chroot_directory is its current directory any more. */
static int leave_directory(const struct listener *l)
{
	if (!l->is_there || chdir("/") == 0)
		return 0;
	log_printf(LOG_ERR, "cannot go to /: %s", strerror(errno));
	return -errno;
}

/* Returns true in the new process, with *ret_status to exit with. */
static bool start_nursery(struct listener *l, int *ret_status)
{
	static struct nursery n;
	AUTO_FD life = -1, reports = -1;

	l->next_nursery = clock_ms() + RESPAWN_MS;
	atomic_fetch_add(&l->table->busy, 1);
	if (make_pipe(&life, &l->life) && make_pipe(&l->reports, &reports)) {
		n = (struct nursery){ .table = l->table,
				      .settings = &l->settings,
				      .bounds = l->bounds,
				      .door = l->door[0],
				      .reports = reports,
				      .life = life,
				      .count = l->count };
		memcpy(n.sockets, l->sockets, sizeof(n.sockets));
		memcpy(n.services, l->services, sizeof(n.services));
		l->nursery = fork();
		if (l->nursery == 0) {
			fd_drop(&l->life);
			(void)take_fd(&life);
			(void)take_fd(&reports);
			*ret_status = leave_directory(l) < 0 ? 1 : nursery_run(&n);
			return true;
		}
	}
	if (l->nursery <= 0) {
		atomic_fetch_sub(&l->table->busy, 1);
		log_printf(LOG_ERR, "no process for clients can be started: %s", strerror(errno));
		retire_nursery(l);
	}
	return false;
}

/* --- processes that are gone ----------------------------------------------------------------- */

/* The slot of an errand's process, or of a free one (0), or ERRANDS_MOST. */
static size_t find_errand(const struct listener *l, pid_t pid)
{
	size_t i = 0;

	while (i < ERRANDS_MOST && l->errands[i] != pid)
		i++;
	return i;
}

/* What the process was that is gone: a word for the log. */
static const char *forget_child(struct listener *l, pid_t pid)
{
	size_t errand = find_errand(l, pid);

	if (errand < ERRANDS_MOST) {
		l->errands[errand] = 0;
		return "errand";
	}
	pool_reaped(l->table, (unsigned)l->count, pid);
	if (pid != l->nursery)
		return "session"; /* of a nursery before this one */
	retire_nursery(l);
	return "nursery";
}

static void reap(struct listener *l)
{
	pid_t pid;
	int status;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		const char *what = forget_child(l, pid);

		if (WIFSIGNALED(status))
			report_killed(l, what, pid, WTERMSIG(status));
	}
}

/* --- the broker ---------------------------------------------------------------------------- */

/* Takes one message. 0; -EAGAIN; -errno: the broker is gone. */
static int take_message(struct listener *l)
{
	static LARGE char data[MSG_MAX];
	struct msg m;
	AUTO_FD fd = -1;
	int r = msgsock_receive(l->broker, ROLE_BROKER, data, &m, &fd);

	if (r < 0)
		return r;
	switch (m.type) {
	case MSG_LOGGER: /* its children get it with the next nursery */
		log_take_socket(take_fd(&fd));
		return 0;
	case MSG_WELCOME:
		session_copy_settings(&l->settings, &m.WELCOME);
		return 0;
	case MSG_POOL: /* comes last */
		if (m.POOL.spare_least < 1 || m.POOL.spare_most < m.POOL.spare_least)
			return -EBADMSG;
		l->bounds = m.POOL;
		retire_nursery(l);
		l->next_nursery = 0;
		return 0;
	case MSG_ERRAND:
		fd_drop(&l->errand); /* one that came before the settings */
		l->errand = take_fd(&fd);
		l->errand_start = m.ERRAND;
		return 0;
	default:
		return -EBADMSG;
	}
}

/* At the start the broker must be there: without its settings there is nothing to offer. */
static int wait_for_settings(struct listener *l)
{
	int64_t deadline = clock_ms() + BROKER_WAIT_MS;
	int r = -ETIMEDOUT;

	while (clock_ms() < deadline) {
		r = l->broker < 0 ? meet_broker(l) : take_message(l);
		if (l->bounds.spare_least > 0)
			return 0;
		if (r == 0)
			continue;
		if (r != -EAGAIN)
			fd_drop(&l->broker);
		struct pollfd fds[] = { { .fd = l->broker, .events = POLLIN },
					{ .fd = l->signals, .events = POLLIN } };
		int64_t left = deadline - clock_ms();

		(void)poll(fds, 2, l->broker < 0 || left < 0 ? RETRY_MS : (int)left);
		if (fds[1].revents)
			return -ECANCELED;
	}
	return r < 0 ? r : -ETIMEDOUT;
}

static void serve_broker(struct listener *l)
{
	int r;

	if (l->broker < 0) {
		l->next_try = clock_ms() + RETRY_MS;
		(void)meet_broker(l);
		return;
	}
	/* one errand at a time: what else there is keeps the socket readable */
	do
		r = take_message(l);
	while (r == 0 && l->errand < 0);
	if (r < 0 && r != -EAGAIN) {
		fd_drop(&l->broker);
		l->next_try = clock_ms();
	}
}

/* --- errands ------------------------------------------------------------------------------- */

/* Forks a process for the errand that was asked for. Returns true in it. Otherwise nothing of the
 * link is left here: when it could not be started, that tells the broker. */
static bool start_errand(struct listener *l)
{
	size_t slot = find_errand(l, 0);
	pid_t pid = slot < ERRANDS_MOST ? fork() : -1;

	if (pid == 0)
		return true;
	if (pid > 0)
		l->errands[slot] = pid;
	fd_drop(&l->errand);
	return false;
}

/* In its process: nothing of the sessions' is there for it. */
static int run_errand(struct listener *l)
{
	if (leave_directory(l) < 0)
		return 1;
	pool_leave(l->table);
	return errand_run(take_fd(&l->errand), &l->errand_start);
}

/* --- the loop ------------------------------------------------------------------------------ */

/* Returns false when the listener shall end. */
static bool take_signals(struct listener *l)
{
	struct signalfd_siginfo info;
	bool go_on = true;

	while (read(l->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
		go_on = go_on && info.ssi_signo == SIGCHLD;
	reap(l);
	return go_on;
}

/* Milliseconds until something is to be tried again, or -1. */
static int patience(const struct listener *l)
{
	int64_t now = clock_ms(), until = INT64_MAX;

	if (l->broker < 0)
		until = l->next_try;
	if (l->nursery == 0 && l->bounds.spare_least > 0 && l->next_nursery < until)
		until = l->next_nursery;
	return until == INT64_MAX ? -1 : until > now ? (int)(until - now) : 0;
}

static bool wait_for_work(struct listener *l)
{
	struct pollfd fds[] = {
		{ .fd = l->signals, .events = POLLIN },
		{ .fd = l->broker, .events = POLLIN },
		{ .fd = l->reports, .events = POLLIN },
		{ .fd = l->door[1], .events = POLLRDHUP }, /* a child has shut it */
	};

	(void)poll(fds, 4, patience(l));
	if (fds[2].revents)
		take_reports(l);
	if (fds[0].revents && !take_signals(l))
		return false;
	if (fds[3].revents) {
		replace_door(l);
		return true;
	}
	if (fds[1].revents || (l->broker < 0 && clock_ms() >= l->next_try))
		serve_broker(l);
	return true;
}

/* Who has these sockets next may want to make them anew: nobody of ours may listen there when we
 * are gone. Nursery and spares hold the pipe for reports as long as they do that. */
static void leave_sockets(struct listener *l)
{
	int64_t deadline = clock_ms() + LEAVE_MS;

	take_reports(l);
	AUTO_FD reports = take_fd(&l->reports);
	struct pollfd fd = { .fd = reports };

	retire_nursery(l);
	while (reports >= 0 && poll(&fd, 1, REMIND_MS) <= 0 && clock_ms() < deadline)
		pool_remind(l->table, (unsigned)l->count);
}

static int serve(struct listener *l)
{
	int status;

	do {
		/* before any other fork: no spare may inherit the link */
		if (l->errand >= 0 && start_errand(l))
			return run_errand(l);
		if (l->nursery == 0 && l->bounds.spare_least > 0 && clock_ms() >= l->next_nursery &&
		    start_nursery(l, &status))
			return status;
	} while (wait_for_work(l));
	leave_sockets(l);
	return 0;
}

static int make_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGHUP, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Root is given up here, and the current directory kept. */
static int drop_root(const struct session_settings *settings)
{
	const char *directory = settings->chroot_directory;
	int death_signal = 0;
	AUTO_FD here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (here < 0 || prctl(PR_GET_PDEATHSIG, &death_signal) < 0)
		return -errno;
	int r = ids_confine(settings->values.uid, settings->values.gid, directory);

	if (r < 0) {
		log_printf(LOG_ERR, "cannot become uid %u%s%s: %s", settings->values.uid,
			   *directory ? " in chroot_directory " : "", directory, strerror(-r));
		return r;
	}
	/* the kernel has forgotten it with the ids */
	if (fchdir(here) < 0 || prctl(PR_SET_PDEATHSIG, death_signal) < 0)
		return -errno;
	return 0;
}

static int confine(const struct listener *l)
{
	pid_t parent = getppid();
	int r = activation_notify_prepare();

	if (r < 0)
		log_printf(LOG_WARNING, "the supervisor cannot be told: %s", strerror(-r));
	r = drop_root(&l->settings);
	return r == 0 && getppid() != parent ? -ECANCELED : r;
}

int listener_run(const struct activation_fd *sockets, size_t count, const char *run_directory)
{
	static LARGE struct listener l; /* out of the sessions' way */
	int n = snprintf(l.broker_path, sizeof(l.broker_path), "%s/" SOCKET_NAME, run_directory);

	if (n < 0 || (size_t)n >= sizeof(l.broker_path)) {
		log_printf(LOG_ERR, "-r %s: the path is too long", run_directory);
		return 1;
	}
	l.run_directory = run_directory;
	l.goes_there = geteuid() == 0;
	l.broker = l.life = l.reports = l.errand = l.door[0] = l.door[1] = -1;
	l.count = count;
	for (size_t i = 0; i < count; i++) {
		l.sockets[i] = sockets[i].fd;
		l.services[i] = service_find(sockets[i].name);
	}
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); /* a dead nursery's children */
	l.signals = make_signals();
	l.table = pool_table_new();
	int r = l.signals < 0 || !l.table ? -errno : wait_for_settings(&l);

	if (r == 0 && l.goes_there)
		r = confine(&l);
	if (r == 0)
		r = confine_rights(0); /* a unit may have given an ordinary user some */
	if (r == -ECANCELED)
		return 0; /* told to end before it began */
	if (r < 0) {
		log_printf(LOG_ERR, "the listener cannot start: %s: %s", l.broker_path,
			   strerror(-r));
		return 1;
	}
	r = activation_notify("READY=1", NULL, 0);
	if (r < 0)
		log_printf(LOG_WARNING, "the supervisor cannot be told: %s", strerror(-r));
	return serve(&l);
}
