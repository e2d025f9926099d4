/* A process's age, from field 22 of /proc/PID/stat (proc(5)). The second field is the program's
 * name, which may hold blanks and parentheses: what counts comes behind the last one.
 */
#include "cachebrokerd/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "lib/fd.h"
#include "lib/span.h"

#define FIELD_BEHIND_NAME 3
#define FIELD_STARTED	  22

int64_t process_clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t process_started(pid_t pid)
{
	char path[40], text[1024];
	long ticks = sysconf(_SC_CLK_TCK);
	uint64_t started;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	ssize_t n = read(fd, text, sizeof(text));

	if (n < 0)
		return -errno;
	size_t name_end = (size_t)n;

	while (name_end > 0 && text[name_end - 1] != ')')
		name_end--;
	struct span rest = span_from((struct span){ text, (size_t)n }, name_end), field = SPAN_NONE;

	for (int i = FIELD_BEHIND_NAME; i <= FIELD_STARTED; i++)
		field = span_word(&rest, ' ');
	if (ticks <= 0 || span_u64(field, INT64_MAX / 1000, &started) < 0)
		return -EBADMSG;
	return (int64_t)(started * 1000 / (uint64_t)ticks);
}

bool process_is_replaced(void)
{
	static const char mark[] = " (deleted)"; /* proc(5) */
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path));
	size_t length = sizeof(mark) - 1;

	return n > (ssize_t)length && memcmp(path + n - length, mark, length) == 0;
}
