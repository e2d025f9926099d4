/* A look at TLS's files before a reload takes effect. What is in them only tlsrelayd can judge: no
 * other program knows keys or links OpenSSL. So it is asked, with -n, by a process of its own that
 * has the same rights as the one that serves. Without that a reload with a bad certificate would
 * leave tlsrelayd with the settings of before, and everybody else with the new ones.
 *
 * The supervisor stands still meanwhile: a few dozen milliseconds, and not for ever.
 */
#include "imapproxyd/tlscheck.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "imapproxyd/report.h"
#include "imapproxyd/spawn.h"
#include "lib/bundle.h"
#include "lib/fd.h"

#define CHECK_MS 5000

static char *argument(const char *text)
{
	return (char *)(uintptr_t)text; /* execve(2) wants char *, and changes nothing */
}

/* 0; -EINVAL: it found something wrong, and has said what; -errno, reported. */
static int await(pid_t pid)
{
	AUTO_FD fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd ended = { .fd = fd, .events = POLLIN };
	int status, n = fd < 0 ? -1 : poll(&ended, 1, CHECK_MS), r = n < 0 ? -errno : 0;

	if (n <= 0)
		(void)kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (n == 0)
		r = -ETIMEDOUT;
	if (r < 0)
		report(LOG_ERR, "tlsrelayd has not judged the files of TLS: %s", strerror(-r));
	return r < 0 || status == 0 ? r : -EINVAL;
}

int tlscheck_run(const struct child_setup *setup, int text, int files)
{
	static const char *const targets[] = {
		[LOG_TO_SYSLOG] = "syslog",
		[LOG_TO_STDERR] = "stderr",
		[LOG_TO_FILE] = "file",
	};
	const struct settings *s = setup->settings;
	char path[PATH_MAX];
	char *argv[] = { argument("tlsrelayd"),	     argument("-f"), argument(s->config_path),
			 argument("-r"),	     argument(s->run_directory), argument("-l"),
			 argument(targets[s->target]), argument("-n"), NULL };
	const struct activation_fd fds[] = { { .fd = text, .name = "config" },
					     { .fd = files, .name = BUNDLE_NAME } };
	const struct spawn_order order = { .path = path,
					   .argv = argv,
					   .identity = s->identity,
					   .fds = fds,
					   .count = 2,
					   .null_fd = setup->null_fd,
					   .stderr_fd = setup->stderr_fd,
					   .notify_path = setup->notify_path,
					   .death_signal = SIGKILL };
	const char *step;
	pid_t pid;
	int n = snprintf(path, sizeof(path), "%s/tlsrelayd", setup->directory);

	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	int r = spawn_program(&order, &pid, &step);

	if (r < 0)
		report(LOG_ERR, "%s: %s: %s", path, step, strerror(-r));
	return r < 0 ? r : await(pid);
}
