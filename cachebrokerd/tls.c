/* Requests to tlsrelayd.
 *
 * A request waits in line with its descriptor, then it is tlsrelayd's, and we have nothing but its
 * serial. One that nobody waits for any more is forgotten at once: an answer to it is told by a
 * serial that was given out and is not open, and peer.c closes its descriptor. An answer to a
 * serial that was never given out, or to another one's request, is a lie and ends that peer.
 *
 * The line is for the moments in which tlsrelayd is being restarted or its socket is full; clients
 * wait in it with descriptors out of the broker's reserve (RESERVE in broker.c), so it is short.
 */
#include "cachebrokerd/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <utlist.h>

#include "cachebrokerd/door.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "lib/msgsock.h"
#include "lib/utf8.h"

#define REQUESTS_MOST 4096
#define WAITING_MOST  64   /* clients' in the line; mail hosts' count as connections anyway */
#define RELAYS_MOST   8	   /* sockets of tlsrelayd, also of those that have not said a word */
#define PATIENCE_S    2	   /* for a tlsrelayd that is being restarted */
#define EXTRA_S	      1	   /* beyond tls_handshake_timeout, which tlsrelayd itself holds */
#define AWAY_MS	      5000 /* then clients are not offered TLS any more */
#define FULL_MS	      10   /* its socket had no room */

struct tls_request {
	struct tls *tls;
	struct tls_request *prev, *next;
	struct relay *relay; /* that has it; NULL: it waits in line */
	tls_done_fn *done;
	void *context;
	struct timer *timer;
	int fd; /* while it waits */
	bool begun;
	struct msg m;
	char text[256]; /* the message's */
};

/* One connection of tlsrelayd. */
struct relay {
	struct peer *peer;
	struct relay *next;
	bool ready;   /* it has introduced itself */
	bool leaving; /* and takes no requests any more */
	bool serves;
	uint32_t workers, connections;
};

struct tls {
	struct broker *broker;
	struct relay *relays; /* the last one that introduced itself first */
	unsigned relay_count;
	struct tls_request *waiting, *sent;
	unsigned request_count, waiting_clients;
	uint32_t serial; /* the last one that was given out */
	struct timer *retry, *away;
	bool serves;
	bool told_away;
};

static void serve_line(struct tls *t);

static void set_serves(struct tls *t, bool serves)
{
	if (t->serves == serves)
		return;
	t->serves = serves;
	broker_name_settings(t->broker);
	door_tell_pools(t->broker);
}

static void on_away(void *context)
{
	set_serves(context, false);
}

static void begin_away(struct tls *t)
{
	if (!t->away)
		(void)loop_timer(t->broker->loop, AWAY_MS, on_away, t, &t->away);
}

int tls_new(struct broker *b, struct tls **ret)
{
	struct tls *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	/* most likely tlsrelayd is there already: no listener shall hear of two changes */
	*t = (struct tls){ .broker = b, .serves = *b->config.tls_server_cert_file != '\0' };
	begin_away(t);
	*ret = t;
	return 0;
}

bool tls_serves(const struct broker *b)
{
	return b->tls && b->tls->serves;
}

uint32_t tls_longest(const struct broker *b)
{
	return b->config.tls_handshake_timeout + PATIENCE_S + EXTRA_S;
}

static void leave_line(struct tls_request *r)
{
	DL_DELETE(r->tls->waiting, r);
	if (r->m.type == MSG_TLS_ACCEPT)
		r->tls->waiting_clients--;
	timer_end(&r->timer);
}

static void free_request(struct tls_request *r)
{
	fd_drop(&r->fd);
	if (r->relay)
		DL_DELETE(r->tls->sent, r);
	else
		leave_line(r);
	r->tls->request_count--;
	timer_end(&r->timer);
	free(r);
}

static void count(const struct tls_request *r, const struct msg *answer)
{
	struct state *state = r->tls->broker->state;
	bool client = r->m.type == MSG_TLS_ACCEPT;
	bool ready = answer && answer->type == MSG_TLS_READY;

	if (ready && client) {
		state_count(state, COUNTER_tls_handshakes, 1);
	} else if (ready) {
		state_count(state, COUNTER_tls_backend_handshakes, 1);
		if (answer->TLS_READY.resumed)
			state_count(state, COUNTER_tls_backend_resumed, 1);
	} else {
		state_count(state,
			    client ? COUNTER_tls_handshakes_failed : COUNTER_tls_backend_failed, 1);
	}
}

static void answer(struct tls_request *r, const struct msg *m, int *fd)
{
	tls_done_fn *done = r->done;
	void *context = r->context;

	count(r, m);
	free_request(r);
	done(context, m, fd);
}

static void fail(struct tls_request *r, enum msg_tls_failure reason, const char *text)
{
	const struct msg m = { .type = MSG_TLS_FAILED,
			       .TLS_FAILED = { .reason = reason, .text = span_str(text) } };
	int none = -1;

	answer(r, &m, &none);
}

static void on_impatient(void *context)
{
	struct tls_request *r = context;
	struct tls *t = r->tls;

	if (!t->told_away && !t->broker->stopping)
		log_printf(LOG_ERR, "tlsrelayd is not there or does not answer: no TLS");
	t->told_away = true;
	fail(r, TLS_UNAVAILABLE, "tlsrelayd is not there");
}

static void on_timeout(void *context)
{
	fail(context, TLS_TIMEOUT, "tlsrelayd did not answer within tls_handshake_timeout");
}

/* The text of the request, which the caller's message only borrows. */
static int keep_text(struct tls_request *r, const struct msg *m)
{
	bool client = m->type == MSG_TLS_ACCEPT;
	struct span text = client ? m->TLS_ACCEPT.client : m->TLS_CONNECT.host;

	if (text.n > sizeof(r->text))
		return -EINVAL;
	memcpy(r->text, text.p, text.n);
	r->m = *m;
	*(client ? &r->m.TLS_ACCEPT.client : &r->m.TLS_CONNECT.host) =
		(struct span){ r->text, text.n };
	return 0;
}

int tls_ask(struct broker *b, const struct msg *m, int *fd, tls_done_fn *done, void *context,
	    struct tls_request **ret)
{
	struct tls *t = b->tls;
	bool client = m->type == MSG_TLS_ACCEPT;

	if (t->request_count >= REQUESTS_MOST || (client && t->waiting_clients >= WAITING_MOST))
		return -EAGAIN;
	struct tls_request *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	*r = (struct tls_request){ .tls = t, .done = done, .context = context, .fd = -1 };
	int e = keep_text(r, m);

	if (e == 0)
		e = loop_timer(b->loop, PATIENCE_S * 1000, on_impatient, r, &r->timer);
	if (e < 0) {
		free(r);
		return e;
	}
	r->fd = take_fd(fd);
	DL_APPEND(t->waiting, r);
	t->waiting_clients += client;
	t->request_count++;
	*ret = r;
	serve_line(t);
	return 0;
}

void tls_forget(struct tls_request **r)
{
	if (*r)
		free_request(*r);
	*r = NULL;
}

static void on_retry(void *context)
{
	serve_line(context);
}

/* The first in line is tlsrelayd's now. */
static void hand_over(struct tls_request *r, struct relay *relay)
{
	struct tls *t = r->tls;

	leave_line(r);
	fd_drop(&r->fd);
	r->relay = relay;
	DL_APPEND(t->sent, r);
	/* without memory for it the request lasts as long as tlsrelayd wants, or its caller */
	(void)loop_timer(t->broker->loop,
			 (int64_t)(t->broker->config.tls_handshake_timeout + EXTRA_S) * 1000,
			 on_timeout, r, &r->timer);
}

static bool takes_requests(const struct relay *r)
{
	return r && r->ready && !r->leaving;
}

/* It leaves (SIGUSR1) and will read nothing more, but answer what it has; or it is gone, as its
 * hang-up will say. The line waits for the next one. */
static void stop_asking(struct tls *t, struct relay *relay)
{
	relay->leaving = true;
	LL_DELETE(t->relays, relay);
	LL_APPEND(t->relays, relay);
	if (!takes_requests(t->relays))
		begin_away(t);
}

static void serve_line(struct tls *t)
{
	struct relay *relay = t->relays;

	if (!takes_requests(relay))
		return;
	while (t->waiting) {
		struct tls_request *r = t->waiting;

		if (r->m.serial == 0) {
			if (++t->serial == 0)
				t->serial = 1;
			r->m.serial = t->serial;
		}
		int e = msgsock_send(relay->peer->fd, &r->m, r->fd);

		if (e == -EAGAIN || e == -ETOOMANYREFS) {
			if (!t->retry)
				(void)loop_timer(t->broker->loop, FULL_MS, on_retry, t, &t->retry);
			return;
		}
		if (e == -EPIPE || e == -ECONNRESET) {
			stop_asking(t, relay);
			serve_line(t);
			return;
		}
		if (e < 0) {
			peer_end(relay->peer); /* which calls this again */
			return;
		}
		hand_over(r, relay);
	}
}

static struct tls_request *find_sent(const struct tls *t, uint32_t serial)
{
	struct tls_request *r = t->sent;

	while (r && r->m.serial != serial)
		r = r->next;
	return r;
}

/* What was asked for is a stream to tlsrelayd, nothing that could behave otherwise. */
static bool is_stream(int fd)
{
	int domain = 0, type = 0;
	socklen_t n = sizeof(domain);

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) < 0)
		return false;
	n = sizeof(type);
	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) == 0 && domain == AF_UNIX &&
	       type == SOCK_STREAM && fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0;
}

static void keep_printable(struct span *text)
{
	if (!span_is_printable(*text))
		*text = SPAN_NONE;
}

static int on_begun(struct tls_request *r, const struct msg *m, int *fd)
{
	if (r->m.type != MSG_TLS_ACCEPT || r->begun)
		return -EPROTO;
	if (!is_stream(*fd))
		return -EBADF;
	r->begun = true;
	r->done(r->context, m, fd);
	return 0;
}

static int on_answer(struct tls *t, const struct relay *relay, const struct msg *m, int *fd)
{
	struct tls_request *r = find_sent(t, m->serial);
	struct msg checked = *m;

	if (m->serial == 0 || (int32_t)(m->serial - t->serial) > 0)
		return -EPROTO; /* nobody has asked */
	if (!r)
		return 0; /* late */
	if (r->relay != relay)
		return -EPROTO;
	if (m->type == MSG_TLS_BEGUN)
		return on_begun(r, m, fd);
	if (m->type == MSG_TLS_READY) {
		if (!is_stream(*fd))
			return -EBADF;
		keep_printable(&checked.TLS_READY.version);
		keep_printable(&checked.TLS_READY.cipher);
		keep_printable(&checked.TLS_READY.name);
		if (!utf8_is_text(checked.TLS_READY.identity))
			checked.TLS_READY.identity = SPAN_NONE;
	} else {
		keep_printable(&checked.TLS_FAILED.text);
	}
	answer(r, &checked, fd);
	return 0;
}

static void show_figures(struct tls *t)
{
	uint64_t workers = 0, connections = 0;

	for (const struct relay *r = t->relays; r; r = r->next) {
		workers += r->workers;
		connections += r->connections;
	}
	state_gauge(t->broker->state, GAUGE_tls_workers, workers);
	state_gauge(t->broker->state, GAUGE_tls_connections, connections);
}

static void on_state(struct tls *t, struct relay *relay, const struct msg_TLS_STATE *figures)
{
	relay->workers = figures->workers;
	relay->connections = figures->connections;
	state_count(t->broker->state, COUNTER_tls_truncated, figures->truncated);
	state_count(t->broker->state, COUNTER_tls_workers_lost, figures->workers_lost);
	show_figures(t);
}

static void on_relay(struct tls *t, struct relay *relay, bool serves)
{
	if (!relay->ready) {
		LL_DELETE(t->relays, relay);
		LL_PREPEND(t->relays, relay);
	}
	relay->ready = true;
	relay->serves = serves;
	t->told_away = false;
	timer_end(&t->away);
	broker_settle_tls(t->broker);
	set_serves(t, t->relays->serves);
	serve_line(t);
}

static int on_message(struct peer *p, const struct msg *m, int *fd)
{
	struct relay *relay = p->owner;
	struct tls *t = p->broker->tls;

	if (m->type == MSG_RELAY)
		on_relay(t, relay, m->RELAY.serves != 0);
	else if (!relay->ready)
		return -EPROTO;
	else if (m->type == MSG_TLS_STATE)
		on_state(t, relay, &m->TLS_STATE);
	else
		return on_answer(t, relay, m, fd);
	return 0;
}

/* Whoever waits is told; that may bring new requests, and take others back. */
static void lose_requests(struct tls *t, const struct relay *relay)
{
	struct tls_request *r = t->sent;

	while (r) {
		int none = -1;

		if (r->relay != relay) {
			r = r->next;
			continue;
		}
		answer(r, NULL, &none);
		r = t->sent;
	}
}

static void on_gone(struct peer *p)
{
	struct relay *relay = p->owner;
	struct tls *t = p->broker->tls;

	LL_DELETE(t->relays, relay);
	t->relay_count--;
	lose_requests(t, relay);
	free(relay);
	show_figures(t);
	if (takes_requests(t->relays))
		set_serves(t, t->relays->serves);
	else
		begin_away(t);
	serve_line(t);
}

const struct peer_kind tls_peer_kind = { ROLE_TLS, on_message, on_gone };

static void ignore_gone(struct peer *p)
{
	(void)p;
}

void tls_peer_new(struct peer *p)
{
	static const struct peer_kind rejected = { ROLE_TLS, on_message, ignore_gone };
	struct tls *t = p->broker->tls;
	struct relay *relay = t->relay_count < RELAYS_MOST ? calloc(1, sizeof(*relay)) : NULL;

	if (!relay) {
		p->kind = &rejected;
		peer_end(p);
		return;
	}
	relay->peer = p;
	p->owner = relay;
	t->relay_count++;
	LL_APPEND(t->relays, relay);
}

void tls_free(struct tls *t)
{
	if (!t)
		return;
	while (t->waiting)
		free_request(t->waiting);
	while (t->sent)
		free_request(t->sent);
	while (t->relays)
		peer_end(t->relays->peer);
	timer_end(&t->retry);
	timer_end(&t->away);
	free(t);
}
