/* Local messages on a SOCK_SEQPACKET socket.
 *
 * Room for as many descriptors as can be sent is offered although one is allowed: what does not fit
 * is closed by the kernel inside recvmsg(), where a socket that lingers would hold us up. What is
 * too much is closed here and the message refused; truncated control data likewise.
 */
#include "lib/msgsock.h"

#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "lib/fd.h"
#include "lib/large.h"

#define FDS_LOOKED_FOR 253 /* SCM_MAX_FD */
#define SMALL	       400 /* bytes of most messages: these are on the stack */

static LARGE char data[MSG_MAX]; /* of a message that is being sent, and is not small */

void msgsock_release(void)
{
	large_release(data, sizeof(data));
}

int msgsock_send(int sock, const struct msg *m, int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	char small[SMALL], *bytes = small;
	int length = msg_encode(m, small, sizeof(small));

	if (length == -ENOBUFS) {
		explicit_bzero(small, sizeof(small)); /* the beginning, which may hold a secret */
		length = msg_encode(m, bytes = data, sizeof(data));
	}
	if (length < 0)
		return length;

	struct iovec iov = { bytes, (size_t)length };
	struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (msg_descriptors(m->type) == 1) {
		header.msg_control = control.bytes;
		header.msg_controllen = sizeof(control.bytes);
		struct cmsghdr *c = CMSG_FIRSTHDR(&header);

		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(int));
	}

	ssize_t sent;

	do
		sent = sendmsg(sock, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	int error = sent < 0 ? -errno : 0;

	explicit_bzero(bytes, (size_t)length);
	return error;
}

/* A socket that lingers would keep us in close() for as long as its sender likes. */
static void disarm(int fd)
{
	const struct linger off = { 0, 0 };

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &off, sizeof(off));
}

/* Collects the descriptors of a received message; more than one is closed here. Returns how many
 * came. */
static unsigned collect(struct msghdr *header, enum msg_role sender, int *ret_fd)
{
	unsigned count = 0;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-conversion" /* inside musl's CMSG_NXTHDR */

	for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (sender != ROLE_BROKER)
				disarm(fd);
			if (count++ == 0)
				*ret_fd = fd;
			else
				close(fd);
		}
	}
#pragma GCC diagnostic pop
	return count;
}

int msgsock_receive(int sock, enum msg_role sender, char *received, struct msg *m, int *ret_fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(FDS_LOOKED_FOR * sizeof(int))];
	} control;
	struct iovec iov = { received, MSG_MAX };
	struct msghdr header = { .msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = control.bytes,
				 .msg_controllen = sizeof(control.bytes) };
	AUTO_FD fd = -1;
	ssize_t n;

	do
		n = recvmsg(sock, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	/* told once, of a peer that has not read all of ours: what it had said comes behind that */
	if (n < 0 && errno == ECONNRESET)
		n = recvmsg(sock, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return -errno;

	unsigned count = collect(&header, sender, &fd);

	if (n == 0 && count == 0)
		return -ECONNRESET;
	if (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
		return -EBADMSG;
	int r = msg_decode((struct span){ received, (size_t)n }, sender, count, m);

	if (r < 0)
		return r;
	*ret_fd = take_fd(&fd);
	return 0;
}

int msgsock_connect(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t n = strlen(path);
	AUTO_FD fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (n >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, n + 1);
	/* Blocking: a full backlog means wait, not fail. Every later call says MSG_DONTWAIT. */
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	return take_fd(&fd);
}

int msgsock_pair(int ret[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ret) < 0
		       ? -errno
		       : 0;
}
