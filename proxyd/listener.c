/* The listener: never sees a client's byte, allocates nothing, forks.
 *
 * It makes a door, a pair of sockets whose sending end every child holds, and gives the receiving
 * end to the broker, which also keeps it over its own death. A new broker makes no difference to
 * the children: what they put through the door waits for it.
 *
 * It also forks a process for each errand that the broker asks for, and passes on the one
 * descriptor that comes with that; what the errand is about does not come by here.
 */
#include "proxyd/listener.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "lib/msgsock.h"
#include "proxyd/errand.h"
#include "proxyd/hello.h"
#include "proxyd/io.h"
#include "proxyd/link.h"
#include "proxyd/pool.h"
#include "proxyd/session.h"

#define TICK_MS	       1000
#define RETRY_MS       200
#define BROKER_WAIT_MS 15000
#define DOOR_WAIT_MS   10000
#define ERRANDS_MOST   64 /* the broker's bound is lower; but it may be the next broker */

struct listener {
	const char *broker_path;
	int broker;  /* -1: none at the moment */
	int door[2]; /* the sending end, and the receiving end until the broker has it */
	int wake;
	int signals;
	struct pool pools[POOLS_MAX];
	size_t count;
	pid_t errands[ERRANDS_MOST]; /* 0: free */
	int errand;		     /* the link of one that is to be started, or -1 */
	struct msg_ERRAND errand_start;
	int64_t next_tick;
	int64_t next_try; /* to reach the broker */
};

/* Connects to the broker and gives it the door. It answers with POOL. */
static int meet_broker(struct listener *l)
{
	const struct msg hello = { .type = MSG_LISTENER,
				   .LISTENER = { .sockets = (uint32_t)l->count } };
	AUTO_FD fd = msgsock_connect(l->broker_path);

	if (fd < 0)
		return fd;
	int r = msgsock_send(fd, &hello, l->door[1]);

	if (r < 0)
		return r;
	l->broker = take_fd(&fd);
	return 0;
}

static bool is_good_pool(const struct msg *m)
{
	return m->type == MSG_POOL && m->POOL.spare_least >= 1 &&
	       m->POOL.spare_most >= m->POOL.spare_least;
}

/* The broker's next message: no text is in it that lives on. 0; -EAGAIN; -errno: it is gone. */
static int take_message(struct listener *l, struct msg *m, int *ret_fd)
{
	static char data[MSG_MAX];

	return msgsock_receive(l->broker, ROLE_BROKER, data, m, ret_fd);
}

/* Takes the first POOL message; nothing else comes before it. 0 with *ret set; -EAGAIN; -errno: the
 * broker is gone. */
static int take_pool(struct listener *l, struct msg_POOL *ret)
{
	struct msg m;
	AUTO_FD fd = -1;
	int r = take_message(l, &m, &fd);

	if (r == 0 && !is_good_pool(&m))
		r = -EBADMSG;
	if (r == 0)
		*ret = m.POOL;
	return r;
}

/* At the start the broker must be there: without its settings there is nothing to offer. */
static int wait_for_pool(struct listener *l, struct msg_POOL *ret)
{
	int64_t deadline = clock_ms() + BROKER_WAIT_MS;
	int r = -ETIMEDOUT;

	while (clock_ms() < deadline) {
		r = l->broker < 0 ? meet_broker(l) : take_pool(l, ret);
		if (r == 0 && ret->spare_least > 0)
			return 0;
		if (r < 0 && r != -EAGAIN)
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

static int handle_message(struct listener *l, const struct msg *m, int *fd)
{
	if (m->type == MSG_ERRAND) {
		l->errand = take_fd(fd);
		l->errand_start = m->ERRAND;
		return 0;
	}
	if (!is_good_pool(m))
		return -EBADMSG;
	for (size_t i = 0; i < l->count; i++)
		pool_set_bounds(&l->pools[i], m->POOL.spare_least, m->POOL.spare_most,
				m->POOL.processes_most);
	return 0;
}

static void serve_broker(struct listener *l)
{
	struct msg m;
	int r = 0;

	if (l->broker < 0) {
		l->next_try = clock_ms() + RETRY_MS;
		(void)meet_broker(l);
		return;
	}
	/* one errand at a time: what else there is keeps the socket readable */
	while (r == 0 && l->errand < 0) {
		AUTO_FD fd = -1;

		r = take_message(l, &m, &fd);
		if (r == 0)
			r = handle_message(l, &m, &fd);
	}
	if (r < 0 && r != -EAGAIN) {
		fd_drop(&l->broker);
		l->next_try = clock_ms();
	}
}

/* SIGSYS is the jail's: the process did what it must not. The broker counts. */
static void report_killed(struct listener *l, const char *what, pid_t pid, int signal)
{
	const struct msg m = { .type = MSG_REAPED, .REAPED = { .signal = (uint32_t)signal } };

	log_printf(LOG_ERR, "%s process %d was killed by signal %d (%s)", what, (int)pid, signal,
		   signal == SIGSYS ? "it tried a forbidden system call" : strsignal(signal));
	if (l->broker >= 0)
		(void)msgsock_send(l->broker, &m, -1);
}

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
	for (size_t i = 0; i < l->count; i++)
		if (pool_reaped(&l->pools[i], pid))
			break;
	return "session";
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

/* In a child: everything of the parent's that it does not need is closed. */
static void leave_listener(struct listener *l)
{
	fd_drop(&l->broker);
	fd_drop(&l->door[1]);
	close(l->signals);
	close(l->wake);
	for (size_t i = 0; i < l->count; i++)
		close(l->pools[i].socket);
	for (size_t i = 0; i < l->count; i++)
		pool_leave(&l->pools[i]);
}

static int serve_client(struct listener *l, int client)
{
	struct msg_HELLO hello;
	struct link link;

	leave_listener(l);
	io_init();
	hello_describe(client, &hello);
	if (link_open_by_door(&link, l->door[0], clock_ms() + DOOR_WAIT_MS) < 0)
		link.sock = -1;
	return session_run(client, &link, &hello);
}

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

static int run_errand(struct listener *l)
{
	leave_listener(l);
	fd_drop(&l->door[0]);
	return errand_run(take_fd(&l->errand), &l->errand_start);
}

/* Returns false when the listener shall end. */
static bool wait_for_work(struct listener *l)
{
	struct pollfd fds[] = {
		{ .fd = l->wake, .events = POLLIN },
		{ .fd = l->signals, .events = POLLIN },
		{ .fd = l->broker, .events = POLLIN },
	};
	int64_t until = l->broker < 0 && l->next_try < l->next_tick ? l->next_try : l->next_tick;
	int64_t left = until - clock_ms();
	uint64_t drained;

	(void)poll(fds, 3, left > 0 ? (int)left : 0);
	if (fds[0].revents)
		(void)!read(l->wake, &drained, sizeof(drained));
	if (fds[1].revents)
		return false;
	if (fds[2].revents || (l->broker < 0 && clock_ms() >= l->next_try))
		serve_broker(l);
	return true;
}

static void tick(struct listener *l)
{
	if (clock_ms() < l->next_tick)
		return;
	l->next_tick = clock_ms() + TICK_MS;
	for (size_t i = 0; i < l->count; i++)
		pool_adapt(&l->pools[i]);
}

static int serve(struct listener *l)
{
	do {
		reap(l);
		/* before any other fork: no spare may inherit the link */
		if (l->errand >= 0 && start_errand(l))
			return run_errand(l);
		tick(l);
		for (size_t i = 0; i < l->count; i++) {
			bool child;
			int client = pool_fill(&l->pools[i], &child);

			if (child)
				return client < 0 ? 0 : serve_client(l, client);
		}
	} while (wait_for_work(l));
	for (size_t i = 0; i < l->count; i++)
		pool_retire(&l->pools[i]);
	return 0;
}

static int make_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGHUP, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int make_pools(struct listener *l, const struct activation_fd *sockets)
{
	struct msg_POOL pool = { 0 };
	int r = wait_for_pool(l, &pool);

	for (size_t i = 0; r == 0 && i < l->count; i++)
		r = pool_init(&l->pools[i], sockets[i].fd, l->door[0], l->wake, pool.spare_least,
			      pool.spare_most, pool.processes_most);
	return r;
}

int listener_run(const struct activation_fd *sockets, size_t count, const char *broker_path)
{
	static struct listener l;

	l = (struct listener){
		.broker_path = broker_path, .broker = -1, .errand = -1, .count = count
	};
	l.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	l.signals = make_signals();
	int r = l.wake < 0 || l.signals < 0 ? -errno : msgsock_pair(l.door);

	if (r == 0)
		r = make_pools(&l, sockets);
	if (r == -ECANCELED)
		return 0; /* told to end before it began */
	if (r < 0) {
		log_printf(LOG_ERR, "the listener cannot start: %s: %s", broker_path, strerror(-r));
		return 1;
	}
	r = activation_notify("READY=1", NULL, 0);
	if (r < 0)
		log_printf(LOG_WARNING, "the supervisor cannot be told: %s", strerror(-r));
	return serve(&l);
}
