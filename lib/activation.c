/* Socket activation and notification: the two documented protocols of systemd, without its library.
 */
#include "lib/activation.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/fd.h"
#include "lib/span.h"

static int number_from(const char *name, uint64_t max, uint64_t *ret)
{
	const char *text = getenv(name);

	return text ? span_u64(span_str(text), max, ret) : -ENOENT;
}

static void copy_name(struct span name, char to[ACTIVATION_NAME])
{
	size_t n = name.n < ACTIVATION_NAME ? name.n : ACTIVATION_NAME - 1;

	memcpy(to, name.p, n);
	to[n] = '\0';
}

/* The names are separated by colons; an empty one is a name, too. */
static struct span next_name(struct span *rest)
{
	const char *colon = memchr(rest->p, ':', rest->n);
	struct span name = { rest->p, colon ? (size_t)(colon - rest->p) : rest->n };

	*rest = span_from(*rest, name.n + 1);
	return name;
}

static int take_all(uint64_t count, struct activation_fd *ret, size_t max)
{
	const char *names = getenv("LISTEN_FDNAMES");
	struct span rest = names ? span_str(names) : SPAN_NONE;

	for (uint64_t i = 0; i < count; i++) {
		int fd = ACTIVATION_FIRST + (int)i;

		if (i >= max) {
			close(fd);
			continue;
		}
		if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
			return -EINVAL;
		ret[i].fd = fd;
		copy_name(next_name(&rest), ret[i].name);
	}
	return (int)(count < max ? count : max);
}

int activation_take(struct activation_fd *ret, size_t max)
{
	uint64_t pid, count;
	int r = 0;

	if (number_from("LISTEN_PID", INT32_MAX, &pid) == 0 && pid == (uint64_t)getpid()) {
		r = number_from("LISTEN_FDS", ACTIVATION_MAX, &count);
		r = r < 0 ? -EINVAL : take_all(count, ret, max);
	}
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	return r;
}

int activation_take_named(const struct activation_place *places, size_t count)
{
	struct activation_fd fds[ACTIVATION_MAX];
	int passed = activation_take(fds, ACTIVATION_MAX);

	for (size_t p = 0; p < count; p++)
		*places[p].fd = -1;
	for (int i = 0; i < passed; i++) {
		size_t p = 0;

		while (p < count &&
		       (*places[p].fd >= 0 || strcmp(fds[i].name, places[p].name) != 0))
			p++;
		if (p < count)
			*places[p].fd = fds[i].fd;
		else
			close(fds[i].fd);
	}
	return passed < 0 ? passed : 0;
}

static int prepared = -1;

/* The supervisor's address; "" without one. */
static const char *supervisor(void)
{
	const char *path = getenv("NOTIFY_SOCKET");

	return path ? path : "";
}

/* Returns a socket that is connected to the supervisor, or -errno. */
static int connect_supervisor(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct span name = span_str(supervisor());
	socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + name.n);

	if (name.n >= sizeof(address.sun_path))
		return -EINVAL;
	memcpy(address.sun_path, name.p, name.n);
	if (name.p[0] == '@')
		address.sun_path[0] = '\0';

	AUTO_FD fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)&address, length) < 0)
		return -errno;
	return take_fd(&fd);
}

int activation_notify_prepare(void)
{
	if (!*supervisor() || prepared >= 0)
		return 0;
	int fd = connect_supervisor();

	if (fd < 0)
		return fd;
	prepared = fd;
	return 0;
}

int activation_notify(const char *text, const int *fds, size_t count)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(ACTIVATION_MAX * sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (char *)(uintptr_t)text, strlen(text) };
	struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (!*supervisor())
		return 0;
	if (count > ACTIVATION_MAX)
		return -EINVAL;
	AUTO_FD fd = prepared >= 0 ? take_fd(&prepared) : connect_supervisor();

	if (fd < 0)
		return fd;
	if (count > 0) {
		header.msg_control = control.bytes;
		header.msg_controllen = (socklen_t)CMSG_SPACE(count * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&header);

		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = (socklen_t)CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(c), fds, count * sizeof(int));
	}
	return sendmsg(fd, &header, MSG_NOSIGNAL) < 0 ? -errno : 1;
}

/* Half of what the supervisor waits for, or -1. It is our own only if it names our pid: what a
 * parent of ours was asked for is inherited, too. */
static int64_t watchdog_interval(void)
{
	uint64_t pid, usec;

	if (!*supervisor() || number_from("WATCHDOG_USEC", INT64_MAX, &usec) < 0 || usec < 2000)
		return -1;
	if (getenv("WATCHDOG_PID") &&
	    (number_from("WATCHDOG_PID", INT32_MAX, &pid) < 0 || pid != (uint64_t)getpid()))
		return -1;
	return (int64_t)(usec / 2000);
}

int64_t activation_watchdog(int64_t now_ms)
{
	static int64_t due_ms;
	int64_t interval = watchdog_interval();

	if (interval < 0)
		return -1;
	if (now_ms >= due_ms) {
		(void)activation_notify("WATCHDOG=1", NULL, 0);
		due_ms = now_ms + interval;
	}
	return due_ms - now_ms;
}
