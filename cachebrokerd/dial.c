/* Dialling: resolve, then non-blocking connects one after the other.
 *
 * With dns_rr dials begin with one address after the other. An address that failed a moment ago is
 * kept for the end in any case: one dead machine of several must not cost every other login a
 * connect_timeout. An address where TLS fails is such a one, too: there is no way from TLS to clear
 * text. Only what is no fault of the mail host (there is no tlsrelayd) does not count against it.
 *
 * A host that is this very one is never dialled (own.h). A socket of this machine, a path, is
 * connected to at once or never, but for a full queue, which tells nobody when there is room again.
 */
#include "cachebrokerd/dial.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "cachebrokerd/lookup.h"
#include "cachebrokerd/own.h"
#include "cachebrokerd/tls.h"
#include "lib/clock.h"
#include "lib/fd.h"

#define QUEUE_PAUSE_MS	    10 /* doubled with each try: */
#define QUEUE_PAUSE_MOST_MS 320 /* thousands of logins may wait for the same queue */

struct dial {
	struct broker *broker;
	struct host *host;
	dial_done_fn *done;
	void *context;
	struct question *question; /* while its name is being resolved */
	struct tls_request *tls;   /* while tlsrelayd has the connection */
	struct watch *watch;
	struct timer *timer;
	int fd;
	int64_t began;	/* microseconds: the connect that is under way */
	size_t first;	/* address of the host that it begins with */
	size_t address; /* the one that is being tried */
	uint32_t tried; /* a bit for each */
	int last_error;
	int64_t queue_until; /* monotonic ms */
	int64_t queue_pause; /* ms */
	struct caller caller; /* for whom it is; without addresses: for nobody */
	uint64_t policy;     /* host_tls() when TLS was asked for */
	bool relay_died;     /* over this dial: that is forgiven once */
	bool unavailable;    /* tlsrelayd cannot be had */
	bool own;	     /* it would come to ourselves */
	char tls_error[301]; /* of the last address where TLS failed; "": of none */
};

static void free_dial(struct dial *d)
{
	question_drop(&d->question);
	tls_forget(&d->tls);
	watch_end(&d->watch);
	timer_end(&d->timer);
	fd_drop(&d->fd);
	free(d);
}

static int64_t now_us(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void finish(struct dial *d, const char *why)
{
	dial_done_fn *done = d->done;
	void *context = d->context;
	struct host *h = d->host;
	char text[sizeof(d->tls_error)]; /* the dial is freed first, and why may be its own */

	watch_end(&d->watch);
	int fd = take_fd(&d->fd);

	(void)snprintf(text, sizeof(text), "%s", why ? why : "");

	if (fd >= 0)
		host_answered(h, now_us() - d->began);
	else if (d->unavailable)
		host_not_dialled(h, text);
	else if (!d->own)
		host_failed(h, *d->tls_error, text);
	free_dial(d);
	done(context, fd, text);
}

static void try_next(void *context);

static void abandon_address(struct dial *d, int error)
{
	d->last_error = error;
	host_address_failed(d->host, d->address);
	watch_end(&d->watch);
	timer_end(&d->timer);
	fd_drop(&d->fd);
	try_next(d);
}

static void begin(void *context);

/* The stream is there. Is it still made as it should be? */
static void on_ready(struct dial *d, int *fd)
{
	if (d->policy != host_tls(d->host)) {
		d->tried = 0; /* a reload came between */
		begin(d);
		return;
	}
	d->fd = take_fd(fd);
	finish(d, NULL);
}

static void on_tls(void *context, const struct msg *answer, int *fd)
{
	struct dial *d = context;

	d->tls = NULL;
	if (answer && answer->type == MSG_TLS_READY) {
		on_ready(d, fd);
		return;
	}
	if ((!answer || answer->TLS_FAILED.reason == TLS_LOST) && !d->relay_died) {
		d->relay_died = true; /* the next tlsrelayd will be there in a moment */
		d->tried &= ~(UINT32_C(1) << d->address);
		try_next(d);
		return;
	}
	d->unavailable = !answer || answer->TLS_FAILED.reason == TLS_UNAVAILABLE ||
			 answer->TLS_FAILED.reason == TLS_LOST;
	(void)snprintf(d->tls_error, sizeof(d->tls_error), "%.*s",
		       answer ? (int)answer->TLS_FAILED.text.n : 0,
		       answer ? answer->TLS_FAILED.text.p : "");
	if (!*d->tls_error)
		(void)snprintf(d->tls_error, sizeof(d->tls_error), "%s", "tlsrelayd broke off");
	if (d->unavailable)
		finish(d, d->tls_error);
	else
		abandon_address(d, EPROTO);
}

/* Connected: the connection goes to tlsrelayd. */
static void begin_tls(struct dial *d)
{
	const struct msg m = { .type = MSG_TLS_CONNECT,
			       .TLS_CONNECT = { .mode = d->host->tls,
						.service = d->host->service,
						.port = d->host->port,
						.host = span_str(d->host->name) } };

	watch_end(&d->watch);
	timer_end(&d->timer);
	d->policy = host_tls(d->host);
	if (tls_ask(d->broker, &m, &d->fd, on_tls, d, &d->tls) == 0)
		return;
	d->unavailable = true;
	(void)snprintf(d->tls_error, sizeof(d->tls_error), "%s", "too many wait for tlsrelayd");
	fd_drop(&d->fd);
	finish(d, d->tls_error);
}

/* Whoever asked for this dial may have done so before a reload that wants TLS. */
static void finish_in_clear(struct dial *d)
{
	if (host_is_current(d->host)) {
		finish(d, NULL);
		return;
	}
	d->unavailable = true; /* the mail host is not to blame */
	fd_drop(&d->fd);
	finish(d, d->host->local ? "the settings name another local server now"
				 : "the settings want TLS now");
}

/* The PROXY header, where the mail host wants one. It always fits into a new connection. 0 or an
 * errno. */
static int announce(const struct dial *d)
{
	unsigned char header[CALLER_HEADER_MAX];

	if (!host_wants_header(d->host))
		return 0;
	size_t length = caller_write_header(&d->caller, header);
	ssize_t n = send(d->fd, header, length, MSG_NOSIGNAL | MSG_DONTWAIT);

	return n == (ssize_t)length ? 0 : n < 0 ? errno : EPIPE;
}

/* The connect has ended, with an errno or 0. */
static void conclude(struct dial *d, int error)
{
	if (error == 0)
		error = announce(d);
	if (error != 0)
		abandon_address(d, error);
	else if (d->host->tls != TLS_NONE)
		begin_tls(d);
	else
		finish_in_clear(d);
}

static void on_writable(void *context, uint32_t events)
{
	struct dial *d = context;
	int error = 0;
	socklen_t n = sizeof(error);

	(void)events;
	if (getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0)
		error = errno;
	conclude(d, error);
}

static void on_timeout(void *context)
{
	abandon_address(context, ETIMEDOUT);
}

static void set_tcp(const struct dial *d)
{
	int on = 1;

	(void)setsockopt(d->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (d->broker->config.send_tcp_keepalives)
		(void)setsockopt(d->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

/* A mail host on this machine has mostly answered before connect() returns, which is nevertheless
 * under way for it; asked again it says so. That saves a turn of the loop. 0: connected. */
static int connect_now(int fd, const struct sockaddr *address, socklen_t n)
{
	if (connect(fd, address, n) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return -errno;
	return connect(fd, address, n) == 0 ? 0 : errno == EALREADY ? -EINPROGRESS : -errno;
}

/* 0: connected; -EINPROGRESS: it is watched; else -errno. */
static int connect_to(struct dial *d, const struct sockaddr_storage *address)
{
	socklen_t n = address->ss_family == AF_INET    ? sizeof(struct sockaddr_in)
		      : address->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6)
						       : sizeof(struct sockaddr_un);

	d->began = now_us();
	d->fd = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (d->fd < 0)
		return -errno;
	if (address->ss_family != AF_UNIX)
		set_tcp(d);
	int r = connect_now(d->fd, (const struct sockaddr *)address, n);

	if (r != -EINPROGRESS)
		return r;
	r = loop_watch(d->broker->loop, d->fd, EPOLLOUT, on_writable, d, &d->watch);
	return r < 0 ? r : -EINPROGRESS;
}

/* Chooses the next address: those that failed lately are the last. False: all have been tried. */
static bool choose_address(struct dial *d)
{
	size_t count = d->host->address_count;

	for (size_t i = 0; i < 2 * count; i++) {
		size_t n = (d->first + i) % count;

		if (d->tried & (UINT32_C(1) << n) ||
		    (i < count && host_address_has_failed(d->host, n)))
			continue;
		d->tried |= UINT32_C(1) << n;
		d->address = n;
		return true;
	}
	return false;
}

/* The queue of a path's server is full: tries it again for as long as a connect may take. */
static bool waits_for_queue(struct dial *d)
{
	fd_drop(&d->fd);
	d->tried &= ~(UINT32_C(1) << d->address);
	if (clock_ms() < d->queue_until &&
	    loop_timer(d->broker->loop, d->queue_pause, try_next, d, &d->timer) == 0) {
		if (d->queue_pause < QUEUE_PAUSE_MOST_MS)
			d->queue_pause *= 2;
		return true;
	}
	d->tried |= UINT32_C(1) << d->address;
	return false;
}

static const char *describe(const struct dial *d)
{
	return d->last_error == EACCES && d->host->port == 0
		       ? "the user that the service runs as (proc_username) may not connect to it"
		       : strerror(d->last_error);
}

/* Goes to the next address, or ends the dial behind the last. */
static void try_next(void *context)
{
	struct dial *d = context;

	while (choose_address(d)) {
		int r = connect_to(d, &d->host->addresses[d->address]);

		if (r == 0) {
			conclude(d, 0);
			return;
		}
		if (r == -EAGAIN && d->host->port == 0 && waits_for_queue(d))
			return;
		if (r == -EINPROGRESS &&
		    loop_timer(d->broker->loop, (int64_t)d->broker->config.connect_timeout * 1000,
			       on_timeout, d, &d->timer) == 0)
			return;
		d->last_error = r == -EINPROGRESS ? ENOMEM : -r;
		if (r != -EINPROGRESS)
			host_address_failed(d->host, d->address);
		watch_end(&d->watch);
		fd_drop(&d->fd);
	}
	finish(d, *d->tls_error ? d->tls_error : describe(d));
}

static void begin(void *context)
{
	struct dial *d = context;

	if (own_is(d->host)) {
		d->own = true;
		finish(d, own_problem(d->host));
		return;
	}
	d->queue_until = clock_ms() + (int64_t)d->broker->config.connect_timeout * 1000;
	d->queue_pause = QUEUE_PAUSE_MS;
	d->first = host_first_address(d->host);
	try_next(d);
}

static void on_addresses(void *context, const struct msg *answer)
{
	struct dial *d = context;
	char why[201] = "the name cannot be resolved";

	d->question = NULL;
	if (!answer && d->host->address_count > 0) {
		begin(d); /* nobody can say it: those of before */
		return;
	}
	if (answer && host_set_addresses(d->host, answer->ADDRESSES.addresses) == 0) {
		begin(d);
		return;
	}
	if (answer && answer->ADDRESSES.error.n > 0) {
		memcpy(why, answer->ADDRESSES.error.p, answer->ADDRESSES.error.n);
		why[answer->ADDRESSES.error.n] = '\0';
	}
	finish(d, why);
}

int dial_start(struct broker *b, struct host *h, dial_done_fn *done, void *context,
	       struct dial **ret)
{
	struct dial *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return -ENOMEM;
	*d = (struct dial){ .broker = b, .host = h, .done = done, .context = context, .fd = -1 };
	if (host_is_resolved(h) || host_set_path(h) == 0 ||
	    (h->address_count > 0 && lookup_is_silent(b->lookup))) {
		r = loop_timer(b->loop, 0, begin, d, &d->timer);
	} else {
		struct msg m = { .type = MSG_RESOLVE,
				 .RESOLVE = { .ip_version = b->config.ipversion_only,
					      .host = span_str(h->name) } };

		r = lookup_ask(b->lookup, &m, on_addresses, d, &d->question);
	}
	if (r < 0) {
		free_dial(d);
		return r;
	}
	*ret = d;
	return 0;
}

void dial_for(struct dial *d, const struct caller *caller)
{
	d->caller = *caller;
}

void dial_give_up(struct dial **d)
{
	if (*d)
		free_dial(*d);
	*d = NULL;
}
