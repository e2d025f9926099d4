/* Local connections: accept, receive, judge, dispatch.
 *
 * The receive buffer is one for all, since messages are handled one after the other, and is
 * overwritten behind each message that carried a secret.
 */
#include "cachebrokerd/peer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "cachebrokerd/traces.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "lib/msgsock.h"

#define ACCEPTS_A_TURN	64
#define PEERS_TO_REFUSE 64

struct gate {
	struct broker *broker;
	struct gate *next;
	bool closed;
	const struct peer_kind *kind;
	peer_new_fn *on_new;
	struct watch *watch;
	int fd;
};

static char received[MSG_MAX];
static struct gate *gates;

static void on_knock(void *context, uint32_t events);

bool peer_house_is_full(const struct broker *b)
{
	/* a few more than may stay, so that they can be told so */
	return b->client_count >= b->clients_most + PEERS_TO_REFUSE;
}

static void close_gate(struct gate *g)
{
	g->closed = watch_events(g->watch, 0) == 0;
}

void peer_reopen(void)
{
	for (struct gate *g = gates; g; g = g->next)
		if (g->closed && !peer_house_is_full(g->broker))
			g->closed = watch_events(g->watch, EPOLLIN) < 0;
}

void peer_stop_listening(void)
{
	for (struct gate *g = gates; g; g = g->next) {
		g->closed = false; /* never again, for peer_reopen() */
		watch_end(&g->watch);
		fd_drop(&g->fd);
	}
}

void peer_hold_gate(const struct peer_kind *kind)
{
	for (struct gate *g = gates; g; g = g->next)
		if (g->kind == kind) {
			g->closed = false; /* never again, for peer_reopen() */
			watch_end(&g->watch);
		}
}

int peer_release_gate(const struct peer_kind *kind)
{
	int r = 0;

	for (struct gate *g = gates; g && r == 0; g = g->next)
		if (g->kind == kind && !g->watch && g->fd >= 0)
			r = loop_watch(g->broker->loop, g->fd, EPOLLIN, on_knock, g, &g->watch);
	return r;
}

void peer_end(struct peer *p)
{
	if (p->ended)
		return;
	p->ended = true;
	watch_end(&p->watch);
	fd_drop(&p->fd);
	p->kind->gone(p);
	loop_bury(p->broker->loop, p, free);
}

static void complain(struct peer *p, const char *what, int error)
{
	state_count(p->broker->state, COUNTER_bad_messages, 1);
	log_printf(LOG_WARNING, "peer cut off: %s: %s", what, strerror(-error));
}

/* Receives and handles one message. 0: go on. */
static int handle_one(struct peer *p)
{
	struct msg m;
	AUTO_FD fd = -1;
	int r = msgsock_receive(p->fd, p->kind->role, received, &m, &fd);

	if (r == -EAGAIN || r == -ECONNRESET || r == -EPIPE)
		return r;
	if (r < 0) {
		explicit_bzero(received, sizeof(received)); /* it may have been a bad LEASE */
		complain(p, "a message that is none", r);
		return r;
	}
	r = p->kind->message(p, &m, &fd);
	if (m.type == MSG_LEASE || m.type == MSG_ACCOUNT) {
		explicit_bzero(received, sizeof(received));
		traces_wipe();
	}
	if (r < 0 && !p->ended)
		complain(p, msg_name(m.type), r);
	return r;
}

static void on_ready(void *context, uint32_t events)
{
	struct peer *p = context;

	(void)events;
	/* one a turn: mostly there is no further one, and if there is, the others come first */
	int r = handle_one(p);

	if (r < 0 && r != -EAGAIN)
		peer_end(p);
}

int peer_new(struct broker *b, int fd, const struct peer_kind *kind, struct peer **ret)
{
	AUTO_FD owned = fd;
	struct peer *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	*p = (struct peer){ .broker = b, .kind = kind, .fd = fd };
	int r = loop_watch(b->loop, fd, EPOLLIN, on_ready, p, &p->watch);

	if (r < 0) {
		free(p);
		return r;
	}
	(void)take_fd(&owned);
	*ret = p;
	return 0;
}

void peer_release(struct peer *p)
{
	if (!p->ended && !p->watch &&
	    loop_watch(p->broker->loop, p->fd, EPOLLIN, on_ready, p, &p->watch) < 0)
		peer_end(p);
}

int peer_send(struct peer *p, const struct msg *m, int fd)
{
	if (p->ended)
		return -ECONNRESET;
	int r = msgsock_send(p->fd, m, fd);

	if (r < 0)
		peer_end(p);
	return r;
}

static void on_knock(void *context, uint32_t events)
{
	struct gate *g = context;

	(void)events;
	for (int i = 0; i < ACCEPTS_A_TURN; i++) {
		int fd = peer_house_is_full(g->broker)
				 ? -1
				 : accept4(g->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		struct peer *p;

		if (fd < 0) {
			if (errno != EAGAIN || peer_house_is_full(g->broker))
				close_gate(g); /* else this event would come again and again */
			return;
		}
		if (peer_new(g->broker, fd, g->kind, &p) == 0)
			g->on_new(p);
	}
}

int peer_listen(struct broker *b, int listening, const struct peer_kind *kind, peer_new_fn *on_new)
{
	struct gate *g = calloc(1, sizeof(*g)); /* lives as long as the process */

	if (!g)
		return -ENOMEM;
	*g = (struct gate){ .broker = b, .kind = kind, .on_new = on_new, .fd = listening };
	g->next = gates;
	gates = g;
	return loop_watch(b->loop, listening, EPOLLIN, on_knock, g, &g->watch);
}
