/* One client connection from its greeting to its end.
 *
 * The buffers are static: this process serves one client, and pages that are never touched cost
 * nothing.
 */
#include "proxyd/session.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/ids.h"
#include "lib/kv.h"
#include "lib/log.h"
#include "lib/msgsock.h"
#include "proxyd/backend.h"
#include "proxyd/io.h"
#include "proxyd/jail.h"

#define CLIENT_BUFFER  (28 * 1024) /* a whole LOGIN with its literals */
#define BACKEND_BUFFER (32 * 1024)
#define WRITE_TIMEOUT  60000 /* ms for an answer of our own */
#define BROKER_TIMEOUT 10000 /* ms for WELCOME, also while a broker is being restarted */
#define LINGER_TIMEOUT 1000  /* ms for the client to take a BYE */
#define REJOIN_PAUSE   1000  /* ms between two tries to reach a broker in mid-session */
#define LINGER_BYTES   65536

enum session_end session_tell(struct session *s, struct span text)
{
	switch (io_write(s->client, text, clock_ms() + WRITE_TIMEOUT)) {
	case 0:
		return END_NONE;
	case -ETIMEDOUT:
		return END_CLIENT_STUCK;
	case -ECANCELED:
		return END_SHUTDOWN;
	default:
		return END_CLIENT_LOST;
	}
}

enum session_end session_told_to_end(const struct session *s)
{
	return s->link.end_reason == END_SHUTDOWN ? END_SHUTDOWN : END_ENDED;
}

void session_say_bye(struct session *s, enum session_end end)
{
	const char *text = s->link.ended && *s->link.end_text ? s->link.end_text : end_bye(end);
	char bytes[300];
	struct buf out = BUF_OVER(bytes);

	if (text && buf_add_str(&out, "* BYE ") == 0 && buf_add_str(&out, text) == 0 &&
	    buf_add_str(&out, "\r\n") == 0)
		(void)io_write_now(s->client, buf_span(&out));
}

enum session_end session_read_client(struct session *s, int64_t deadline,
				     enum session_end on_timeout)
{
	for (;;) {
		int n = io_fill_now(s->client, &s->in);

		if (n > 0)
			return END_NONE;
		if (n == 0)
			return END_CLIENT_CLOSED;
		if (n != -EAGAIN && n != -EINTR)
			return n == -ENOBUFS ? END_INTERNAL : END_CLIENT_LOST;
		struct pollfd fds[] = { { .fd = s->client, .events = POLLIN },
					{ .fd = s->link.sock, .events = POLLIN } };

		n = io_poll(fds, 2, deadline);
		if (n < 0)
			return n == -ECANCELED ? END_SHUTDOWN : END_INTERNAL;
		if (n == 0)
			return on_timeout;
		/* its last word may have come with its end */
		if (fds[1].revents && link_take_pushes(&s->link) < 0 && !s->link.ended &&
		    session_meet_again(s) == END_SHUTDOWN)
			return END_SHUTDOWN;
		if (s->link.ended)
			return session_told_to_end(s);
	}
}

/* The settings' texts must outlive the message. */
static void take_settings(struct session *s, const struct msg_WELCOME *w)
{
	s->settings = *w;
	memcpy(s->hide_capabilities, w->hide_capabilities.p, w->hide_capabilities.n);
	s->settings.hide_capabilities.p = s->hide_capabilities;
	memcpy(s->safe_commands, w->safe_commands.p, w->safe_commands.n);
	s->settings.safe_commands.p = s->safe_commands;
	memcpy(s->chroot_directory, w->chroot_directory.p, w->chroot_directory.n);
	s->chroot_directory[w->chroot_directory.n] = '\0';
	s->settings.chroot_directory.p = s->chroot_directory;
	log_limits((int)w->log_facility, (int)w->log_priority);
}

enum session_end session_hello(struct session *s)
{
	struct msg hello = { .type = MSG_HELLO, .HELLO = s->hello }, reply;
	int fd = -1;

	hello.HELLO.user = (struct span){ s->user, s->user_length };
	int r = link_request(&s->link, &hello, &reply, &fd, clock_ms() + BROKER_TIMEOUT);

	if (r < 0)
		return r == -ECANCELED ? END_SHUTDOWN : END_NO_BROKER;
	if (reply.type == MSG_REFUSED)
		return reply.REFUSED.reason == REFUSAL_LIMIT ? END_TOO_MANY_CLIENTS : END_SHUTDOWN;
	if (reply.type != MSG_WELCOME)
		return END_INTERNAL;
	take_settings(s, &reply.WELCOME);
	return END_NONE;
}

enum session_end session_meet_again(struct session *s)
{
	int64_t deadline = clock_ms() + BROKER_TIMEOUT;
	int door = s->link.door;

	link_close(&s->link);
	while (door >= 0 && clock_ms() < deadline) {
		int r = link_open_by_door(&s->link, door, deadline);

		if (r == -ECANCELED)
			return END_SHUTDOWN;
		if (r < 0)
			break; /* -EPIPE: nobody will ever take what is put through the door */
		enum session_end end = session_hello(s);

		if (end != END_NO_BROKER)
			return end;
		link_close(&s->link); /* that broker died, too */
	}
	return END_NO_BROKER;
}

enum session_end session_rejoin(struct session *s)
{
	struct msg hello = { .type = MSG_HELLO, .HELLO = s->hello };
	int door = s->link.door;

	link_close(&s->link);
	s->rejoin_at = 0;
	if (door < 0)
		return END_NONE;
	int r = link_open_by_door(&s->link, door, clock_ms());

	if (r == -ECANCELED)
		return END_SHUTDOWN;
	if (r == -EPIPE)
		return END_NONE; /* there will be none: the session goes on by itself */
	hello.HELLO.user = (struct span){ s->user, s->user_length };
	if (r < 0 || link_ask(&s->link, &hello) < 0) {
		link_close(&s->link);
		s->rejoin_at = clock_ms() + REJOIN_PAUSE;
	}
	return END_NONE;
}

void session_wipe_credentials(struct session *s)
{
	/* by way of void *: GCC 12 takes the first member for the whole object */
	void *all = &s->credentials;

	explicit_bzero(all, sizeof(s->credentials));
}

static int add_summary(struct session *s, enum session_end end, struct buf *line)
{
	bool served = s->user_length > 0;
	int r;

	(void)((r = buf_add_str(line, "session ended")) ||
	       (r = kv_add_u64(line, "session", s->settings.session)) ||
	       (r = kv_add(line, "reason", span_str(end_word(end)))) ||
	       (r = kv_add(line, "client", s->hello.client)) ||
	       (r = kv_add_u64(line, "port", s->hello.client_port)) ||
	       (r = kv_add_u64(line, "seconds", (uint64_t)(clock_ms() - s->started) / 1000)));
	if (r == 0 && served)
		(void)((r = kv_add(line, "user", (struct span){ s->user, s->user_length })) ||
		       (r = kv_add(line, "host", span_str(s->backend.host))) ||
		       (r = kv_add(line, "reused", s->backend.cached ? SPAN("yes") : SPAN("no"))) ||
		       (r = kv_add(line, "cached",
				   s->not_cached == NOT_CACHED_NOTHING
					   ? SPAN("yes")
					   : span_str(not_cached_word(s->not_cached)))) ||
		       (r = kv_add_u64(line, "from_client", s->from_client)) ||
		       (r = kv_add_u64(line, "from_backend", s->from_backend)));
	return r;
}

/* One line and one TALLY: the line goes with it when the log cannot be reached from here. */
static void report(struct session *s, enum session_end end)
{
	char bytes[1500];
	struct buf line = BUF_OVER(bytes);
	struct msg tally = { .type = MSG_TALLY,
			     .TALLY = { .reason = end,
					.not_cached = s->user_length > 0 ? s->not_cached
									 : NOT_CACHED_COUNT,
					.from_client = s->from_client,
					.from_backend = s->from_backend } };

	if (add_summary(s, end, &line) == 0 &&
	    log_write(end_is_error(end) ? LOG_NOTICE : LOG_INFO, buf_span(&line)) < 0)
		tally.TALLY.line = buf_span(&line);
	(void)link_push(&s->link, &tally, -1);
}

/* Data that the client sent and nobody read would turn the close into a reset, and the BYE would be
 * lost. */
static void linger(struct session *s)
{
	int64_t deadline = clock_ms() + LINGER_TIMEOUT;
	size_t read = 0;

	(void)shutdown(s->client, SHUT_WR);
	while (read < LINGER_BYTES) {
		s->in.off = s->in.len = 0;
		int n = io_fill(s->client, &s->in, deadline);

		if (n <= 0)
			break;
		read += (size_t)n;
	}
}

/* Started by xinetd or systemd as root: not one client byte is read before this. */
static enum session_end give_up_root(const struct session *s)
{
	int r = ids_confine(s->settings.uid, s->settings.gid, s->chroot_directory);

	if (r == 0)
		return END_NONE;
	log_printf(LOG_ERR, "session refused: cannot become uid %u%s%s: %s", s->settings.uid,
		   *s->chroot_directory ? " in chroot_directory " : "", s->chroot_directory,
		   strerror(-r));
	return END_INTERNAL;
}

/* From here on a client that takes this process over has nothing in its hands but its own
 * connections. */
static enum session_end enter_jail(struct session *s)
{
	int log = log_socket();
	int r = jail_enter(&s->client, &s->link.door, &s->link.sock, &log);

	log_set_socket(log);
	s->locked_up = r == 0;
	if (r == 0)
		return END_NONE;
	log_printf(LOG_ERR, "cannot be locked up: %s", strerror(-r));
	return END_INTERNAL;
}

static enum session_end serve(struct session *s, bool *ret_relayed)
{
	enum session_end end = session_hello(s);

	if (end == END_NO_BROKER && s->link.door >= 0)
		end = session_meet_again(s);

	if (end == END_NONE && geteuid() == 0)
		end = give_up_root(s);
	io_no_delay(s->client);
	if (s->settings.tcp_keepalives)
		io_keep_alive(s->client);
	if (end == END_NONE)
		end = enter_jail(s);
	if (end != END_NONE)
		return end;
	s->started = clock_ms();
	end = prelogin_greet(s);
	if (end == END_NONE)
		end = prelogin_run(s);
	if (end != END_NONE)
		return end;
	*ret_relayed = true;
	return relay_run(s);
}

int session_run(int client, struct link *link, const struct msg_HELLO *hello)
{
	static char from_client[CLIENT_BUFFER], from_backend[BACKEND_BUFFER];
	static struct session s;
	bool relayed = false;

	/* member by member: the rest is zero already, and untouched pages cost nothing */
	s.client = client;
	s.link = *link;
	s.hello = *hello;
	s.started = clock_ms();
	s.in = BUF_OVER(from_client);
	s.backend.fd = -1;
	s.backend.in = BUF_OVER(from_backend);
	enum session_end end = serve(&s, &relayed);

	if (!relayed) {
		backend_close(&s.backend, false);
		session_say_bye(&s, end);
	}
	report(&s, end);
	if (s.locked_up && end != END_CLIENT_CLOSED && end != END_CLIENT_LOST)
		linger(&s); /* never before that: this may still be root */
	link_close(&s.link);
	fd_drop(&s.client);
	return end_is_error(end) ? 1 : 0;
}
