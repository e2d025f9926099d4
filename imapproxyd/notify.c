/* The receiving half of sd_notify(3).
 *
 * The kernel says who sent a datagram; the caller believes only its own children. It must read this
 * socket before it reaps, or the last words of a child that has just died come from a pid that
 * nobody knows.
 */
#include "imapproxyd/notify.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "imapproxyd/fdstore.h"

#define DEFAULT_NAME "stored"

static void take_line(struct notify_message *m, struct span line)
{
	static const struct span name = { "FDNAME=", 7 };
	const struct {
		struct span text;
		bool *flag;
	} rows[] = {
		{ SPAN("READY=1"), &m->ready },
		{ SPAN("STOPPING=1"), &m->stopping },
		{ SPAN("FDSTORE=1"), &m->store },
		{ SPAN("FDSTOREREMOVE=1"), &m->remove },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (span_eq(line, rows[i].text))
			*rows[i].flag = true;
	if (line.n >= name.n && memcmp(line.p, name.p, name.n) == 0)
		m->name = span_from(line, name.n);
}

int notify_parse(struct span text, struct notify_message *ret)
{
	struct notify_message m = { .name = SPAN(DEFAULT_NAME) };

	for (struct span rest = text; rest.n > 0;)
		take_line(&m, span_word(&rest, '\n'));
	if (m.store && m.remove)
		return -EBADMSG;
	if ((m.store || m.remove) && !fdstore_name_ok(m.name))
		return -EBADMSG;
	*ret = m;
	return 0;
}

int notify_prepare(int sock)
{
	int on = 1;

	return setsockopt(sock, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0 ? -errno : 0;
}

/* Takes descriptors and sender out of the control data. */
static void read_control(struct msghdr *header, struct notify_datagram *d)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_CREDENTIALS) {
			struct ucred who;

			memcpy(&who, CMSG_DATA(c), sizeof(who));
			d->sender = who.pid;
		}
		if (c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (d->count < ACTIVATION_MAX)
				d->fds[d->count++] = fd;
			else
				close(fd);
		}
	}
}

int notify_receive(int sock, char text[NOTIFY_MAX], struct notify_datagram *ret)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(ACTIVATION_MAX * sizeof(int)) +
			   CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct iovec iov = { text, NOTIFY_MAX };
	struct msghdr header = { .msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = control.bytes,
				 .msg_controllen = sizeof(control.bytes) };
	ssize_t n = recvmsg(sock, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	struct notify_datagram d = { .text = { text, (size_t)n } };

	read_control(&header, &d);
	if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) || d.sender <= 0) {
		for (size_t i = 0; i < d.count; i++)
			close(d.fds[i]);
		return -EBADMSG;
	}
	*ret = d;
	return 0;
}
