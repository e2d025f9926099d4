/* A session of POP3 after login: bytes both ways, as they are.
 *
 * s->in holds what the client said, backend.in what the mail host said, each read only while it has
 * room. What the client sent behind its login without waiting is there already. An end of either
 * side is passed on behind the last byte before it, and the other direction goes on: a client may
 * say QUIT and close at once, and the mail host must read both, for only then it deletes what the
 * client wants deleted. Nothing is ever said in a side's name: neither QUIT for a client that has
 * left (its deletions must not be made, RFC 1939 section 3) nor an answer.
 */
#include "proxyd/pop3.h"

#include <errno.h>
#include <sys/socket.h>

#include "lib/clock.h"
#include "proxyd/backend.h"
#include "proxyd/io.h"
#include "proxyd/pop3_line.h"
#include "proxyd/pop3_trace.h"
#include "proxyd/tracer.h"

#define IDLE_LEAST 600 /* seconds: RFC 1939 section 3 */
#define REST_AFTER 1000 /* ms without traffic */

struct relay {
	struct session *s;
	struct pop3_quit quit;
	bool client_ended;  /* it sends no more, */
	bool backend_told;  /* which the mail host knows */
	bool client_gone;   /* it takes no more: what comes for it is thrown away */
	bool backend_ended; /* it sends no more */
	bool backend_broke; /* nor does it take any */
	bool at_rest;	    /* memory has been given back since the last traffic */
	bool tracing;	    /* the trace has heard all since it began */
	int64_t last_traffic;
	struct pop3_trace trace;
};

/* Is the session traced? Called where bytes have just come; before they are followed. */
static bool is_traced(struct relay *r)
{
	if (r->s->traced && !r->tracing)
		pop3_trace_begin(&r->trace, false, r->quit.length > 0);
	r->tracing = r->s->traced;
	return r->tracing;
}

static void note_traffic(struct relay *r)
{
	r->last_traffic = clock_ms();
	r->at_rest = false;
}

static void read_client(struct relay *r)
{
	struct buf *up = &r->s->in;
	int n = io_fill_now(r->s->client, up);

	if (n > 0) {
		struct span said = span_from(buf_span(up), up->len - (size_t)n);

		if (is_traced(r))
			pop3_trace_client(&r->trace, said, tracer_said);
		pop3_quit_follow(&r->quit, said);
		note_traffic(r);
	} else if (n == 0) {
		r->client_ended = true;
	} else if (n != -EAGAIN && n != -EINTR && n != -ENOBUFS) {
		r->client_ended = r->client_gone = true;
	}
}

/* Returns what has come, 0 at its end, or -errno. */
static int read_backend(struct relay *r)
{
	struct buf *down = &r->s->backend.in;
	int n = io_fill_now(r->s->backend.fd, down);

	if (n > 0) {
		r->s->from_backend += (size_t)n;
		if (is_traced(r))
			pop3_trace_server(&r->trace,
					  span_from(buf_span(down), down->len - (size_t)n),
					  tracer_server);
		note_traffic(r);
	} else if (n == 0) {
		r->backend_ended = true;
	} else if (n != -EAGAIN && n != -EINTR && n != -ENOBUFS) {
		r->backend_ended = r->backend_broke = true;
	}
	return n;
}

/* What it takes no more is lost; what it said before is still read. */
static void write_to_backend(struct relay *r)
{
	struct buf *up = &r->s->in;

	if (up->len > 0) {
		ssize_t n = r->backend_broke ? -EPIPE
					     : io_write_now(r->s->backend.fd, buf_span(up));

		if (n < 0) {
			r->backend_broke = true;
			n = (ssize_t)up->len;
		} else {
			r->s->from_client += (uint64_t)n;
		}
		if (n > 0)
			note_traffic(r);
		buf_consume(up, (size_t)n);
	}
	if (r->client_ended && up->len == 0 && !r->backend_told) {
		(void)shutdown(r->s->backend.fd, SHUT_WR);
		r->backend_told = true;
		note_traffic(r); /* from now on it has backend_timeout */
	}
}

static void write_to_client(struct relay *r)
{
	struct buf *down = &r->s->backend.in;

	if (down->len == 0)
		return;
	ssize_t n = r->client_gone     ? (ssize_t)down->len
		    : r->backend_ended ? io_write_last_now(r->s->client, buf_span(down))
				       : io_write_now(r->s->client, buf_span(down));

	r->s->said_all = r->backend_ended && n == (ssize_t)down->len;
	if (n < 0) {
		r->client_gone = true; /* what it said before is still read */
		n = (ssize_t)down->len;
	}
	if (n > 0 && !r->client_gone)
		note_traffic(r);
	buf_consume(down, (size_t)n);
}

/* Is it over? END_NONE: not yet. */
static enum session_end judge(const struct relay *r)
{
	if (!r->backend_ended || r->s->backend.in.len > 0)
		return END_NONE;
	if (r->backend_broke)
		return r->client_gone ? END_CLIENT_LOST : END_BACKEND_LOST;
	if (r->quit.said)
		return END_LOGOUT;
	return r->client_gone	 ? END_CLIENT_LOST
	       : r->client_ended ? END_CLIENT_CLOSED
				 : END_BACKEND_CLOSED;
}

/* A mail host that was told of the client's end has only so long; one that is read from the whole
 * time is not silent. */
static int64_t wait_until(const struct relay *r)
{
	const struct msg_WELCOME *settings = r->s->settings;
	uint32_t idle = settings->idle_timeout > IDLE_LEAST ? settings->idle_timeout : IDLE_LEAST;
	int64_t until = r->last_traffic +
			(int64_t)(r->backend_told && r->s->backend.in.len == 0
					  ? settings->backend_timeout
					  : idle) *
				1000;

	return r->s->rejoin_at > 0 && r->s->rejoin_at < until ? r->s->rejoin_at : until;
}

/* The deadline has come without traffic. */
static enum session_end serve_deadline(const struct relay *r)
{
	if (r->s->rejoin_at > 0 && clock_ms() >= r->s->rejoin_at)
		return session_rejoin(r->s);
	if (r->s->backend.in.len > 0)
		return END_CLIENT_STUCK;
	if (r->s->in.len > 0)
		return END_BACKEND_LOST;
	if (r->client_ended)
		return r->client_gone ? END_CLIENT_LOST : END_CLIENT_CLOSED;
	return END_IDLE_TIMEOUT;
}

/* The broker pushed something or is gone. */
static enum session_end serve_link(struct session *s)
{
	int gone = link_take_pushes(&s->link);

	if (s->link.ended) /* its last word may have come with its end */
		return session_told_to_end(s);
	if (gone == 0)
		return END_NONE;
	s->backend.leased = false;
	return session_rejoin(s);
}

/* Waits. A session that has been quiet for a while gives its buffers' memory back first. */
static int wait_with(struct relay *r, struct pollfd *fds, nfds_t count)
{
	int64_t until = wait_until(r), rest = r->last_traffic + REST_AFTER;

	if (!r->at_rest && rest < until) {
		int n = io_poll(fds, count, rest);

		if (n != 0)
			return n;
		r->at_rest = true;
		buf_release(&r->s->in);
		buf_release(&r->s->backend.in);
		link_release();
		if (r->s->traced)
			tracer_rest();
	}
	return io_poll(fds, count, until);
}

static enum session_end wait_for_traffic(struct relay *r)
{
	struct session *s = r->s;
	const struct buf *up = &s->in, *down = &s->backend.in;
	short client = (short)((!r->client_ended && up->len < up->cap ? POLLIN : 0) |
			       (down->len > 0 ? POLLOUT : 0));
	short backend = (short)((!r->backend_ended && down->len < down->cap ? POLLIN | POLLRDHUP
									    : 0) |
				(up->len > 0 ? POLLOUT : 0));
	struct pollfd fds[] = {
		/* a hang-up is reported again and again: not asked for when nothing can be done */
		{ .fd = client ? s->client : -1, .events = client },
		{ .fd = backend ? s->backend.fd : -1, .events = backend },
		{ .fd = s->link.sock, .events = POLLIN },
	};
	int n = wait_with(r, fds, 3);

	if (n < 0)
		return n == -ECANCELED ? END_SHUTDOWN : END_INTERNAL;
	if (n == 0)
		return serve_deadline(r);
	if (fds[0].revents & (POLLERR | POLLHUP) && !(client & POLLIN))
		r->client_gone = true;
	if (fds[0].revents & (POLLIN | POLLERR | POLLHUP) && client & POLLIN)
		read_client(r);
	/* what its end was seen with goes to the client together with the end */
	if (fds[1].revents && backend & POLLIN)
		while (read_backend(r) > 0 && fds[1].revents & (POLLRDHUP | POLLHUP))
			;
	return fds[2].revents ? serve_link(s) : END_NONE;
}

/* What came behind the login is there already. */
static void begin_trace(struct relay *r)
{
	if (!r->s->traced)
		return;
	pop3_trace_begin(&r->trace, true, false);
	r->tracing = true;
	pop3_trace_client(&r->trace, buf_span(&r->s->in), tracer_said);
	pop3_trace_server(&r->trace, buf_span(&r->s->backend.in), tracer_server);
}

enum session_end pop3_relay(struct session *s)
{
	struct relay r = { .s = s, .last_traffic = clock_ms() };
	enum session_end end = END_NONE;

	s->not_cached = NOT_CACHED_POP3;
	s->from_backend = s->backend.in.len;
	begin_trace(&r);
	pop3_quit_follow(&r.quit, buf_span(&s->in));
	while (end == END_NONE) {
		write_to_backend(&r);
		write_to_client(&r);
		end = judge(&r);
		if (end == END_NONE)
			end = wait_for_traffic(&r);
	}
	if (is_traced(&r)) {
		pop3_trace_end(&r.trace, tracer_server);
		tracer_end();
	}
	backend_close(&s->backend, false);
	return end;
}
