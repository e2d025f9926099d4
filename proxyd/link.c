/* A session's link to the broker. */
#include "proxyd/link.h"

#include <errno.h>

#include "lib/clock.h"
#include "lib/ends.h"
#include "lib/fd.h"
#include "lib/large.h"
#include "lib/msgsock.h"
#include "proxyd/io.h"

#define CROWDED_MS 10
#define PUSH_MS	   2000

static LARGE char received[MSG_MAX];

/* While too many descriptors of our user are on their way (those in a restarting broker's pack,
 * which is no room of this socket's) nothing tells when there are fewer. */
static int await_arrivals(int64_t deadline)
{
	int64_t now = clock_ms();
	int r = io_poll(NULL, 0, now + CROWDED_MS < deadline ? now + CROWDED_MS : deadline);

	return r < 0 ? r : now < deadline ? 0 : -ETIMEDOUT;
}

static int send_in_time(int sock, const struct msg *m, int fd, int64_t deadline)
{
	int waited = 0;

	while (waited == 0) {
		int r = msgsock_send(sock, m, fd);
		if (r != -EAGAIN && r != -ETOOMANYREFS)
			return r;
		waited = r == -EAGAIN ? io_wait(sock, POLLOUT, deadline) : await_arrivals(deadline);
	}
	return waited;
}

int link_knock(struct link *l, const struct msg *knock, int64_t deadline)
{
	int pair[2], r = msgsock_pair(pair);

	if (r < 0)
		return r;
	r = send_in_time(l->door, knock, pair[1], deadline);
	close(pair[1]);
	if (r < 0) {
		close(pair[0]);
		return r == -ECONNRESET ? -EPIPE : r;
	}
	l->sock = pair[0];
	return 0;
}

enum session_end link_end_of(uint32_t reason)
{
	return reason == REFUSAL_LIMIT	   ? END_TOO_MANY_CLIENTS
	       : reason == REFUSAL_ADDRESS ? END_ADDRESS_REFUSED
	       : reason == REFUSAL_PER_IP  ? END_TOO_MANY_PER_IP
					   : END_SHUTDOWN;
}

static void set_end(struct link *l, uint32_t reason, struct span text)
{
	size_t n = text.n < sizeof(l->end_text) ? text.n : sizeof(l->end_text) - 1;

	l->ended = true;
	l->end_reason = reason;
	memcpy(l->end_text, text.p, n);
	l->end_text[n] = '\0';
}

static void take_push(struct link *l, const struct msg *m, int *fd)
{
	switch (m->type) {
	case MSG_END:
		set_end(l, m->END.reason, m->END.text);
		break;
	case MSG_REFUSED: /* at the door */
		set_end(l, link_end_of(m->REFUSED.reason), SPAN_NONE);
		break;
	case MSG_WELCOME:
		l->take_settings(l->context, &m->WELCOME);
		break;
	case MSG_TLS_BEGUN:
		if (l->take_stream)
			l->take_stream(l->context, take_fd(fd));
		break;
	case MSG_DOOR:
		if (l->takes_door && l->door < 0)
			l->door = take_fd(fd);
		break;
	case MSG_TRACE:
		l->take_trace(l->context, take_fd(fd));
		break;
	default:
		break;
	}
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
		take_push(l, m, &fd);
		return 0;
	}
	if (m->serial != l->serial)
		return 0;
	*ret_fd = take_fd(&fd);
	return 1;
}

static int send_request(struct link *l, struct msg *request, int fd, int64_t deadline)
{
	if (l->sock < 0)
		return -ECONNRESET;
	if (++l->serial == 0)
		l->serial = 1;
	request->serial = l->serial;
	return send_in_time(l->sock, request, fd, deadline);
}

/* What a client has half-closed is as good as ever: POLLHUP is both directions. */
static int wait_for_broker(const struct link *l, int64_t deadline)
{
	struct pollfd fds[] = { { .fd = l->sock, .events = POLLIN }, { .fd = l->client } };
	int n = io_poll(fds, 2, deadline);

	if (n <= 0)
		return n == 0 ? -ETIMEDOUT : n;
	return fds[0].revents ? 0 : -ENOTCONN;
}

static int await_reply(struct link *l, struct msg *reply, int *ret_fd, int64_t deadline)
{
	int r = 0;

	while (r >= 0) {
		r = wait_for_broker(l, deadline);
		if (r == 0)
			r = receive_one(l, reply, ret_fd);
		if (r == 1)
			return 0;
		if (r == -EAGAIN)
			r = 0;
		if (l->ended)
			return -ECANCELED;
	}
	return r;
}

int link_request(struct link *l, struct msg *request, struct msg *reply, int *ret_fd,
		 int64_t deadline)
{
	int r;

	do {
		r = send_request(l, request, -1, deadline);
		if (r == 0)
			r = await_reply(l, reply, ret_fd, deadline);
	} while (r == 0 && reply->type == MSG_REFUSED && reply->REFUSED.reason == REFUSAL_AGAIN);
	return r;
}

int link_hand_over(struct link *l, struct msg *request, int fd, struct msg *reply, int *ret_fd,
		   int64_t deadline)
{
	int r = send_request(l, request, fd, deadline);

	return r < 0 ? r : await_reply(l, reply, ret_fd, deadline);
}

int link_push(struct link *l, struct msg *m, int fd)
{
	m->serial = 0;
	if (l->sock < 0)
		return -ECONNRESET;
	return fd < 0 ? msgsock_send(l->sock, m, -1)
		      : send_in_time(l->sock, m, fd, clock_ms() + PUSH_MS);
}

int link_take_pushes(struct link *l)
{
	struct msg m;
	AUTO_FD fd = -1;
	int r;

	while ((r = receive_one(l, &m, &fd)) >= 0)
		fd_drop(&fd);
	if (r == -EAGAIN)
		return 0;
	link_close(l);
	return -ECONNRESET;
}

void link_release(void)
{
	large_release(received, sizeof(received));
	msgsock_release();
}

void link_close(struct link *l)
{
	fd_drop(&l->sock);
}
