/* Session processes outlive the listener that forked them; the supervisor, as the nearest
 * subreaper, gets them and must see them off. The kernel lists children in /proc where it was built
 * to (CONFIG_PROC_CHILDREN).
 */
#include "imapproxyd/orphans.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/fd.h"
#include "lib/span.h"

#define LIST_MAX 65536

/* Calls visit for each child but one. Returns how often it returned true, or -errno. */
static int visit_children(pid_t but, bool (*visit)(pid_t))
{
	static char text[LIST_MAX];
	char path[64];
	size_t length = 0;
	int count = 0;

	(void)snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	for (ssize_t n = 1; n > 0 && length < sizeof(text); length += n > 0 ? (size_t)n : 0)
		n = read(fd, text + length, sizeof(text) - length);

	for (struct span rest = { text, length }; rest.n > 0;) {
		uint64_t pid;

		if (span_u64(span_word(&rest, ' '), INT32_MAX, &pid) == 0 && pid > 1 &&
		    (pid_t)pid != but)
			count += visit((pid_t)pid);
	}
	return count;
}

static bool is_child(pid_t pid)
{
	return pid > 0;
}

static bool kill_child(pid_t pid)
{
	return kill(pid, SIGKILL) == 0;
}

bool orphans_left(pid_t but)
{
	siginfo_t info;

	/* WNOWAIT: whoever looks after that child shall see its end, too. */
	if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD)
		return false;
	return but <= 0 || visit_children(but, is_child) != 0;
}

int orphans_kill(pid_t but)
{
	int killed = visit_children(but, kill_child);

	return killed < 0 ? 0 : killed;
}
