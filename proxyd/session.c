/* One client connection from its greeting to its end.
 *
 * The buffers are static: this process serves one client, and pages that are never touched cost
 * nothing.
 */
#include "proxyd/session.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/ids.h"
#include "lib/kv.h"
#include "lib/large.h"
#include "lib/log.h"
#include "lib/msgsock.h"
#include "proxyd/announced.h"
#include "proxyd/backend.h"
#include "proxyd/io.h"
#include "proxyd/jail.h"
#include "proxyd/oldlog.h"
#include "proxyd/pop3.h"
#include "proxyd/pop3_line.h"
#include "proxyd/tls.h"
#include "proxyd/tracer.h"

#define CLIENT_BUFFER  (28 * 1024) /* a whole LOGIN with its literals */
#define BACKEND_BUFFER (64 * 1024) /* more saves nothing, half of it costs a fifth */
#define WRITE_TIMEOUT  60000 /* ms for an answer of our own */
#define BROKER_TIMEOUT 20000 /* ms for WELCOME: a broker that hangs is killed after 10 (units/) */
#define LINGER_TIMEOUT 1000  /* ms for the client to take a BYE */
#define BROKERS_ASKED  3     /* before a client is told that there is none */
#define ASK_PAUSE      250   /* ms before the next one is asked, from BROKERS_ASKED on */
#define REJOIN_PAUSE   1000  /* ms between two tries to reach a broker in mid-session */
#define LINGER_BYTES   65536

/* The steps of a session in each protocol. */
static const struct {
	enum session_end (*greet)(struct session *s);
	enum session_end (*log_in)(struct session *s);
	enum session_end (*relay)(struct session *s);
} protocols[] = {
	[SERVICE_IMAP] = { prelogin_greet, prelogin_run, relay_run },
	[SERVICE_POP3] = { pop3_greet, pop3_run, pop3_relay },
};

enum session_end session_tell(struct session *s, struct span text)
{
	s->told += text.n;
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

void session_tell_last(struct session *s, struct span text)
{
	(void)io_write_last(s->client, text, clock_ms() + WRITE_TIMEOUT);
	s->said_all = true;
}

enum session_end session_told_to_end(const struct session *s)
{
	switch (s->link.end_reason) {
	case END_SHUTDOWN:
	case END_TOO_MANY_CLIENTS:
	case END_TOO_MANY_PER_IP:
	case END_PASSWORD_REFUSED:
	case END_ADDRESS_REFUSED:
	case END_KICKED:
		return s->link.end_reason;
	default:
		return END_ENDED;
	}
}

void session_say_bye(struct session *s, enum session_end end)
{
	const char *text = s->link.ended && *s->link.end_text ? s->link.end_text : end_bye(end);
	char bytes[300];
	struct buf out = BUF_OVER(bytes);

	if (s->client < 0 || s->stream == STREAM_TLS_DUE)
		return; /* there is nobody who understands it */
	if (!text)
		return;
	int r = s->hello.service == SERVICE_POP3 ? buf_add_str(&out, "-ERR ")
						 : buf_add_str(&out, "* BYE ");

	if (r == 0)
		r = s->hello.service == SERVICE_POP3 ? pop3_add_text(&out, span_str(text))
						     : buf_add_str(&out, text);
	if (r == 0 && buf_add_str(&out, "\r\n") == 0)
		(void)io_write_now(s->client, buf_span(&out));
}

enum session_end session_read_client(struct session *s, int64_t deadline,
				     enum session_end on_timeout)
{
	for (;;) {
		int n = io_fill_now(s->client, &s->in);

		if (n > 0) {
			s->heard += (unsigned)n;
			return END_NONE;
		}
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
		    session_meet(s) == END_SHUTDOWN)
			return END_SHUTDOWN;
		if (s->link.ended)
			return session_told_to_end(s);
	}
}

void session_copy_settings(struct session_settings *to, const struct msg_WELCOME *from)
{
	to->values = *from;
	memcpy(to->hide_capabilities, from->hide_capabilities.p, from->hide_capabilities.n);
	to->values.hide_capabilities.p = to->hide_capabilities;
	memcpy(to->safe_commands, from->safe_commands.p, from->safe_commands.n);
	to->values.safe_commands.p = to->safe_commands;
	memcpy(to->allow_addresses, from->allow_addresses.p, from->allow_addresses.n);
	to->values.allow_addresses.p = to->allow_addresses;
	memcpy(to->deny_addresses, from->deny_addresses.p, from->deny_addresses.n);
	to->values.deny_addresses.p = to->deny_addresses;
	memcpy(to->proxy_protocol_addresses, from->proxy_protocol_addresses.p,
	       from->proxy_protocol_addresses.n);
	to->values.proxy_protocol_addresses.p = to->proxy_protocol_addresses;
	memcpy(to->trusted_addresses, from->trusted_addresses.p, from->trusted_addresses.n);
	to->values.trusted_addresses.p = to->trusted_addresses;
	memcpy(to->plaintext_addresses, from->plaintext_addresses.p, from->plaintext_addresses.n);
	to->values.plaintext_addresses.p = to->plaintext_addresses;
	memcpy(to->chroot_directory, from->chroot_directory.p, from->chroot_directory.n);
	to->chroot_directory[from->chroot_directory.n] = '\0';
	to->values.chroot_directory.p = to->chroot_directory;
}

static void take_settings(void *context, const struct msg_WELCOME *welcome)
{
	struct session *s = context;

	session_copy_settings(&s->own_settings, welcome);
	s->settings = &s->own_settings.values;
	s->id = welcome->session;
	log_limits((int)welcome->log_facility, (int)welcome->log_priority);
}

static void take_trace(void *context, int sock)
{
	struct session *s = context;

	tracer_begin(sock, &s->traced);
}

/* On the connected link: takes the settings. */
static enum session_end say_hello(struct session *s, int64_t deadline)
{
	struct msg hello = { .type = MSG_HELLO, .HELLO = s->hello }, reply;
	int fd = -1;
	int r = link_request(&s->link, &hello, &reply, &fd, deadline);

	fd_drop(&fd);
	if (r < 0)
		return r == -ECANCELED ? END_SHUTDOWN : END_NO_BROKER;
	if (reply.type == MSG_REFUSED)
		return link_end_of(reply.REFUSED.reason);
	if (reply.type != MSG_WELCOME)
		return END_INTERNAL;
	take_settings(s, &reply.WELCOME);
	return END_NONE;
}

/* Through the door. Returns as link_knock() does. */
static int knock(struct session *s, uint64_t settings, int64_t deadline)
{
	struct msg m = { .type = MSG_KNOCK,
			       .KNOCK = { .service = s->hello.service,
					  .client_port = s->hello.client_port,
					  .local_port = s->hello.local_port,
					  .announced = s->announced,
					  .settings = settings,
					  .client = s->hello.client,
					  .local = s->hello.local } };

	if (!s->offer.open) /* with an offered connection it may ask for another one */
		m.KNOCK.user = (struct span){ s->user, s->user_length };
	return link_knock(&s->link, &m, deadline);
}

enum session_end session_meet(struct session *s)
{
	link_close(&s->link);
	tls_forget_identity();
	if (s->link.door < 0)
		return END_NO_BROKER;
	switch (knock(s, s->settings->settings, clock_ms() + BROKER_TIMEOUT)) {
	case 0:
		return END_NONE;
	case -ECANCELED:
		return END_SHUTDOWN;
	default: /* -EPIPE: nobody will ever take what is put through the door */
		return END_NO_BROKER;
	}
}

enum session_end session_rejoin(struct session *s)
{
	link_close(&s->link);
	s->rejoin_at = 0;
	if (s->link.door < 0)
		return END_NONE;
	switch (knock(s, s->settings->settings, clock_ms())) {
	case 0:
	case -EPIPE: /* there will be none: the session goes on by itself */
		return END_NONE;
	case -ECANCELED:
		return END_SHUTDOWN;
	default:
		s->rejoin_at = clock_ms() + REJOIN_PAUSE;
		return END_NONE;
	}
}

void session_wipe_credentials(struct session *s)
{
	struct credentials *c = &s->credentials;

	explicit_bzero(c->user, sizeof(c->user));
	explicit_bzero(c->authzid, sizeof(c->authzid));
	explicit_bzero(c->secret, c->secret_touched);
	c->user_length = c->authzid_length = c->secret_length = c->secret_touched = 0;
	c->refusal = 0;
}

static int add_summary(struct session *s, enum session_end end, struct buf *line)
{
	bool served = s->user_length > 0, reused = s->backend.cached && !s->backend.made;
	int r;

	(void)((r = buf_add_str(line, "session ended")) ||
	       (r = s->id > 0 ? kv_add_u64(line, "session", s->id) : 0) ||
	       (r = kv_add(line, "reason", span_str(end_word(end)))) ||
	       (r = kv_add(line, "client", s->hello.client)) ||
	       (r = kv_add_u64(line, "port", s->hello.client_port)) ||
	       (r = s->said.address_length > 0
			    ? kv_add(line, "origin", (struct span){ s->said.address,
								    s->said.address_length })
			    : 0) ||
	       (r = kv_add_u64(line, "seconds", (uint64_t)(clock_ms() - s->started) / 1000)));
	if (r == 0 && served)
		(void)((r = kv_add(line, "user", (struct span){ s->user, s->user_length })) ||
		       (r = kv_add(line, "host", span_str(s->backend.host))) ||
		       (r = kv_add(line, "reused", reused ? SPAN("yes") : SPAN("no"))) ||
		       (r = kv_add(line, "cached",
				   s->not_cached == NOT_CACHED_NOTHING
					   ? SPAN("yes")
					   : span_str(not_cached_word(s->not_cached)))) ||
		       (r = kv_add_u64(line, "from_client", s->from_client)) ||
		       (r = kv_add_u64(line, "from_backend", s->from_backend)));
	size_t known = line->len;

	if (r == 0 && tls_add_facts(line) < 0) /* names of any length: not at the others' cost */
		line->len = known;
	return r;
}

/* The connection goes back, with the session's last word. */
static void give(struct session *s, enum session_end end, struct span line)
{
	struct backend *b = &s->backend;
	struct msg m = { .type = MSG_GIVE,
			 .GIVE = { .reason = end,
				   .select = s->select_use,
				   .from_client = s->from_client,
				   .from_backend = s->from_backend,
				   .line = line } };

	if (!b->cached) /* else the broker has the list already */
		m.GIVE.capabilities = (struct span){ b->capabilities, b->capabilities_length };
	m.GIVE.opening = s->marks.opening;
	if (s->keeps)
		m.GIVE.examined = buf_span(&s->mailbox->kept.text);
	if (link_push(&s->link, &m, b->fd) < 0)
		log_printf(LOG_NOTICE, "session %llu: its connection could not be given back",
			   (unsigned long long)s->id);
	link_close(&s->link);
	backend_close(b, false);
}

/* One log line, and the last word to the broker: the line goes with it when the log cannot be
 * reached from here. */
static void report(struct session *s, enum session_end end)
{
	char bytes[1500];
	struct buf line = BUF_OVER(bytes);

	/* of these the broker has a line for many */
	if (end != END_PROXY_HEADER && end != END_ADDRESS_REFUSED) {
		oldlog_end(s, end);
		if (add_summary(s, end, &line) == 0 &&
		    log_write(end_is_error(end) ? LOG_NOTICE : LOG_INFO, buf_span(&line)) == 0)
			line.len = 0;
	}
	if (s->giving) {
		give(s, end, buf_span(&line));
		return;
	}
	struct msg tally = { .type = MSG_TALLY,
			     .TALLY = { .reason = end,
					.select = s->select_use,
					.not_cached = s->user_length > 0 ? s->not_cached
									 : NOT_CACHED_COUNT,
					.from_client = s->from_client,
					.from_backend = s->from_backend,
					.fingerprint = { s->marks.fingerprint,
							 s->marks.fingerprint_length },
					.line = buf_span(&line) } };

	(void)link_push(&s->link, &tally, -1);
}

/* Data that the client sent and nobody read would turn the close into a reset, and the BYE would be
 * lost. A client that has ended its session itself sends nothing any more: for it nobody waits. */
static void linger(struct session *s, bool waits)
{
	int64_t deadline = clock_ms() + LINGER_TIMEOUT;
	size_t read = 0;

	if (!s->said_all)
		(void)shutdown(s->client, SHUT_WR);
	while (read < LINGER_BYTES) {
		s->in.off = s->in.len = 0;
		int n = waits ? io_fill(s->client, &s->in, deadline)
			      : io_fill_now(s->client, &s->in);

		if (n <= 0)
			break;
		read += (size_t)n;
	}
}

/* Started by xinetd or systemd as root: not one client byte is read before this. */
static enum session_end give_up_root(const struct session *s)
{
	const struct session_settings *settings = &s->own_settings;
	int r = ids_confine(settings->values.uid, settings->values.gid, settings->chroot_directory);

	if (r == 0)
		return END_NONE;
	log_printf(LOG_ERR, "session refused: cannot become uid %u%s%s: %s", settings->values.uid,
		   *settings->chroot_directory ? " in chroot_directory " : "",
		   settings->chroot_directory, strerror(-r));
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

/* Knocks without any settings: the broker sends them, or REFUSED. If it dies over that, the next
 * one is asked. */
static enum session_end ask_for_room(struct session *s)
{
	int64_t deadline = clock_ms() + BROKER_TIMEOUT;
	int r = -ECONNRESET, brokers = 0;

	while (s->id == 0 && !s->link.ended &&
	       (r >= 0 || (r == -ECONNRESET && brokers++ < BROKERS_ASKED))) {
		r = r < 0 ? knock(s, 0, deadline) : io_wait(s->link.sock, POLLIN, deadline);
		if (r == 0 && s->link.sock >= 0)
			r = link_take_pushes(&s->link);
	}
	if (s->link.ended)
		return session_told_to_end(s);
	return r == 0 ? END_NONE : r == -ECANCELED ? END_SHUTDOWN : END_NO_BROKER;
}

/* Behind the jail's door: who the client is, if a proxy says that. Only now do its addresses count.
 * To a broker that has come meanwhile they are its first word. */
static enum session_end hear_header(struct session *s)
{
	enum session_end end = announced_read(s);

	if (end == END_NONE)
		end = say_hello(s, clock_ms() + BROKER_TIMEOUT);
	if (end != END_NO_BROKER || s->link.door < 0)
		return end;
	link_close(&s->link);
	s->id = 0;
	return ask_for_room(s);
}

/* Not in the jail yet: a broker that dies over HELLO is followed by the next one; one that hangs up
 * again and again may be of another version, and on its way out (an upgrade). With WELCOME comes a
 * door, for later. */
static enum session_end hello_anybody(struct session *s, const char *path)
{
	int64_t deadline = clock_ms() + BROKER_TIMEOUT;
	enum session_end end = END_NO_BROKER;

	s->link.takes_door = true;
	for (int i = 0; end == END_NO_BROKER && clock_ms() < deadline; i++) {
		if (i >= BROKERS_ASKED && io_poll(NULL, 0, clock_ms() + ASK_PAUSE) < 0)
			return END_SHUTDOWN;
		link_close(&s->link);
		fd_drop(&s->link.door); /* it may have died with its broker */
		s->link.sock = msgsock_connect(path);
		if (s->link.sock < 0) {
			log_printf(LOG_ERR, "%s: cannot reach the broker: %s", path,
				   strerror(-s->link.sock));
			s->link.sock = -1;
			break;
		}
		end = say_hello(s, deadline);
	}
	s->link.takes_door = false;
	return end;
}

/* A process of its own for one connection: nothing is known yet. */
static enum session_end begin_alone(struct session *s, const char *path)
{
	enum session_end end = hello_anybody(s, path);

	if (end == END_NONE && geteuid() == 0)
		end = give_up_root(s);
	io_no_delay(s->client);
	io_keep_alive(s->client, end == END_NONE && s->settings->tcp_keepalives);
	if (end == END_NONE)
		end = enter_jail(s);
	if (end == END_NONE && announced_is_due(s))
		end = hear_header(s);
	if (end == END_NONE && s->stream == STREAM_TLS_DUE)
		end = tls_begin(s);
	return end == END_NONE ? protocols[s->hello.service].greet(s) : end;
}

/* A listener's child. The client is greeted at once, the broker reads KNOCK meanwhile; TLS comes
 * through the broker. One that may not connect is shown to the broker, too, which counts and logs
 * it. */
static enum session_end begin_in_jail(struct session *s, bool crowded)
{
	enum session_end end = END_NONE;
	bool asks_first =
		crowded || s->stream == STREAM_TLS_DUE || pop3_greets_by_broker(s);

	if (announced_is_due(s))
		end = announced_read(s);
	if (end == END_NONE && !announced_permits(s))
		end = END_ADDRESS_REFUSED;
	if (end != END_NONE && end != END_SHUTDOWN)
		(void)session_rejoin(s);
	if (end != END_NONE)
		return end;
	if (asks_first)
		end = crowded ? ask_for_room(s) : session_meet(s);
	if (end == END_NONE && s->stream == STREAM_TLS_DUE)
		end = tls_begin(s);
	if (end == END_NONE)
		end = protocols[s->hello.service].greet(s);
	return end == END_NONE && !asks_first ? session_meet(s) : end;
}

static enum session_end serve(struct session *s, const struct session_start *start,
			      bool *ret_relayed)
{
	enum session_end end = s->locked_up ? begin_in_jail(s, start->crowded)
					    : begin_alone(s, start->broker_path);

	if (end == END_NONE) {
		oldlog_write(s, OLDLOG_CONNECTED, SPAN_NONE);
		end = protocols[s->hello.service].log_in(s);
	}
	if (end != END_NONE)
		return end;
	*ret_relayed = true;
	return protocols[s->hello.service].relay(s);
}

int session_run(const struct session_start *start)
{
	static LARGE char from_client[CLIENT_BUFFER], from_backend[BACKEND_BUFFER];
	static LARGE struct session_mailbox mailbox;
	static HOT struct session s;
	bool relayed = false;

	/* member by member: the rest is zero already, and untouched pages cost nothing */
	s.client = start->client;
	s.implicit_tls = start->tls;
	s.stream = start->tls ? STREAM_TLS_DUE : STREAM_CLEAR;
	s.link = start->link;
	s.link.take_settings = take_settings;
	s.link.take_trace = take_trace;
	s.link.context = &s;
	s.hello = start->hello;
	s.settings = start->settings ? &start->settings->values : &s.own_settings.values;
	s.locked_up = start->settings != NULL;
	s.started = clock_ms();
	s.in = BUF_OVER(from_client);
	s.mailbox = &mailbox;
	s.backend.fd = -1;
	s.backend.in = BUF_OVER(from_backend);
	enum session_end end = serve(&s, start, &relayed);

	if (!relayed) {
		s.not_cached = end == END_BACKEND_LOST ? NOT_CACHED_BACKEND_GONE : NOT_CACHED_BUSY;
		backend_close(&s.backend, false);
		session_say_bye(&s, end);
	}
	report(&s, end);
	if (s.locked_up && s.client >= 0 && end != END_CLIENT_CLOSED && end != END_CLIENT_LOST &&
	    end != END_ADDRESS_REFUSED && end != END_PROXY_HEADER)
		linger(&s, end != END_LOGOUT); /* never before that: this may still be root */
	link_close(&s.link);
	fd_drop(&s.client);
	return end_is_error(end) ? 1 : 0;
}
