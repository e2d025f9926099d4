/* Waiting with deadlines.
 *
 * ppoll() opens SIGTERM only while it waits: a signal between the check of the flag and the wait
 * cannot be missed.
 */
#include "proxyd/io.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/clock.h"

static volatile sig_atomic_t terminated;
static sigset_t waiting_mask;

static void on_term(int number)
{
	(void)number;
	terminated = 1;
}

void io_init(void)
{
	struct sigaction action = { .sa_handler = on_term };
	sigset_t blocked;

	sigemptyset(&blocked);
	sigaddset(&blocked, SIGTERM);
	sigprocmask(SIG_BLOCK, &blocked, &waiting_mask);
	sigdelset(&waiting_mask, SIGTERM);
	sigaction(SIGTERM, &action, NULL);
	action.sa_handler = SIG_IGN;
	sigaction(SIGPIPE, &action, NULL);
}

int io_poll(struct pollfd *fds, nfds_t count, int64_t deadline)
{
	for (;;) {
		int64_t left = deadline - clock_ms();
		struct timespec timeout = { .tv_sec = left > 0 ? left / 1000 : 0,
					    .tv_nsec = left > 0 ? left % 1000 * 1000000 : 0 };

		if (terminated)
			return -ECANCELED;
		int n = ppoll(fds, count, &timeout, &waiting_mask);

		if (n >= 0)
			return n;
		if (errno != EINTR)
			return -errno;
	}
}

int io_wait(int fd, short events, int64_t deadline)
{
	struct pollfd one = { .fd = fd, .events = events };
	int n = io_poll(&one, 1, deadline);

	return n > 0 ? 0 : n == 0 ? -ETIMEDOUT : n;
}

int io_fill_leaving(int fd, struct buf *b, size_t spare)
{
	size_t room;
	char *to = buf_tail(b, &room);

	if (room <= spare)
		return -ENOBUFS;
	ssize_t n = recv(fd, to, room - spare, MSG_DONTWAIT);

	if (n < 0)
		return -errno;
	buf_filled(b, (size_t)n);
	return (int)n;
}

int io_fill_now(int fd, struct buf *b)
{
	return io_fill_leaving(fd, b, 0);
}

int io_fill(int fd, struct buf *b, int64_t deadline)
{
	for (;;) {
		int n = io_fill_now(fd, b);

		if (n != -EAGAIN && n != -EINTR)
			return n;
		int r = io_wait(fd, POLLIN, deadline);

		if (r < 0)
			return r;
	}
}

static ssize_t write_now(int fd, struct span s, int flags)
{
	ssize_t n = send(fd, s.p, s.n, MSG_DONTWAIT | MSG_NOSIGNAL | flags);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	return n;
}

ssize_t io_write_now(int fd, struct span s)
{
	return write_now(fd, s, 0);
}

static int write_all(int fd, struct span s, int flags, int64_t deadline)
{
	while (s.n > 0) {
		ssize_t n = write_now(fd, s, flags);

		if (n < 0)
			return (int)n;
		s = span_from(s, (size_t)n);
		if (s.n == 0)
			break;
		int r = io_wait(fd, POLLOUT, deadline);

		if (r < 0)
			return r;
	}
	return 0;
}

int io_write(int fd, struct span s, int64_t deadline)
{
	return write_all(fd, s, 0, deadline);
}

int io_write_last(int fd, struct span s, int64_t deadline)
{
	int r = write_all(fd, s, MSG_MORE, deadline);

	return shutdown(fd, SHUT_WR) < 0 && r == 0 ? -errno : r;
}

ssize_t io_write_last_now(int fd, struct span s)
{
	ssize_t n = write_now(fd, s, MSG_MORE);

	return n == (ssize_t)s.n && shutdown(fd, SHUT_WR) < 0 ? -errno : n;
}

void io_no_delay(int fd)
{
	int on = 1;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

void io_keep_alive(int fd, bool on)
{
	int value = on;

	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, sizeof(value));
}
