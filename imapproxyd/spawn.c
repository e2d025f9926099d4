/* fork, arrange, give up rights, exec.
 *
 * The steps are a table in the order that matters: descriptors and limits while we still may, then
 * the ids, then no way back. A step that fails is told to the parent through a close-on-exec pipe,
 * whose end of file is the proof that exec has happened. Traps: a descriptor may already stand
 * where another one shall go, so all are first copied above the range; the kernel forgets the death
 * signal when the ids change, so it is asked for afterwards; it comes when the thread that forked
 * ends, so this program must have only one; and a parent that died before it was asked for is
 * noticed by its number.
 */
#include "imapproxyd/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/fd.h"
#include "lib/ids.h"

#define CHILD_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define ENV_MAX	   12

/* What the child works with until exec; its copies are its own. */
struct birth {
	struct spawn_order order;
	pid_t parent;
	int error_fd;
	int lifted[ACTIVATION_MAX + 3];
	char names[ACTIVATION_MAX * ACTIVATION_NAME + 20];
	char pid[32];
	char count[32];
	char notify[160];
	char *env[ENV_MAX];
};

struct failure {
	int error;
	size_t step;
};

static int reset_signals(struct birth *b)
{
	sigset_t none;

	(void)b;
	for (int i = 1; i < NSIG; i++)
		(void)signal(i, SIG_DFL); /* fails for SIGKILL and those of libc's own */
	sigemptyset(&none);
	return sigprocmask(SIG_SETMASK, &none, NULL) < 0 ? -errno : 0;
}

/* A session of its own: Ctrl-C at the terminal reaches the supervisor only, who knows the right
 * order. */
static int leave_terminal(struct birth *b)
{
	(void)b;
	return setsid() < 0 ? -errno : 0;
}

static int lift(int fd, int above, int *ret)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, above);

	if (copy < 0)
		return -errno;
	*ret = copy;
	return 0;
}

static int place_descriptors(struct birth *b)
{
	const struct spawn_order *o = &b->order;
	int above = ACTIVATION_FIRST + (int)o->count, r;

	r = lift(b->error_fd, above, &b->error_fd);
	for (size_t i = 0; r == 0 && i < o->count; i++)
		r = lift(o->fds[i].fd, above, &b->lifted[i]);
	if (r == 0)
		r = lift(o->null_fd, above, &b->lifted[o->count]);
	if (r == 0)
		r = lift(o->stderr_fd, above, &b->lifted[o->count + 1]);
	if (r < 0)
		return r;
	/* dup2() clears close-on-exec on the copy, and on that alone. */
	for (size_t i = 0; i < o->count; i++)
		if (dup2(b->lifted[i], ACTIVATION_FIRST + (int)i) < 0)
			return -errno;
	if (dup2(b->lifted[o->count], STDIN_FILENO) < 0 ||
	    dup2(b->lifted[o->count], STDOUT_FILENO) < 0 ||
	    dup2(b->lifted[o->count + 1], STDERR_FILENO) < 0)
		return -errno;
	return 0;
}

static void join_names(struct birth *b)
{
	size_t used = 0;

	for (size_t i = 0; i < b->order.count; i++) {
		int n = snprintf(b->names + used, sizeof(b->names) - used, "%s%s",
				 i == 0 ? "LISTEN_FDNAMES=" : ":", b->order.fds[i].name);

		if (n > 0)
			used += (size_t)n;
	}
}

static int make_environment(struct birth *b)
{
	static char path[] = CHILD_PATH, fresh[] = "KEEPWARM_FRESH=1";
	size_t n = 0;

	b->env[n++] = path;
	(void)snprintf(b->notify, sizeof(b->notify), "NOTIFY_SOCKET=%s", b->order.notify_path);
	b->env[n++] = b->notify;
	if (b->order.count > 0) {
		join_names(b);
		(void)snprintf(b->pid, sizeof(b->pid), "LISTEN_PID=%d", getpid());
		(void)snprintf(b->count, sizeof(b->count), "LISTEN_FDS=%zu", b->order.count);
		b->env[n++] = b->names;
		b->env[n++] = b->pid;
		b->env[n++] = b->count;
	}
	if (b->order.fresh)
		b->env[n++] = fresh;
#ifdef __SANITIZE_ADDRESS__
	static const char *const kept[] = { "ASAN_OPTIONS=", "UBSAN_OPTIONS=", "LSAN_OPTIONS=" };

	for (char **e = environ; *e; e++)
		for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
			if (strncmp(*e, kept[i], strlen(kept[i])) == 0 && n < ENV_MAX - 1)
				b->env[n++] = *e;
#endif
	b->env[n] = NULL;
	return 0;
}

static int settle(struct birth *b)
{
	(void)b;
	umask(027);
	return chdir("/") < 0 ? -errno : 0;
}

static int drop_ids(struct birth *b)
{
	const struct identity *id = &b->order.identity;

	return id->drop ? ids_drop(id->uid, id->gid) : 0;
}

static int give_up_rights(struct birth *b)
{
	(void)b;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

static int die_with_parent(struct birth *b)
{
	if (prctl(PR_SET_PDEATHSIG, b->order.death_signal) < 0)
		return -errno;
	return getppid() == b->parent ? 0 : -ESRCH;
}

static int execute(struct birth *b)
{
	(void)execve(b->order.path, b->order.argv, b->env);
	return -errno;
}

static const struct {
	int (*run)(struct birth *);
	const char *text;
} steps[] = {
	{ reset_signals, "cannot reset signals" },
	{ leave_terminal, "cannot leave the terminal" },
	{ place_descriptors, "cannot pass descriptors on" },
	{ make_environment, "cannot make the environment" },
	{ settle, "cannot change to /" },
	{ drop_ids, "cannot change to proc_username and proc_groupname" },
	{ give_up_rights, "cannot set no_new_privs" },
	{ die_with_parent, "cannot follow its parent" },
	{ execute, "cannot be executed" },
};

_Noreturn static void be_born(struct birth *b)
{
	struct failure f = { 0 };

	for (f.step = 0; f.error >= 0; f.step++)
		f.error = steps[f.step].run(b);
	f.step--;
	(void)!write(b->error_fd, &f, sizeof(f));
	_exit(1);
}

/* Waits for exec or the step that failed. */
static int hear_failure(int pipe_fd, const char **ret_step)
{
	struct failure f;
	ssize_t n;

	do {
		n = read(pipe_fd, &f, sizeof(f));
	} while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof(f))
		return 0;
	*ret_step = steps[f.step].text;
	return f.error;
}

int spawn_program(const struct spawn_order *order, pid_t *ret_pid, const char **ret_step)
{
	int ends[2];

	*ret_step = "cannot be forked";
	if (order->count > ACTIVATION_MAX)
		return -E2BIG;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	AUTO_FD read_end = ends[0];
	AUTO_FD write_end = ends[1];
	pid_t parent = getpid(), pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		static struct birth b;

		b = (struct birth){ .order = *order, .parent = parent, .error_fd = write_end };
		be_born(&b);
	}
	fd_drop(&write_end);
	int r = hear_failure(read_end, ret_step);

	if (r < 0) {
		(void)waitpid(pid, NULL, 0);
		return r;
	}
	*ret_pid = pid;
	return 0;
}
