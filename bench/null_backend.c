/* A mail host that costs next to nothing: constant answers, so what is measured is the proxy.
 *
 * One thread, one epoll, any name and password. It understands as much of IMAP as the proxies in
 * front of it need: pipelined commands, literals of both kinds, AUTHENTICATE PLAIN with and
 * without an initial response, IDLE. With -d every answer to LOGIN and AUTHENTICATE comes so many
 * milliseconds late, as from a host that hashes passwords. With a certificate it offers STARTTLS on
 * its port, and TLS from the first byte on another one. With -b every FETCH brings one literal of
 * that size. With -3 it speaks POP3 instead, as much as a login and STAT need. It trusts its peers:
 * this is no server for anything but a bench. Says "ready" on its standard output when it listens.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "bench/stream.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/fd.h"

#define EVENTS	  256
#define LINE_MOST 8192
#define OUT_MOST  16384
#define BACKLOG	  4096
#define MESSAGES  20
#define BODY_LINE 64 /* bytes */

#define CAPABILITIES "IMAP4rev1 SASL-IR LITERAL+ ID IDLE ENABLE NAMESPACE UNSELECT"

enum mode { COMMAND, LITERAL, RESPONSE, IDLING, SENDING };

/* What a command leads to, beside -errno. */
enum outcome { GO_ON, LATER, THE_END, TLS_NOW };

struct conn {
	struct stream stream;
	bool greeted;
	enum mode mode;
	uint64_t literal; /* bytes still to be skipped */
	uint64_t bulk;	  /* bytes of the body still to be sent */
	char tag[32];	  /* of the command that AUTHENTICATE, IDLE or a body began */
	struct buf in;
	char bytes[LINE_MOST];
	/* an answer that waits for its time; nothing is read meanwhile */
	int64_t due;
	struct conn *later;
};

static int epoll;
static int64_t delay_ms;
static bool offers_tls;
static bool pop3;
static uint64_t bulk; /* bytes of the body that FETCH brings; 0: envelopes instead */
static char body[64 * 1024];
static struct conn *delayed, **delayed_end = &delayed;
static char envelopes[OUT_MOST];
static struct buf out;
static char out_bytes[OUT_MOST];

/* --- answers --------------------------------------------------------------------------------- */

/* Some 5 kB, about what a real server says of twenty ordinary messages. */
static void make_envelopes(void)
{
	size_t n = 0;

	for (int i = 1; i <= MESSAGES; i++)
		n += (size_t)snprintf(
			envelopes + n, sizeof(envelopes) - n,
			"* %d FETCH (FLAGS (\\Seen) ENVELOPE (\"Mon, 6 Jan 2025 10:00:%02d +0000\" "
			"\"Message %d about the meeting\" ((\"Some Sender\" NIL \"sender%d\" "
			"\"example.test\")) ((NIL NIL \"sender%d\" \"example.test\")) NIL "
			"((NIL NIL \"user\" \"example.test\")) NIL NIL NIL "
			"\"<%d.1736157600@example.test>\"))\r\n",
			i, i, i, i, i, i);
}

static void make_body(void)
{
	for (size_t n = 0; n < sizeof(body); n++)
		body[n] = (char)('a' + n % 26);
	for (size_t n = BODY_LINE; n <= sizeof(body); n += BODY_LINE)
		memcpy(body + n - 2, "\r\n", 2);
}

static const struct answer {
	struct span verb;
	const char *untagged;
	const char *tagged; /* after the tag */
} answers[] = {
	{ SPAN("LOGIN"), "", "OK [CAPABILITY " CAPABILITIES "] Logged in\r\n" },
	{ SPAN("NOOP"), "", "OK NOOP completed\r\n" },
	{ SPAN("SELECT"),
	  "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)\r\n"
	  "* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft \\*)] Flags.\r\n"
	  "* 20 EXISTS\r\n* 0 RECENT\r\n* OK [UIDVALIDITY 1736157600] UIDs valid\r\n"
	  "* OK [UIDNEXT 21] Predicted next UID\r\n",
	  "OK [READ-WRITE] Select completed\r\n" },
	{ SPAN("FETCH"), envelopes, "OK Fetch completed\r\n" },
	{ SPAN("FETCH ended"), "", "OK Fetch completed\r\n" },
	{ SPAN("UNSELECT"), "", "OK Unselect completed\r\n" },
	{ SPAN("CAPABILITY"), "* CAPABILITY " CAPABILITIES " AUTH=PLAIN\r\n", "OK Done\r\n" },
	{ SPAN("CAPABILITY in the clear"),
	  "* CAPABILITY " CAPABILITIES " AUTH=PLAIN STARTTLS\r\n", "OK Done\r\n" },
	{ SPAN("STARTTLS"), "", "OK Begin TLS negotiation now\r\n" },
	{ SPAN("ID"), "* ID (\"name\" \"null\")\r\n", "OK ID completed\r\n" },
	{ SPAN("NAMESPACE"), "* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n", "OK Done\r\n" },
	{ SPAN("LOGOUT"), "* BYE Logging out\r\n", "OK Logout completed\r\n" },
};

static int add_answer(struct span tag, struct span verb)
{
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		const struct answer *a = &answers[i];

		if (span_ieq(a->verb, verb))
			return buf_add_str(&out, a->untagged) ?: buf_add(&out, tag) ?:
			       buf_add_char(&out, ' ') ?: buf_add_str(&out, a->tagged);
	}
	return buf_add(&out, tag) ?: buf_add_str(&out, " BAD Unknown command\r\n");
}

/* With POP3: what a command's name is answered with. */
static const struct {
	struct span verb;
	const char *text;
} pop3_answers[] = {
	{ SPAN("USER"), "+OK\r\n" },
	{ SPAN("PASS"), "+OK Logged in.\r\n" },
	{ SPAN("STAT"), "+OK 20 5120\r\n" },
	{ SPAN("NOOP"), "+OK\r\n" },
	{ SPAN("CAPA"), "+OK\r\nUSER\r\nTOP\r\nUIDL\r\nPIPELINING\r\n.\r\n" },
	{ SPAN("QUIT"), "+OK Logging out.\r\n" },
};

/* As take_line(). */
static int answer_pop3(struct span line)
{
	struct span verb = span_word(&line, ' ');
	const char *text = "-ERR Unknown command.\r\n";

	for (size_t i = 0; i < sizeof(pop3_answers) / sizeof(pop3_answers[0]); i++)
		if (span_ieq(pop3_answers[i].verb, verb))
			text = pop3_answers[i].text;
	return buf_add_str(&out, text) ?: span_ieq(verb, SPAN("QUIT")) ? THE_END : GO_ON;
}

/* --- connections ----------------------------------------------------------------------------- */
static void end_conn(struct conn *c)
{
	stream_close(&c->stream);
	free(c);
}

/* A peer that does not read its answers has no place in a bench: it is cut off. */
static int flush(struct conn *c)
{
	ssize_t n = out.len ? stream_send(&c->stream, buf_span(&out).p, out.len) : 0;
	bool all = n == (ssize_t)out.len;

	buf_consume(&out, out.len);
	return all ? 0 : -EPIPE;
}

/* The tag is kept for what comes after other lines. */
static int keep_tag(struct conn *c, struct span tag)
{
	if (tag.n >= sizeof(c->tag))
		return -EBADMSG;
	memcpy(c->tag, tag.p, tag.n);
	c->tag[tag.n] = '\0';
	return 0;
}

static bool ends_with_literal(struct span line, uint64_t *size, bool *waits)
{
	if (line.n < 3 || line.p[line.n - 1] != '}')
		return false;
	const char *open = memrchr(line.p, '{', line.n);

	if (!open)
		return false;
	struct span digits = { open + 1, (size_t)(line.p + line.n - open) - 2 };

	*waits = digits.n == 0 || digits.p[digits.n - 1] != '+';
	digits.n -= !*waits;
	return span_u64(digits, 1000000, size) == 0;
}

static int watch(struct conn *c, int how, uint32_t events)
{
	struct epoll_event event = { .events = events, .data = { .ptr = c } };

	return epoll_ctl(epoll, how, c->stream.fd, &event) < 0 ? -errno : 0;
}

/* The whole command is there. */
static int finish(struct conn *c, struct span verb)
{
	bool is_login = span_ieq(verb, SPAN("LOGIN"));

	if (is_login && delay_ms > 0)
		return LATER;
	int r = add_answer(span_str(c->tag), verb);

	if (r < 0)
		return r;
	if (span_ieq(verb, SPAN("STARTTLS")))
		return TLS_NOW;
	return span_ieq(verb, SPAN("LOGOUT")) ? THE_END : GO_ON;
}

/* Announces the body. It goes out as there is room in the socket; nothing is read meanwhile. */
static int begin_body(struct conn *c)
{
	c->mode = SENDING;
	c->bulk = bulk;
	return buf_add_str(&out, "* 1 FETCH (BODY[] {") ?: buf_add_u64(&out, bulk) ?:
	       buf_add_str(&out, "}\r\n") ?: watch(c, EPOLL_CTL_MOD, EPOLLOUT);
}

/* The socket has room. The end of the answer waits for the next time, when it has enough. */
static int send_body(struct conn *c)
{
	bool ended = c->bulk == 0;

	while (c->bulk > 0) {
		size_t piece = c->bulk < sizeof(body) ? (size_t)c->bulk : sizeof(body);
		ssize_t n = stream_send(&c->stream, body, piece);

		if (n < 0)
			return n == -EAGAIN ? 0 : (int)n;
		c->bulk -= (size_t)n;
	}
	if (!ended)
		return 0;
	c->mode = COMMAND;
	return buf_add_str(&out, ")\r\n") ?: add_answer(span_str(c->tag), SPAN("FETCH ended")) ?:
	       watch(c, EPOLL_CTL_MOD, EPOLLIN);
}

static int begin_command(struct conn *c, struct span line)
{
	struct span rest = line;
	int r = keep_tag(c, span_word(&rest, ' '));
	struct span verb = span_word(&rest, ' ');

	if (r < 0)
		return r;
	if (span_ieq(verb, SPAN("IDLE"))) {
		c->mode = IDLING;
		return buf_add_str(&out, "+ idling\r\n");
	}
	if (bulk > 0 && span_ieq(verb, SPAN("FETCH")))
		return begin_body(c);
	if (offers_tls && !c->stream.tls && span_ieq(verb, SPAN("CAPABILITY")))
		return finish(c, SPAN("CAPABILITY in the clear"));
	if (!span_ieq(verb, SPAN("AUTHENTICATE")))
		return finish(c, verb);
	(void)span_word(&rest, ' '); /* the mechanism: PLAIN */
	if (rest.n > 0)
		return finish(c, SPAN("LOGIN"));
	c->mode = RESPONSE;
	return buf_add_str(&out, "+ \r\n");
}

static int take_line(struct conn *c, struct span line)
{
	enum mode mode = c->mode;
	bool waits;

	if (pop3)
		return answer_pop3(line);
	c->mode = COMMAND;
	if (mode == RESPONSE)
		return finish(c, SPAN("LOGIN"));
	if (mode == IDLING)
		return finish(c, SPAN("NOOP"));
	if (ends_with_literal(line, &c->literal, &waits)) {
		/* only LOGIN comes with literals here */
		struct span rest = line;
		int r = mode == COMMAND ? keep_tag(c, span_word(&rest, ' ')) : 0;

		c->mode = LITERAL;
		return r ?: waits ? buf_add_str(&out, "+ go on\r\n") : 0;
	}
	return mode == LITERAL ? finish(c, SPAN("LOGIN")) : begin_command(c, line);
}

/* Everything that is in the buffer. As take_line(). */
static int serve_buffer(struct conn *c)
{
	for (;;) {
		struct span all = buf_span(&c->in);
		size_t skipped = c->literal < all.n ? c->literal : all.n;
		const char *end;

		c->literal -= skipped;
		buf_consume(&c->in, skipped);
		all = buf_span(&c->in);
		if (c->mode == SENDING || c->literal > 0 || !(end = memchr(all.p, '\n', all.n)))
			return GO_ON;
		size_t n = (size_t)(end - all.p);
		int r = take_line(c, (struct span){ all.p, n > 0 && end[-1] == '\r' ? n - 1 : n });

		buf_consume(&c->in, n + 1);
		if (r != 0)
			return r;
	}
}

static void delay(struct conn *c)
{
	(void)watch(c, EPOLL_CTL_DEL, 0);
	c->due = clock_ms() + delay_ms;
	c->later = NULL;
	*delayed_end = c;
	delayed_end = &c->later;
}

/* Serves what is in the buffer. -errno: the connection is to be closed. */
static int go_on(struct conn *c)
{
	int r = serve_buffer(c);

	if (flush(c) < 0 || r == THE_END)
		return -EPIPE;
	if (r == LATER)
		delay(c);
	return r == TLS_NOW ? stream_start_tls(&c->stream) : r < 0 ? r : 0;
}

static int greet(struct conn *c)
{
	c->greeted = true;
	if (pop3)
		return buf_add_str(&out, "+OK ready\r\n") ?: flush(c);
	return buf_add_str(&out, "* OK [CAPABILITY " CAPABILITIES " AUTH=PLAIN") ?:
	       buf_add_str(&out, offers_tls && !c->stream.tls ? " STARTTLS" : "") ?:
	       buf_add_str(&out, "] ready\r\n") ?: flush(c);
}

static int on_input(struct conn *c)
{
	do {
		size_t room;
		char *tail = buf_tail(&c->in, &room);
		ssize_t n = stream_recv(&c->stream, tail, room);

		if (n <= 0)
			return n == -EAGAIN ? 0 : n == 0 ? -ECONNRESET : (int)n;
		buf_filled(&c->in, (size_t)n);
		int r = go_on(c);

		if (r < 0)
			return r;
	} while (c->mode != SENDING && stream_has_more(&c->stream));
	return 0;
}

static int on_event(struct conn *c)
{
	int r = stream_handshake(&c->stream);

	if (r < 0)
		return r == -EAGAIN ? 0 : r;
	if (!c->greeted)
		r = greet(c);
	if (c->mode == SENDING)
		return send_body(c) ?: c->mode == COMMAND ? go_on(c) : 0;
	return r ?: on_input(c);
}

/* Answers what is due. Returns the milliseconds to the next one, -1 for none. */
static int answer_delayed(void)
{
	int64_t now = delayed ? clock_ms() : 0;

	while (delayed && delayed->due <= now) {
		struct conn *c = delayed;

		delayed = c->later;
		if (!delayed)
			delayed_end = &delayed;
		if (add_answer(span_str(c->tag), SPAN("LOGIN")) < 0 ||
		    watch(c, EPOLL_CTL_ADD, EPOLLIN) < 0 || go_on(c) < 0)
			end_conn(c);
	}
	return delayed ? (int)(delayed->due - now) : -1;
}

struct listener {
	int fd;
	bool tls; /* from the first byte */
};

static void on_connect(const struct listener *l)
{
	int fd, one = 1;

	while ((fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct conn *c = calloc(1, sizeof(*c));

		if (!c) {
			close(fd);
			continue;
		}
		c->stream.fd = fd;
		c->in = BUF_OVER(c->bytes);
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		if (watch(c, EPOLL_CTL_ADD, EPOLLIN) < 0 ||
		    (l->tls ? stream_start_tls(&c->stream) : greet(c)) < 0)
			end_conn(c);
	}
}

/* --- start ----------------------------------------------------------------------------------- */
static struct listener listeners[2]; /* without TLS at first, and with */

static int listen_on(struct listener *l, uint16_t port)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_port = htons(port),
				       .sin_addr = { htonl(INADDR_LOOPBACK) } };
	struct epoll_event event = { .events = EPOLLIN, .data = { .ptr = l } };
	int one = 1;
	AUTO_FD fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, BACKLOG) < 0 ||
	    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		return -errno;
	l->fd = take_fd(&fd);
	return 0;
}

static const char usage[] =
	"usage: null_backend -p PORT [-d MILLISECONDS] [-b BYTES] [-3]\n"
	"                    [-c CERTIFICATE -k KEY [-t TLS_PORT]]\n";

static uint64_t number(const char *text, uint64_t most)
{
	uint64_t value;

	if (span_u64(span_str(text), most, &value) == 0)
		return value;
	fputs(usage, stderr);
	exit(2);
}

static int start(uint16_t port, uint16_t tls_port, const char *cert, const char *key)
{
	make_envelopes();
	make_body();
	out = BUF_OVER(out_bytes);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	offers_tls = cert && key;
	listeners[1].tls = true;
	if (epoll < 0)
		return -errno;
	return (offers_tls ? stream_init_server(cert, key) : 0) ?: listen_on(&listeners[0], port) ?:
	       tls_port > 0 ? listen_on(&listeners[1], tls_port) : 0;
}

static void run(void)
{
	struct epoll_event events[EVENTS];

	for (;;) {
		int n = epoll_wait(epoll, events, EVENTS, answer_delayed());

		for (int i = 0; i < n; i++) {
			void *who = events[i].data.ptr;

			if (who == &listeners[0] || who == &listeners[1])
				on_connect(who);
			else if (on_event(who) < 0)
				end_conn(who);
		}
	}
}

int main(int argc, char **argv)
{
	const char *cert = NULL, *key = NULL;
	uint16_t port = 0, tls_port = 0;
	int option;

	while ((option = getopt(argc, argv, "p:d:b:c:k:t:3")) != -1) {
		if (option == 'p' || option == 't')
			*(option == 'p' ? &port : &tls_port) = (uint16_t)number(optarg, 65535);
		else if (option == 'd')
			delay_ms = (int64_t)number(optarg, 60000);
		else if (option == '3')
			pop3 = true;
		else if (option == 'b')
			bulk = number(optarg, UINT32_MAX);
		else if (option == 'c' || option == 'k')
			*(option == 'c' ? &cert : &key) = optarg;
		else
			port = 0;
	}
	if (port == 0 || (tls_port > 0 && !(cert && key))) {
		fputs(usage, stderr);
		return 2;
	}
	int r = start(port, tls_port, cert, key);

	if (r < 0) {
		fprintf(stderr, "null_backend: %s\n", strerror(-r));
		return 1;
	}
	puts("ready");
	fflush(stdout);
	run();
}
