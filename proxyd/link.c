/* A session's link to the broker. */
#include "proxyd/link.h"

#include <errno.h>

#include "lib/ends.h"
#include "lib/fd.h"
#include "lib/msgsock.h"
#include "proxyd/io.h"

static char received[MSG_MAX];

void link_open_connected(struct link *l, int sock)
{
	*l = (struct link){ .sock = sock, .door = -1 };
}

int link_open_by_door(struct link *l, int door, int64_t deadline)
{
	const struct msg knock = { .type = MSG_KNOCK };
	int pair[2];

	*l = (struct link){ .sock = -1, .door = door };
	int r = msgsock_pair(pair);

	if (r < 0)
		return r;
	while ((r = msgsock_send(door, &knock, pair[1])) == -EAGAIN)
		if ((r = io_wait(door, POLLOUT, deadline)) < 0)
			break;
	close(pair[1]);
	if (r < 0) {
		close(pair[0]);
		return r == -ECONNRESET ? -EPIPE : r;
	}
	l->sock = pair[0];
	return 0;
}

static void take_push(struct link *l, const struct msg *m)
{
	if (m->type != MSG_END)
		return;
	size_t n = m->END.text.n;

	l->ended = true;
	l->end_reason = m->END.reason;
	memcpy(l->end_text, m->END.text.p, n);
	l->end_text[n] = '\0';
}

/* One message: a push is handled here, a late reply dropped. Returns 1 when it is the reply, 0,
 * -errno. */
static int receive_one(struct link *l, struct msg *m, int *ret_fd)
{
	AUTO_FD fd = -1;
	int r = msgsock_receive(l->sock, ROLE_BROKER, received, m, &fd);

	if (r < 0)
		return r;
	if (m->serial == 0) {
		take_push(l, m);
		return 0;
	}
	if (m->serial != l->serial)
		return 0;
	*ret_fd = take_fd(&fd);
	return 1;
}

int link_ask(struct link *l, struct msg *request)
{
	if (++l->serial == 0)
		l->serial = 1;
	request->serial = l->serial;
	return msgsock_send(l->sock, request, -1);
}

int link_request(struct link *l, struct msg *request, struct msg *reply, int *ret_fd,
		 int64_t deadline)
{
	if (l->sock < 0)
		return -ECONNRESET;
	int r;

	while ((r = link_ask(l, request)) == -EAGAIN)
		if ((r = io_wait(l->sock, POLLOUT, deadline)) < 0)
			return r;
	if (r < 0)
		return r;
	for (;;) {
		r = receive_one(l, reply, ret_fd);
		if (r == 1)
			return 0;
		if (r == -EAGAIN)
			r = io_wait(l->sock, POLLIN, deadline);
		if (r < 0)
			return r;
	}
}

int link_push(struct link *l, struct msg *m, int fd)
{
	m->serial = 0;
	return l->sock < 0 ? -ECONNRESET : msgsock_send(l->sock, m, fd);
}

int link_take_pushes(struct link *l)
{
	struct msg m;
	AUTO_FD fd = -1;
	int r;

	while ((r = receive_one(l, &m, &fd)) >= 0) {
		fd_drop(&fd);
		if (r == 1 && m.type == MSG_REFUSED) {
			l->ended = true;
			l->end_reason = END_SHUTDOWN;
		}
	}
	if (r == -EAGAIN)
		return 0;
	link_close(l);
	return -ECONNRESET;
}

void link_close(struct link *l)
{
	fd_drop(&l->sock);
}
