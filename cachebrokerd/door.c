/* Listeners and doors.
 *
 * A door's receiving end is stored with the supervisor (FDSTORE=1), so that what children put
 * through it waits for the next broker when this one is killed. Nothing is ever sent through a door
 * by the broker.
 */
#include "cachebrokerd/door.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "cachebrokerd/client.h"
#include "cachebrokerd/lease.h"
#include "lib/activation.h"
#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "lib/msgsock.h"

#define LISTENER_MS 5000 /* one finds the next broker, or is started anew, in much less */

struct door {
	struct broker *broker;
	uint64_t sending_end; /* its cookie */
	struct door *next;
	struct watch *watch;
	int fd;
	bool closed;
	char name[ACTIVATION_NAME];
};

static struct door *doors;

static struct door *find_door(const char *name)
{
	struct door *d = doors;

	while (d && strcmp(d->name, name) != 0)
		d = d->next;
	return d;
}

static void close_door(struct door *d)
{
	struct door **at = &doors;
	char state[80];

	while (*at != d)
		at = &(*at)->next;
	*at = d->next;

	watch_end(&d->watch);
	fd_drop(&d->fd);
	(void)snprintf(state, sizeof(state), "FDSTOREREMOVE=1\nFDNAME=%s", d->name);
	(void)activation_notify(state, NULL, 0);
	loop_bury(d->broker->loop, d, free);
	broker_client_gone(d->broker);
}

/* What comes through a door must be an end of a socket pair, nothing that could block or behave
 * otherwise. */
static bool is_local_packet_socket(int fd)
{
	int domain = 0, type = 0;
	socklen_t n = sizeof(domain);

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) < 0)
		return false;
	n = sizeof(type);
	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) == 0 && domain == AF_UNIX &&
	       type == SOCK_SEQPACKET;
}

/* One line a second: who is hostile may knock as often as it likes. */
static void complain(struct door *d, const char *why)
{
	static int64_t silent_until;
	int64_t now = clock_ms();

	state_count(d->broker->state, COUNTER_bad_messages, 1);
	if (now < silent_until)
		return;
	silent_until = now + 1000;
	log_printf(LOG_WARNING, "a bad knock at %s: %s", d->name, why);
}

static uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t n = sizeof(cookie);

	return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &n) < 0 ? 0 : cookie;
}

/* A child could hand us the door itself, which would then never hang up. */
static void let_in(struct door *d, int fd, const struct msg_KNOCK *knock)
{
	AUTO_FD owned = fd;
	struct ucred maker; /* of the socket pair, as the kernel saw it */
	socklen_t n = sizeof(maker);
	uint64_t cookie = cookie_of(fd);

	if (is_local_packet_socket(fd) && cookie != 0 && cookie != d->sending_end &&
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &maker, &n) == 0)
		client_knock(d->broker, take_fd(&owned), maker.pid, knock);
	else
		complain(d, "what was brought is no session's socket");
}

/* An empty packet looks like the end of the stream. A hostile child can end the sending direction
 * alone: that is no hang-up, but stays readable for ever. */
static bool has_hung_up(const struct door *d)
{
	struct pollfd fd = { .fd = d->fd, .events = POLLRDHUP };

	return poll(&fd, 1, 0) == 1 && fd.revents & (POLLRDHUP | POLLHUP | POLLERR);
}

/* No knock is let in until there is room. A door that nobody holds any more would call for
 * attention for ever. */
static void shut(struct door *d)
{
	if (has_hung_up(d))
		close_door(d);
	else
		d->closed = watch_events(d->watch, 0) == 0;
}

/* One a turn: mostly there is no further one, and if there is, sessions that wait come first. */
static void on_door(void *context, uint32_t events)
{
	static char data[MSG_MAX];
	struct door *d = context;
	struct msg m;
	int fd = -1;

	(void)events;
	if (peer_house_is_full(d->broker)) {
		shut(d);
		return;
	}
	int r = msgsock_receive(d->fd, ROLE_DOOR, data, &m, &fd);

	if (r == 0)
		let_in(d, fd, &m.KNOCK);
	else if (r == -ECONNRESET && has_hung_up(d))
		close_door(d); /* the listener and all its children are gone */
	else if (r != -EAGAIN)
		complain(d, strerror(-r));
}

bool door_is_open(void)
{
	return doors != NULL;
}

bool door_leads_from(uint64_t sending_end)
{
	struct door *d = doors;

	while (d && d->sending_end != sending_end)
		d = d->next;
	return d != NULL;
}

void door_hold(void)
{
	for (struct door *d = doors; d; d = d->next) {
		d->closed = false; /* never again, for door_reopen() */
		watch_end(&d->watch);
	}
}

void door_release(void)
{
	for (struct door *d = doors, *next; d; d = next) {
		next = d->next;
		if (!d->watch &&
		    loop_watch(d->broker->loop, d->fd, EPOLLIN, on_door, d, &d->watch) < 0)
			close_door(d);
	}
}

void door_await_listener(struct broker *b)
{
	b->listeners_by = clock_ms() + LISTENER_MS;
}

void door_await_no_more(struct broker *b)
{
	if (b->listeners_by == 0 || clock_ms() < b->listeners_by)
		return;
	b->listeners_by = 0;
	lease_logged_out(b);
}

void door_reopen(void)
{
	for (struct door *d = doors; d; d = d->next)
		if (d->closed && !peer_house_is_full(d->broker))
			d->closed = watch_events(d->watch, EPOLLIN) < 0;
}

int door_adopt(struct broker *b, int fd, const char *name)
{
	AUTO_FD owned = fd;

	if (find_door(name))
		return 0; /* the supervisor had kept it: the listener tells us again */
	struct door *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->broker = b;
	d->fd = fd;
	/* "door-RECEIVING-SENDING", see take_in() */
	d->sending_end = strtoull(strrchr(name, '-') + 1, NULL, 16);
	(void)snprintf(d->name, sizeof(d->name), "%s", name);
	/* behind the beginning of a restart it is the next broker that hears it */
	int r = b->restarting ? 0 : loop_watch(b->loop, fd, EPOLLIN, on_door, d, &d->watch);

	if (r < 0) {
		free(d);
		return r;
	}
	d->next = doors;
	doors = d;
	(void)take_fd(&owned);
	return 0;
}

static void store(int fd, const char *name)
{
	char state[80];

	(void)snprintf(state, sizeof(state), "FDSTORE=1\nFDNAME=%s\nFDPOLL=0", name);
	int r = activation_notify(state, &fd, 1);

	if (r < 0)
		log_printf(LOG_WARNING, "%s cannot be stored with the supervisor: %s", name,
			   strerror(-r));
}

/* A new door. Both ends are in its name: after our death the supervisor knows nothing else. */
static int take_in(struct broker *b, int fd, uint64_t sending_end)
{
	char name[ACTIVATION_NAME];

	(void)snprintf(name, sizeof(name), "door-%016llx-%016llx",
		       (unsigned long long)cookie_of(fd), (unsigned long long)sending_end);
	if (!find_door(name))
		store(fd, name);
	return door_adopt(b, fd, name);
}

int door_make(struct broker *b, int *ret_sending)
{
	int pair[2], r = msgsock_pair(pair);

	if (r < 0)
		return r;
	AUTO_FD sending = pair[0];

	r = take_in(b, pair[1], cookie_of(sending));
	if (r == 0)
		*ret_sending = take_fd(&sending);
	return r;
}

/* Where its children log, what they must know, then how many of them there shall be. */
static int tell_pool(struct peer *p)
{
	const struct broker *b = p->broker;
	const struct msg logger = { .type = MSG_LOGGER };
	const struct msg m = { .type = MSG_POOL,
			       .POOL = { .spare_least = b->config.spare_processes.least,
					 .spare_most = b->config.spare_processes.most,
					 .processes_most = b->clients_most } };

	int r = log_socket() < 0 ? 0 : peer_send(p, &logger, log_socket());

	if (r == 0)
		r = client_welcome(p, 0, 0);
	return r < 0 ? r : peer_send(p, &m, -1);
}

static int on_listener(struct peer *p, const struct msg *m, int *fd)
{
	if (m->type == MSG_REAPED) {
		if (m->REAPED.signal == SIGSYS)
			state_count(p->broker->state, COUNTER_sessions_killed, 1);
		if (m->REAPED.line.n > 0)
			(void)log_write(LOG_ERR, m->REAPED.line);
		return 0;
	}
	if (p->owner)
		return -EPROTO; /* one door each */
	p->owner = strndup(m->LISTENER.places.p, m->LISTENER.places.n);
	if (!p->owner)
		return -ENOMEM;
	if (!is_local_packet_socket(*fd) || cookie_of(*fd) == 0)
		return -EBADF;
	int r = take_in(p->broker, take_fd(fd), m->LISTENER.sending_end);

	if (r == 0)
		(void)tell_pool(p);
	lease_logged_out(p->broker); /* logins by errand may wait for a listener */
	return r;
}

static void on_gone(struct peer *p)
{
	struct peer **at = &p->broker->listeners;

	while (*at && *at != p)
		at = &(*at)->next;
	if (*at)
		*at = p->next;
	if (p->owner)
		door_await_listener(p->broker); /* it may be restarted */
	free(p->owner);
	p->owner = NULL;
}

struct span door_places(const struct peer *listener)
{
	return span_str(listener->owner ? listener->owner : "");
}

const struct peer_kind door_listener_kind = { ROLE_LISTENER, on_listener, on_gone };

void door_listener_new(struct peer *p)
{
	p->next = p->broker->listeners;
	p->broker->listeners = p;
}

void door_leave_all(struct broker *b)
{
	while (b->listeners)
		peer_end(b->listeners);
	while (doors)
		close_door(doors);
}

void door_tell_pools(struct broker *b)
{
	for (struct peer *p = b->listeners, *next; p; p = next) {
		next = p->next;
		if (p->owner)
			(void)tell_pool(p);
	}
}
