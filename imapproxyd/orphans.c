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

bool orphans_left(void)
{
	pid_t pid;

	do {
		pid = waitpid(-1, NULL, WNOHANG);
	} while (pid > 0);
	return pid == 0;
}

int orphans_kill(void)
{
	static char text[LIST_MAX];
	char path[64];
	size_t length = 0;
	int killed = 0;

	(void)snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);

	for (ssize_t n = 1; fd >= 0 && n > 0 && length<sizeof(text); length += n> 0 ? (size_t)n : 0)
		n = read(fd, text + length, sizeof(text) - length);

	for (struct span rest = { text, length }; rest.n > 0;) {
		uint64_t pid;

		if (span_u64(span_word(&rest, ' '), INT32_MAX, &pid) == 0 && pid > 1)
			killed += kill((pid_t)pid, SIGKILL) == 0;
	}
	return killed;
}
