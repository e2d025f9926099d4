/* The session after login: bytes both ways, followed closely enough to know when the connection is
 * quiet.
 *
 * Client bytes wait in s->in until the follower approves them; `approved` of them, at the front,
 * are on their way to the backend. Backend bytes are looked at as they come and go to the client,
 * capability lists rewritten.
 */
#include "proxyd/relay.h"

#include <errno.h>
#include <sys/socket.h>

#include "lib/clock.h"
#include "lib/large.h"
#include "proxyd/backend.h"
#include "proxyd/giveback.h"
#include "proxyd/io.h"
#include "proxyd/tracer.h"

#define REST_AFTER 1000 /* ms without traffic */

/* Shows new bytes of the backend to the follower. */
static void look_at_backend(struct relay *r)
{
	if (r->s->backend.examined)
		return; /* with another's mailbox open it says nothing that is for this client */
	r->looked_at = rewrite_server(&r->rewrite, &r->follow, &r->s->backend.in, r->looked_at);
}

void relay_approve(struct relay *r, size_t most)
{
	struct buf *up = &r->s->in;
	bool dropping, traced;
	size_t n;

	do {
		struct span bytes = span_from(buf_span(up), r->approved);
		struct elide_point before;

		if (bytes.n > most)
			bytes.n = most;
		traced = r->s->traced;
		if (traced) /* line by line */
			bytes = elide_piece(&r->follow, bytes, &before);
		dropping = r->follow.dropping;
		n = follow_client(&r->follow, bytes, up->len == up->cap && r->approved == 0);
		if (traced && n > 0)
			tracer_client(&before, &r->follow, (struct span){ bytes.p, n });
		most -= n;
		r->s->from_client += n;
		if (dropping)
			buf_consume(up, n); /* nothing is in front: refuse() waited for that */
		else
			r->approved += n;
	} while ((dropping || traced) && n > 0);
	if (r->s->traced)
		tracer_flush(false);
}

void relay_follow(struct relay *r)
{
	const struct offer *o = &r->s->offer;

	follow_init(&r->follow, r->s->settings->safe_commands);
	rewrite_init(&r->rewrite, r->s->settings->hide_capabilities);
	r->looked_at = 0;
	if (o->open)
		(void)fingerprint_load(&r->follow.fingerprint,
				       (struct span){ o->text, o->text_length },
				       (struct span){ o->opening, o->opening_length });
}

static bool has_room(const struct buf *down)
{
	return down->len < down->cap - REWRITE_ROOM;
}

void relay_count_early(struct relay *r)
{
	r->s->from_backend += r->s->backend.in.len;
	if (r->s->traced)
		tracer_server(buf_span(&r->s->backend.in));
}

void relay_trace_answer(struct relay *r, size_t length, struct span bytes)
{
	struct span line = { buf_span(&r->s->in).p, length };
	struct elide_point before;

	(void)elide_piece(&r->follow, line, &before);
	tracer_client(&before, &r->follow, line);
	tracer_proxy(bytes);
	tracer_flush(false);
}

bool relay_is_between_responses(const struct relay *r)
{
	return r->follow.line.length == 0 && r->follow.server_literal_left == 0 &&
	       !r->follow.server_rest && r->looked_at == 0;
}

/* What it said before it left, BYE mostly, can still be read. Over a Unix socket (TLS) every write
 * fails from then on, while TCP takes one more. */
static enum session_end write_to_backend(struct relay *r)
{
	if (r->approved == 0)
		return END_NONE;
	ssize_t n =
		io_write_now(r->s->backend.fd, (struct span){ buf_span(&r->s->in).p, r->approved });

	if (n < 0) {
		if (relay_replace_backend(r))
			return END_NONE;
		if (r->s->offer.open || r->s->backend.examined)
			return END_BACKEND_LOST; /* what it said may not be for this client */
		r->backend_deaf = true;
		n = (ssize_t)r->approved;
	} else if (r->secret_until > 0 &&
		   !repeat_note(&r->repeat, (struct span){ buf_span(&r->s->in).p, (size_t)n })) {
		relay_forget_repeat(r);
	}
	buf_consume(&r->s->in, (size_t)n);
	r->approved -= (size_t)n;
	return END_NONE;
}

static void write_to_client(struct relay *r)
{
	struct buf *down = &r->s->backend.in;

	if (r->looked_at == 0)
		return;
	ssize_t n = r->client_gone ? (ssize_t)r->looked_at
				   : io_write_now(r->s->client,
						  (struct span){ buf_span(down).p, r->looked_at });

	if (n < 0) {
		r->client_gone = r->client_ended = true;
		n = (ssize_t)r->looked_at;
	}
	if (r->client_ended)
		r->drained += (size_t)n;
	buf_consume(down, (size_t)n);
	r->looked_at -= (size_t)n;
}

/* Is it a refused command's turn to be answered? */
static bool refusal_is_due(const struct relay *r)
{
	return r->follow.client == FOLLOW_REFUSED && r->approved == 0 &&
	       r->follow.outstanding_count == 0 && r->s->backend.in.len == 0 &&
	       relay_is_between_responses(r);
}

/* The answer goes where the mail host's would be. */
static void refuse(struct relay *r)
{
	struct buf *down = &r->s->backend.in;
	struct span tag = { buf_span(&r->s->in).p, r->follow.refused_tag_length };

	if (!refusal_is_due(r))
		return;
	(void)(buf_add(down, tag.n > 0 ? tag : SPAN("*")) ||
	       buf_add_str(down, " BAD Unrecognized command\r\n"));
	r->looked_at = down->len;
	if (r->s->traced)
		tracer_proxy(buf_span(down));
	follow_refused(&r->follow);
}

static void note_traffic(struct relay *r)
{
	r->last_traffic = clock_ms();
	r->at_rest = false;
}

static void read_client(struct relay *r)
{
	int n = io_fill_now(r->s->client, &r->s->in);

	if (n > 0)
		note_traffic(r);
	else if (n == 0)
		r->client_ended = true;
	else if (n != -EAGAIN && n != -EINTR && n != -ENOBUFS)
		r->client_ended = r->client_gone = true;
}

static void read_backend(struct relay *r)
{
	int n = io_fill_leaving(r->s->backend.fd, &r->s->backend.in, REWRITE_ROOM);

	if (n > 0 && r->repeat.armed && span_istarts(buf_span(&r->s->backend.in), SPAN("* BYE"))) {
		buf_consume(&r->s->backend.in, (size_t)n);
		r->backend_ended = true;
	} else if (n > 0) {
		if (!r->s->backend.examined)
			relay_forget_repeat(r);
		note_traffic(r);
		r->s->from_backend += (size_t)n;
		if (r->s->traced)
			tracer_server(span_from(buf_span(&r->s->backend.in),
						r->s->backend.in.len - (size_t)n));
	} else if (n == -EAGAIN) {
		r->backend_ended = r->backend_deaf;
	} else if (n != -EINTR && n != -ENOBUFS) {
		r->backend_ended = true;
	}
}

static int64_t wait_until(const struct relay *r)
{
	const struct msg_WELCOME *settings = r->s->settings;
	int64_t until = r->last_traffic + relay_ms(settings->idle_timeout);
	int64_t offer =
		r->s->offer_until + (relay_is_still(r) ? 0 : relay_ms(settings->backend_timeout));

	if (r->logout_at > 0)
		until = r->logout_at + relay_ms(settings->backend_timeout);
	if (r->ended_at > 0 && (r->logout_at == 0 || r->client_gone))
		until = r->ended_at + relay_ms(settings->drain_time);
	if (r->secret_until > 0 && r->secret_until < until)
		until = r->secret_until;
	if (r->s->offer.open && offer < until)
		until = offer;
	return r->s->rejoin_at > 0 && r->s->rejoin_at < until ? r->s->rejoin_at : until;
}

/* The broker pushed something or is gone. */
static enum session_end serve_link(struct relay *r)
{
	struct session *s = r->s;
	int gone = link_take_pushes(&s->link);

	if (s->link.ended) /* its last word may have come with its end */
		return session_told_to_end(s);
	if (gone == 0)
		return END_NONE;
	s->backend.leased = false;
	return session_rejoin(s);
}

static enum session_end end_stuck_offer(const struct relay *r)
{
	return r->looked_at > 0 ? END_CLIENT_STUCK : END_BACKEND_LOST;
}

/* The deadline of wait_until() has come without traffic (an offer that cannot be decided). */
static enum session_end serve_deadline(struct relay *r)
{
	int64_t now = clock_ms();

	if (r->secret_until > 0 && now >= r->secret_until) {
		if (r->s->backend.examined)
			return relay_unselect(r); /* without them it could not be replaced */
		relay_forget_repeat(r);
		return END_NONE;
	}
	if (r->s->rejoin_at > 0 && now >= r->s->rejoin_at)
		return session_rejoin(r->s);
	if (relay_is_offer_stuck(r))
		return end_stuck_offer(r);
	if (r->logout_at > 0 || r->ended_at > 0 || r->s->offer.open)
		return END_NONE; /* relay_judge() and relay_pass() know */
	return r->looked_at > 0 ? END_CLIENT_STUCK : END_IDLE_TIMEOUT;
}

/* Waits. A session that has been quiet for a while gives its buffers' memory back first: thousands
 * wait in IDLE. */
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
	struct buf *up = &s->in, *down = &s->backend.in;

	if (relay_is_offer_stuck(r)) /* however much there is to read */
		return end_stuck_offer(r);
	if (r->backend_deaf && !r->backend_ended && has_room(down)) {
		read_backend(r); /* nothing more will come than what is there */
		return END_NONE;
	}
	short client_events = (short)((!r->client_ended && up->len < up->cap ? POLLIN : 0) |
				      (r->looked_at > 0 ? POLLOUT : 0));
	short backend_events = (short)(r->backend_ended ? 0
							: (has_room(down) ? POLLIN : 0) |
								  (r->approved > 0 ? POLLOUT : 0));
	struct pollfd fds[] = {
		/* a hang-up is reported again and again: not asked for when nothing can be read */
		{ .fd = r->client_gone && !(client_events & POLLIN) ? -1 : s->client,
		  .events = client_events },
		{ .fd = backend_events == 0 ? -1 : s->backend.fd, .events = backend_events },
		{ .fd = s->link.sock, .events = POLLIN },
	};
	int n = wait_with(r, fds, 3);

	if (n < 0)
		return n == -ECANCELED ? END_SHUTDOWN : END_INTERNAL;
	if (n == 0)
		return serve_deadline(r);
	if (fds[0].revents & (POLLERR | POLLHUP))
		r->client_gone = true;
	if (fds[0].revents & (POLLIN | POLLERR | POLLHUP) && !r->client_ended)
		read_client(r);
	if (fds[1].revents & (POLLIN | POLLERR | POLLHUP))
		read_backend(r);
	return fds[2].revents ? serve_link(r) : END_NONE;
}

/* Is there something to do without waiting? Bytes that had no room, or an answer of our own. */
static bool is_unfinished(const struct relay *r)
{
	size_t waits = r->s->backend.in.len - r->looked_at;

	return refusal_is_due(r) || relay_is_offer_due(r) ||
	       (r->looked_at == 0 && waits > r->rewrite.held && !r->s->backend.examined);
}

static enum session_end pump(struct relay *r)
{
	enum session_end end = END_NONE;

	relay_count_early(r);
	while (end == END_NONE) {
		look_at_backend(r);
		refuse(r);
		end = relay_pass(r);

		if (end == END_NONE)
			end = write_to_backend(r);
		if (end == END_NONE && r->hides)
			end = relay_hide(r);
		write_to_client(r);
		if (end == END_NONE && is_unfinished(r))
			continue;
		if (end == END_NONE)
			end = relay_judge(r);
		if (end == END_NONE)
			end = wait_for_traffic(r);
	}
	return end;
}

enum session_end relay_run(struct session *s)
{
	static HOT struct relay r; /* once per process, and zero at first */

	r.s = s;
	r.last_traffic = clock_ms();
	relay_follow(&r);
	relay_expect_repeat(&r, r.last_traffic + relay_ms(s->settings->login_timeout));
	relay_expect_select(&r);
	enum session_end end = pump(&r);

	relay_forget_repeat(&r);
	if (s->traced && r.follow.client == FOLLOW_LOGOUT)
		tracer_logout((struct span){ buf_span(&s->in).p + r.approved,
					     r.follow.logout_line_length });
	if (s->offer.open)
		login_keep(s);
	giveback_note(s, &r.follow);
	bool returning =
		(end == END_LOGOUT || end == END_CLIENT_CLOSED || end == END_IDLE_TIMEOUT) &&
		r.approved == 0 && !r.backend_ended && giveback_announce(s, &r.follow);

	if (end == END_LOGOUT)
		relay_say_goodbye(&r);
	else
		relay_say_bye(&r, end);
	if (s->traced)
		tracer_end();
	if (returning) {
		giveback_run(s, &r.follow);
	} else {
		if (s->not_cached == NOT_CACHED_NOTHING)
			s->not_cached = r.backend_ended || end == END_BACKEND_LOST
						? NOT_CACHED_BACKEND_GONE
					: end == END_PASSWORD_REFUSED ? NOT_CACHED_REFUSED
								      : NOT_CACHED_BUSY;
		backend_close(&s->backend, relay_may_say_logout(&r));
	}
	return end;
}
