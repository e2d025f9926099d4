/* One row per program; the command lines are those of docs/ARCHITECTURE.md.
 *
 * When we are killed, sessions go on to their end: the broker, the look-ups and tlsrelayd serve
 * those they have and no others, and the listener leaves, so that our successor finds ports and
 * sockets free.
 *
 * A program that lived for more than a second is started again at once: its clients wait. One that
 * dies young waits 100 ms, twice as long each further time, at most 5 s, so that a broken
 * installation does not eat the machine; but always 100 ms if it was ready and ended in order.
 */
#include "imapproxyd/child.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "imapproxyd/notify.h"
#include "imapproxyd/report.h"
#include "imapproxyd/spawn.h"

#define LIVED_MS      1000
#define PAUSE_MS      100
#define PAUSE_MOST_MS 5000
#define ARGS_MAX      8

static const struct {
	const char *name;
	bool config;
	bool counts;  /* is told whether the whole starts */
	bool enters;  /* chroot_directory, which only root can; gives root up by itself then */
	int orphaned; /* the signal that tells it of our death */
} programs[CHILD_COUNT] = {
	[CHILD_BROKER] = { "cachebrokerd", .config = true, .counts = true, .orphaned = SIGUSR2 },
	[CHILD_LOOKUP] = { "lookupd", .config = true, .orphaned = SIGUSR2 },
	[CHILD_TLS] = { "tlsrelayd", .config = true, .orphaned = SIGUSR2 },
	[CHILD_LISTENER] = { "proxyd", .enters = true, .orphaned = SIGTERM },
};

const char *child_program(const struct child *c)
{
	return programs[c->name].name;
}

void child_add_fd(struct child *c, const char *name, int fd)
{
	struct activation_fd *slot = &c->fds[c->fd_count++];

	slot->fd = fd;
	(void)snprintf(slot->name, sizeof(slot->name), "%s", name);
}

void child_close_fds(struct child *c)
{
	while (c->fd_count > 0)
		close(c->fds[--c->fd_count].fd);
}

static char *argument(const char *text)
{
	return (char *)(uintptr_t)text; /* execve(2) wants char *, and changes nothing */
}

static void list_arguments(const struct child *c, const struct settings *s, char *argv[ARGS_MAX])
{
	static const char *const targets[] = {
		[LOG_TO_SYSLOG] = "syslog",
		[LOG_TO_STDERR] = "stderr",
		[LOG_TO_FILE] = "file",
	};
	size_t n = 0;

	argv[n++] = argument(child_program(c));
	if (programs[c->name].config) {
		argv[n++] = argument("-f");
		argv[n++] = argument(s->config_path);
	}
	argv[n++] = argument("-r");
	argv[n++] = argument(s->run_directory);
	argv[n++] = argument("-l");
	argv[n++] = argument(targets[s->target]);
	argv[n] = NULL;
}

int child_start(struct child *c, const struct child_setup *setup, int64_t now, int64_t limit_ms)
{
	struct activation_fd fds[ACTIVATION_MAX];
	char *argv[ARGS_MAX], path[PATH_MAX];
	const char *step;
	int n = snprintf(path, sizeof(path), "%s/%s", setup->directory, child_program(c));

	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	list_arguments(c, setup->settings, argv);
	memcpy(fds, c->fds, c->fd_count * sizeof(fds[0]));
	memcpy(fds + c->fd_count, c->store.fds, c->store.count * sizeof(fds[0]));

	struct spawn_order order = {
		.path = path,
		.argv = argv,
		.identity = setup->settings->identity,
		.fds = fds,
		.count = c->fd_count + c->store.count,
		.null_fd = setup->null_fd,
		.stderr_fd = setup->stderr_fd,
		.notify_path = setup->notify_path,
		.death_signal = programs[c->name].orphaned,
		.fresh = programs[c->name].counts && !c->started_before,
	};
	if (programs[c->name].enters && *setup->settings->config.chroot_directory)
		order.identity.drop = false;
	int r = spawn_program(&order, &c->pid, &step);

	c->ready = false;
	c->restart_at = CHILD_NEVER;
	if (r < 0) {
		report(LOG_ERR, "%s: %s: %s", path, step, strerror(-r));
		return r;
	}
	c->started_at = now;
	c->ready_by = now + limit_ms;
	return 0;
}

void child_retry(struct child *c, int64_t now)
{
	int64_t longer = c->pause == 0 ? PAUSE_MS : c->pause * 2;

	c->pause = longer < PAUSE_MOST_MS ? longer : PAUSE_MOST_MS;
	c->restart_at = now + c->pause;
}

void child_ended(struct child *c, int status, int64_t now)
{
	bool meant = c->ready && status == 0; /* somebody has told it to end */

	c->pid = 0;
	c->ready = false;
	c->reload = false; /* it will read what is there */
	c->ready_by = CHILD_NEVER;
	if (now - c->started_at > LIVED_MS || meant)
		c->pause = 0;
	if (now - c->started_at <= LIVED_MS)
		child_retry(c, now);
	else
		c->restart_at = now;
	if (meant)
		c->pause = 0;
}

static void store(struct child *c, struct span name, const int *fds, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (fdstore_add(&c->store, name, fds[i]) == 0)
			continue;
		report(LOG_WARNING, "%s wants more than %d descriptors stored; %.*s is dropped",
		       child_program(c), FDSTORE_MAX, (int)name.n, name.p);
		close(fds[i]);
	}
}

void child_notified(struct child *c, struct span text, const int *fds, size_t count)
{
	struct notify_message m;

	if (notify_parse(text, &m) < 0) {
		report(LOG_WARNING, "%s sent a notification that makes no sense", child_program(c));
		m = (struct notify_message){ 0 };
	}
	if (m.store) {
		store(c, m.name, fds, count);
		count = 0;
	}
	for (size_t i = 0; i < count; i++)
		close(fds[i]);
	if (m.remove)
		(void)fdstore_remove(&c->store, m.name);
	if (!m.ready || c->ready)
		return;
	c->ready = true;
	c->started_before = true;
	c->ready_by = CHILD_NEVER;
	if (c->reload)
		child_signal(c, SIGHUP);
	c->reload = false;
}

void child_signal(const struct child *c, int signal_number)
{
	if (c->pid > 0)
		(void)kill(c->pid, signal_number);
}

const char *child_words(int status, char *text, size_t cap)
{
	if (WIFSIGNALED(status))
		(void)snprintf(text, cap, "was killed by signal %d (%s)", WTERMSIG(status),
			       strsignal(WTERMSIG(status)));
	else
		(void)snprintf(text, cap, "exited with status %d", WEXITSTATUS(status));
	return text;
}
