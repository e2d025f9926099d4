/* The listener: never sees a client's byte, allocates nothing, forks.
 *
 * It makes a door, a pair of sockets whose sending end every child holds, and gives the receiving
 * end to the broker, which also keeps it over its own death. A new broker makes no difference to
 * the children: what they put through the door waits for it.
 *
 * Started by root it gives root up, and enters chroot_directory, at the first POOL and before the
 * first fork. So that it still reaches the next broker from there, its current directory is the run
 * directory, outside of that root, and stays so; each child leaves it before a client byte is read.
 */
#include "proxyd/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/ids.h"
#include "lib/log.h"
#include "lib/msgsock.h"
#include "proxyd/hello.h"
#include "proxyd/io.h"
#include "proxyd/link.h"
#include "proxyd/pool.h"
#include "proxyd/session.h"

#define TICK_MS	       1000
#define RETRY_MS       200
#define BROKER_WAIT_MS 15000
#define DOOR_WAIT_MS   10000
#define SOCKET_NAME    "listener"

struct listener {
	const char *run_directory;
	char broker_path[256];
	bool goes_there; /* root started it: the run directory becomes the current one, */
	bool is_there;	 /* and is it now */
	int broker;	 /* -1: none at the moment */
	int door[2];	 /* the sending end, and the receiving end until the broker has it */
	int wake;
	int signals;
	struct pool pools[POOLS_MAX];
	size_t count;
	int64_t next_tick;
	int64_t next_try; /* to reach the broker */
};

/* Connects to the broker and gives it the door. It answers with POOL. */
static int meet_broker(struct listener *l)
{
	const struct msg hello = { .type = MSG_LISTENER,
				   .LISTENER = { .sockets = (uint32_t)l->count } };

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

/* Takes a POOL message. 0 with *ret set; -EAGAIN; -errno: the broker is gone. */
static int take_pool(struct listener *l, struct msg_POOL *ret)
{
	static char data[MSG_MAX];
	struct msg m;
	int fd = -1, r = msgsock_receive(l->broker, ROLE_BROKER, data, &m, &fd);

	fd_drop(&fd);
	if (r < 0)
		return r;
	if (m.type != MSG_POOL || m.POOL.spare_least < 1 || m.POOL.spare_most < m.POOL.spare_least)
		return -EBADMSG;
	*ret = m.POOL;
	return 0;
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

static void serve_broker(struct listener *l)
{
	struct msg_POOL pool;
	int r;

	if (l->broker < 0) {
		l->next_try = clock_ms() + RETRY_MS;
		(void)meet_broker(l);
		return;
	}
	while ((r = take_pool(l, &pool)) == 0)
		for (size_t i = 0; i < l->count; i++)
			pool_set_bounds(&l->pools[i], pool.spare_least, pool.spare_most,
					pool.processes_most);
	if (r != -EAGAIN) {
		fd_drop(&l->broker);
		l->next_try = clock_ms();
	}
}

/* SIGSYS is the jail's: the process did what it must not. The broker counts. */
static void report_killed(struct listener *l, pid_t pid, int signal)
{
	const struct msg m = { .type = MSG_REAPED, .REAPED = { .signal = (uint32_t)signal } };

	log_printf(LOG_ERR, "session process %d was killed by signal %d (%s)", (int)pid, signal,
		   signal == SIGSYS ? "it tried a forbidden system call" : strsignal(signal));
	if (l->broker >= 0)
		(void)msgsock_send(l->broker, &m, -1);
}

static void reap(struct listener *l)
{
	pid_t pid;
	int status;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (size_t i = 0; i < l->count; i++)
			if (pool_reaped(&l->pools[i], pid))
				break;
		if (WIFSIGNALED(status))
			report_killed(l, pid, WTERMSIG(status));
	}
}

/* In a child: everything of the parent's that it does not need is closed; then the session. */
static int serve_client(struct listener *l, int client)
{
	struct msg_HELLO hello;
	struct link link;

	if (l->is_there && chdir("/") < 0) {
		log_printf(LOG_ERR, "session refused: cannot go to /: %s", strerror(errno));
		return 1;
	}
	fd_drop(&l->broker);
	fd_drop(&l->door[1]);
	close(l->signals);
	close(l->wake);
	for (size_t i = 0; i < l->count; i++)
		close(l->pools[i].socket);
	for (size_t i = 0; i < l->count; i++)
		pool_leave(&l->pools[i]);
	io_init();
	hello_describe(client, &hello);
	if (link_open_by_door(&link, l->door[0], clock_ms() + DOOR_WAIT_MS) < 0)
		link.sock = -1;
	return session_run(client, &link, &hello);
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

/* Root is given up here, and the current directory kept. */
static int drop_root(const struct msg_POOL *pool)
{
	char directory[256] = "";
	int death_signal = 0;
	AUTO_FD here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	memcpy(directory, pool->chroot_directory.p, pool->chroot_directory.n);
	if (here < 0 || prctl(PR_GET_PDEATHSIG, &death_signal) < 0)
		return -errno;
	int r = ids_confine(pool->uid, pool->gid, directory);

	if (r < 0) {
		log_printf(LOG_ERR, "cannot become uid %u%s%s: %s", pool->uid,
			   *directory ? " in chroot_directory " : "", directory, strerror(-r));
		return r;
	}
	/* the kernel has forgotten it with the ids */
	if (fchdir(here) < 0 || prctl(PR_SET_PDEATHSIG, death_signal) < 0)
		return -errno;
	return 0;
}

static int confine(const struct msg_POOL *pool)
{
	pid_t parent = getppid();
	int r = activation_notify_prepare();

	if (r < 0)
		log_printf(LOG_WARNING, "the supervisor cannot be told: %s", strerror(-r));
	r = drop_root(pool);
	return r == 0 && getppid() != parent ? -ECANCELED : r;
}

static int make_pools(struct listener *l, const struct activation_fd *sockets)
{
	struct msg_POOL pool = { 0 };
	int r = wait_for_pool(l, &pool);

	if (r == 0 && l->goes_there)
		r = confine(&pool);
	for (size_t i = 0; r == 0 && i < l->count; i++)
		r = pool_init(&l->pools[i], sockets[i].fd, l->door[0], l->wake, pool.spare_least,
			      pool.spare_most, pool.processes_most);
	return r;
}

int listener_run(const struct activation_fd *sockets, size_t count, const char *run_directory)
{
	static struct listener l;

	l = (struct listener){ .run_directory = run_directory,
			       .goes_there = geteuid() == 0,
			       .broker = -1,
			       .count = count };
	int n = snprintf(l.broker_path, sizeof(l.broker_path), "%s/" SOCKET_NAME, run_directory);

	if (n < 0 || (size_t)n >= sizeof(l.broker_path)) {
		log_printf(LOG_ERR, "-r %s: the path is too long", run_directory);
		return 1;
	}
	l.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	l.signals = make_signals();
	int r = l.wake < 0 || l.signals < 0 ? -errno : msgsock_pair(l.door);

	if (r == 0)
		r = make_pools(&l, sockets);
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
