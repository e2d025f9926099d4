/* The session after login: bytes both ways, followed closely enough to know when the connection is
 * quiet.
 *
 * Client bytes wait in s->in until the follower approves them; `approved` of them, at the front,
 * are on their way to the backend. Backend bytes are looked at as they come and go to the client,
 * capability lists rewritten.
 * When the client leaves, what is still on its way for it is read away within drain_bytes and
 * drain_time, so that the connection can be given back.
 */
#include "proxyd/session.h"

#include <errno.h>
#include <sys/socket.h>

#include "lib/clock.h"
#include "proxyd/backend.h"
#include "proxyd/follow.h"
#include "proxyd/giveback.h"
#include "proxyd/imap_args.h"
#include "proxyd/io.h"
#include "proxyd/repeat.h"
#include "proxyd/rewrite.h"

#define REST_AFTER 1000 /* ms without traffic */

struct relay {
	struct session *s;
	struct follow follow;
	struct rewrite rewrite;
	size_t approved;   /* at the front of s->in: for the backend */
	size_t looked_at;  /* at the front of backend.in: shown to the follower, for the client */
	bool client_ended; /* it sends no more */
	bool client_gone;  /* it takes no more: what comes for it is thrown away */
	bool backend_ended;
	int64_t last_traffic; /* monotonic ms */
	bool at_rest;	      /* memory has been given back since then */
	int64_t ended_at;     /* when the client left; 0: it has not */
	int64_t logout_at;    /* when it said LOGOUT */
	uint64_t drained;
	struct repeat repeat; /* a reused connection has not answered yet */
	int64_t secret_until; /* so long may the credentials be kept for that; 0: they are wiped */
};

static int64_t ms(uint32_t seconds)
{
	return (int64_t)seconds * 1000;
}

/* A reused connection may be dead and have to be replaced, until then. Not one that is only
 * offered, or was: what is turned on on it would be off on another. */
static void expect_repeat(struct relay *r, int64_t until)
{
	bool cached = r->s->backend.cached && !r->s->offer.open;

	repeat_begin(&r->repeat, cached);
	r->secret_until = cached ? until : 0;
}

/* The reused connection has answered, or need not be replaced any more. */
static void forget_repeat(struct relay *r)
{
	if (r->secret_until == 0)
		return;
	r->repeat.armed = false;
	r->secret_until = 0;
	session_wipe_credentials(r->s);
}

/* A reused connection that dies before its first response was dead when it was handed out: what was
 * sent on it goes to another one, if it may be sent twice. */
static bool replace_backend(struct relay *r)
{
	struct session *s = r->s;
	bool may = r->repeat.armed && r->secret_until > 0 && !r->client_ended && s->backend.leased;

	r->repeat.armed = false;
	bool good = may && login_again(s) &&
		    io_write(s->backend.fd, repeat_sent(&r->repeat),
			     clock_ms() + ms(s->settings->backend_timeout)) == 0;

	forget_repeat(r);
	if (good)
		r->backend_ended = false;
	return good;
}

/* Shows new bytes of the backend to the follower. */
static void look_at_backend(struct relay *r)
{
	r->looked_at = rewrite_server(&r->rewrite, &r->follow, &r->s->backend.in, r->looked_at);
}

static void approve_client(struct relay *r, size_t most)
{
	struct buf *up = &r->s->in;
	bool dropping;
	size_t n;

	do {
		struct span bytes = span_from(buf_span(up), r->approved);

		if (bytes.n > most)
			bytes.n = most;
		dropping = r->follow.dropping;
		n = follow_client(&r->follow, bytes, up->len == up->cap && r->approved == 0);
		most -= n;
		r->s->from_client += n;
		if (dropping)
			buf_consume(up, n); /* nothing is in front: refuse() waited for that */
		else
			r->approved += n;
	} while (dropping && n > 0);
}

/* The follower begins with the connection that there is. */
static void begin_to_follow(struct relay *r)
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

/* What came behind the login's OK. */
static enum session_end count_early(struct relay *r)
{
	size_t early = r->s->backend.in.len;

	r->s->from_backend += early;
	/* so much is no IMAP */
	return early > 0 && !has_room(&r->s->backend.in) ? END_BACKEND_LOST : END_NONE;
}

/* The offered connection is not what the client wants. */
static enum session_end exchange(struct relay *r)
{
	bool untouched = follow_quiet(&r->follow) == NOT_CACHED_NOTHING;
	enum session_end end = login_exchange(r->s, untouched);

	begin_to_follow(r);
	if (end == END_NONE) /* it was repeated there, and answered the same */
		(void)fingerprint_repeat(&r->follow.fingerprint, offer_answers(&r->s->offer));
	if (end == END_NONE && r->s->offer.answered == 0)
		expect_repeat(r, r->s->offer_until);
	return end == END_NONE ? count_early(r) : end;
}

/* The opening's next command is answered here, as a fresh connection would answer it. */
static enum session_end answer(struct relay *r, size_t length, const struct fingerprint_step *step)
{
	struct session *s = r->s;
	char bytes[OFFER_TAG + 2 * FINGERPRINT_LINE + 10];
	struct buf out = BUF_OVER(bytes);
	struct span line = buf_span(&s->in), tag = span_word(&line, ' ');

	if (buf_add(&out, step->untagged) < 0 ||
	    (step->untagged.n > 0 && buf_add_str(&out, "\r\n") < 0) || buf_add(&out, tag) < 0 ||
	    buf_add_char(&out, ' ') < 0 || buf_add(&out, step->tagged) < 0 ||
	    buf_add_str(&out, "\r\n") < 0)
		return END_INTERNAL;
	offer_answered(&s->offer);
	buf_consume(&s->in, length);
	s->from_client += length;
	return session_tell(s, buf_span(&out));
}

/* One command on a connection that is only offered: how much of what waits may be shown to the
 * follower, *ret_most. */
static enum session_end consider(struct relay *r, size_t *ret_most)
{
	struct session *s = r->s;
	struct span in = buf_span(&s->in);
	const char *lf = memchr(in.p, '\n', in.n);
	size_t length = lf ? (size_t)(lf - in.p) + 1 : 0;
	struct fingerprint_step step;

	*ret_most = 0;
	if (length == 0 && in.n < s->in.cap)
		return END_NONE;
	if (length < 2 || in.p[length - 2] != '\r')
		return exchange(r);
	enum offer_verdict verdict =
		offer_judge(&s->offer, (struct span){ in.p, length - 2 }, &step);

	if (verdict == OFFER_ANSWER)
		return answer(r, length, &step);
	if (verdict == OFFER_SWAP)
		return exchange(r);
	s->offer.enabling = verdict == OFFER_ENABLES;
	*ret_most = length;
	return END_NONE;
}

/* May the proxy say something of its own? Not in the middle of a response, also not of one that the
 * mail host broke off. */
static bool is_between_responses(const struct relay *r)
{
	return r->follow.line.length == 0 && r->follow.server_literal_left == 0 &&
	       !r->follow.server_rest && r->looked_at == 0;
}

/* Is nothing under way, so that what comes next begins a command? */
static bool is_still(const struct relay *r)
{
	return r->approved == 0 && r->s->backend.in.len == 0 && is_between_responses(r) &&
	       r->follow.outstanding_count == 0 && r->follow.client == FOLLOW_LINE &&
	       !r->backend_ended;
}

/* Is it time to decide? The client's password is kept until then. */
static bool is_offer_over(const struct relay *r)
{
	return r->s->offer.open && clock_ms() >= r->s->offer_until && is_still(r);
}

/* While the connection is only offered: one command after the other, until it is the client's own
 * or another one. */
static enum session_end pass_offered(struct relay *r)
{
	struct session *s = r->s;
	enum session_end end = END_NONE;
	size_t most = 0;

	while (s->offer.open && end == END_NONE && most == 0) {
		if (!is_still(r))
			return END_NONE;
		if (offer_is_taken(&s->offer) || (s->offer.enabling && r->follow.last_ok)) {
			login_keep(s);
			break;
		}
		s->offer.enabling = false;
		size_t waits = s->in.len;

		end = is_offer_over(r) ? exchange(r) : consider(r, &most);
		if (s->in.len == waits && most == 0)
			break;
	}
	if (end == END_NONE)
		approve_client(r, s->offer.open ? most : SIZE_MAX);
	return end;
}

static enum session_end write_to_backend(struct relay *r)
{
	if (r->approved == 0)
		return END_NONE;
	ssize_t n =
		io_write_now(r->s->backend.fd, (struct span){ buf_span(&r->s->in).p, r->approved });

	if (n < 0)
		return replace_backend(r) ? END_NONE : END_BACKEND_LOST;
	if (r->secret_until > 0 &&
	    !repeat_note(&r->repeat, (struct span){ buf_span(&r->s->in).p, (size_t)n }))
		forget_repeat(r);
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
	       is_between_responses(r);
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
		forget_repeat(r);
		note_traffic(r);
		r->s->from_backend += (size_t)n;
	} else if (n != -EAGAIN && n != -EINTR && n != -ENOBUFS) {
		r->backend_ended = true;
	}
}

/* Nothing that could still be passed on is left of a client that sends no more. */
static bool is_all_passed_on(const struct relay *r)
{
	return r->approved == 0 && r->follow.outstanding_count < FOLLOW_OUTSTANDING &&
	       r->follow.client != FOLLOW_REFUSED &&
	       (r->follow.client != FOLLOW_WAIT || !r->follow.waits_for_idle);
}

/* DONE on behalf of a client that left IDLE without it. */
static enum session_end end_idle(struct relay *r)
{
	if (!r->follow.owes_done || r->approved > 0)
		return END_NONE;
	if (io_write(r->s->backend.fd, SPAN("DONE\r\n"),
		     clock_ms() + ms(r->s->settings->backend_timeout)) < 0)
		return END_BACKEND_LOST;
	follow_sent_done(&r->follow);
	return END_NONE;
}

/* The client left: is there still something to wait for that makes the connection quiet? */
static bool may_become_quiet(const struct relay *r)
{
	return follow_quiet(&r->follow) == NOT_CACHED_BUSY &&
	       r->drained < r->s->settings->drain_bytes;
}

/* LOGOUT waits for the answers to what was sent before it, and for the client to take them. */
static bool logout_is_due(const struct relay *r)
{
	bool answered = (r->follow.outstanding_count == 0 || r->backend_ended) && r->looked_at == 0;

	return answered || clock_ms() >= r->logout_at + ms(r->s->settings->backend_timeout);
}

static void note_leaving(struct relay *r, bool logout)
{
	if (logout && r->logout_at == 0)
		r->logout_at = clock_ms();
	if (r->client_ended && r->ended_at == 0)
		r->ended_at = clock_ms();
}

/* Is it over? END_NONE: not yet. */
static enum session_end judge(struct relay *r)
{
	bool logout = r->follow.client == FOLLOW_LOGOUT && r->approved == 0;
	enum session_end end = END_NONE;

	note_leaving(r, logout);
	if (!logout && r->backend_ended && r->repeat.armed && replace_backend(r))
		return END_NONE;
	if (!logout && r->backend_ended && (r->looked_at == 0 || r->client_gone))
		return END_BACKEND_CLOSED;
	if (logout || (r->client_ended && is_all_passed_on(r)))
		end = end_idle(r);
	if (end != END_NONE)
		return end;
	if (logout && !r->client_gone)
		return logout_is_due(r) ? END_LOGOUT : END_NONE;
	if (!r->client_ended)
		return END_NONE;
	if (clock_ms() < r->ended_at + ms(r->s->settings->drain_time) &&
	    (!is_all_passed_on(r) || may_become_quiet(r)))
		return END_NONE;
	return logout ? END_LOGOUT : END_CLIENT_CLOSED;
}

static int64_t wait_until(const struct relay *r)
{
	const struct msg_WELCOME *settings = r->s->settings;
	int64_t until = r->last_traffic + ms(settings->idle_timeout);
	int64_t offer = r->s->offer_until + (is_still(r) ? 0 : ms(settings->backend_timeout));

	if (r->logout_at > 0)
		until = r->logout_at + ms(settings->backend_timeout);
	if (r->ended_at > 0 && (r->logout_at == 0 || r->client_gone))
		until = r->ended_at + ms(settings->drain_time);
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

/* The deadline of wait_until() has come without traffic (an offer that cannot be decided). */
static enum session_end serve_deadline(struct relay *r)
{
	int64_t now = clock_ms();

	if (r->secret_until > 0 && now >= r->secret_until) {
		forget_repeat(r);
		return END_NONE;
	}
	if (r->s->rejoin_at > 0 && now >= r->s->rejoin_at)
		return session_rejoin(r->s);
	if (r->logout_at > 0 || r->ended_at > 0 || is_offer_over(r))
		return END_NONE; /* judge() and pass_offered() know */
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
	}
	return io_poll(fds, count, until);
}

static enum session_end wait_for_traffic(struct relay *r)
{
	struct session *s = r->s;
	struct buf *up = &s->in, *down = &s->backend.in;
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

	return refusal_is_due(r) || (r->looked_at == 0 && waits > r->rewrite.held);
}

static enum session_end pump(struct relay *r)
{
	enum session_end end = count_early(r);

	while (end == END_NONE) {
		look_at_backend(r);
		refuse(r);
		end = pass_offered(r);

		if (end == END_NONE)
			end = write_to_backend(r);
		write_to_client(r);
		if (end == END_NONE && is_unfinished(r))
			continue;
		if (end == END_NONE)
			end = judge(r);
		if (end == END_NONE)
			end = wait_for_traffic(r);
	}
	return end;
}

/* BYE and the tagged OK in one write; the client is answered before its connection is reset. */
static void say_goodbye(struct relay *r)
{
	char bytes[FOLLOW_TAG + 60];
	struct buf out = BUF_OVER(bytes);
	struct span tag = { r->follow.logout_tag, r->follow.logout_tag_length };

	if (is_between_responses(r) && buf_add_str(&out, "* BYE LOGOUT received\r\n") == 0 &&
	    buf_add(&out, tag) == 0 && buf_add_str(&out, " OK Completed\r\n") == 0)
		session_tell_last(r->s, buf_span(&out));
}

/* A BYE of the proxy's own, where the client has had none. */
static void say_bye(struct relay *r, enum session_end end)
{
	if (is_between_responses(r) && !r->follow.bye && !r->client_gone)
		session_say_bye(r->s, end);
}

/* Would a LOGOUT of ours be taken for a command, and not for a part of what the client has begun?
 */
static bool may_say_logout(const struct relay *r)
{
	return r->approved == 0 && !r->follow.owes_done &&
	       (r->follow.client == FOLLOW_LINE || r->follow.client == FOLLOW_LOGOUT);
}

enum session_end relay_run(struct session *s)
{
	static struct relay r;

	r = (struct relay){ .s = s, .last_traffic = clock_ms() };
	begin_to_follow(&r);
	expect_repeat(&r, r.last_traffic + ms(s->settings->login_timeout));
	enum session_end end = pump(&r);

	forget_repeat(&r);
	if (s->offer.open)
		login_keep(s);
	giveback_note(s, &r.follow);
	bool returning =
		(end == END_LOGOUT || end == END_CLIENT_CLOSED || end == END_IDLE_TIMEOUT) &&
		r.approved == 0 && !r.backend_ended && giveback_announce(s, &r.follow);

	if (end == END_LOGOUT)
		say_goodbye(&r);
	else
		say_bye(&r, end);
	if (returning) {
		giveback_run(s, &r.follow);
	} else {
		if (s->not_cached == NOT_CACHED_NOTHING)
			s->not_cached = r.backend_ended || end == END_BACKEND_LOST
						? NOT_CACHED_BACKEND_GONE
					: end == END_PASSWORD_REFUSED ? NOT_CACHED_REFUSED
								      : NOT_CACHED_BUSY;
		backend_close(&s->backend, may_say_logout(&r));
	}
	return end;
}
