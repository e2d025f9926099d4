/* The load generator: K clients at once, each doing the webmail cycle again and again.
 *
 * A cycle is connect, greeting, LOGIN, SELECT INBOX (or EXAMINE), FETCH 1:20 (FLAGS ENVELOPE),
 * LOGOUT, close; its user is drawn anew, the n-th user with a probability proportional to 1/n. One
 * process and one epoll: K processes would take the CPU that is to be measured. The client is an
 * ordinary one: it acknowledges when its kernel likes to, since the 40 ms that Nagle's algorithm
 * costs a careless server are only seen that way. What a step must contain is checked: a fast wrong
 * answer is an error. Prints one JSON object on one line; latencies are in microseconds. With TLS
 * the handshake is part of the greeting's step. With -b the FETCH is one of a literal of that size.
 * With -P the cycle is one of POP3: connect, greeting, USER, PASS, STAT, QUIT, close; PASS is its
 * login.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "bench/hist.h"
#include "bench/stream.h"
#include "lib/buf.h"

#define SECOND	  1000000u
#define PATIENCE  (20 * SECOND) /* a step that takes longer is an error */
#define RUN_OUT	  (5 * SECOND)	/* after the end, for cycles that are under way */
#define LINE_MOST 32768
#define EVENTS	  256

enum step { GREETING, LOGIN, SELECT, FETCH, LOGOUT, STEPS };

struct step_row {
	const char *name;
	const char *command; /* '%' stands for the user's name, '$' for the password */
};

static const struct step_row imap_steps[STEPS] = {
	[GREETING] = { "greeting", NULL },
	[LOGIN] = { "login", "LOGIN % $" },
	[SELECT] = { "select", "SELECT INBOX" },
	[FETCH] = { "fetch", "FETCH 1:20 (FLAGS ENVELOPE)" },
	[LOGOUT] = { "logout", "LOGOUT" },
};

/* As many steps as with IMAP, each with an answer of one line. */
static const struct step_row pop3_steps[STEPS] = {
	{ "greeting", NULL }, { "user", "USER %" }, { "login", "PASS $" },
	{ "stat", "STAT" },   { "quit", "QUIT" },
};

struct client {
	struct stream stream;
	bool connecting; /* TLS begins when the connection is there */
	enum step step;
	uint64_t begun;	  /* the cycle */
	uint64_t stepped; /* the step */
	unsigned user;
	unsigned messages; /* FETCH replies seen */
	uint64_t literal;  /* bytes of it that are still to come */
	struct buf in;
	char bytes[LINE_MOST];
};

static struct {
	struct sockaddr_in server;
	unsigned clients;
	unsigned users;
	unsigned messages;
	uint64_t seconds;
	uint64_t cycles_most; /* 0: as many as there is time for */
	uint64_t seed;
	bool in_turn; /* users one after the other, not drawn: to fill a cache */
	bool examine; /* instead of SELECT */
	bool tls;
	bool pop3;
	const struct step_row *step; /* of the protocol */
	enum step steps;	     /* of a cycle */
	uint64_t bulk; /* bytes of the literal that FETCH must bring; 0: messages instead */
	const char *user;
	const char *password;
} options = { .clients = 8,
	      .users = 1000,
	      .messages = 20,
	      .seconds = 5,
	      .seed = 1,
	      .step = imap_steps,
	      .steps = STEPS,
	      .user = "user%",
	      .password = "secret%" };

static struct {
	int epoll;
	uint64_t end;	  /* no cycle begins after this */
	uint64_t begun;	  /* cycles */
	uint64_t done;	  /* cycles, those that ended after `end` included */
	uint64_t in_time; /* cycles that ended before `end` */
	uint64_t reused;  /* logins that said XPROXYREUSE */
	uint64_t failures[STEPS];
	unsigned active;
	struct hist whole;
	struct hist latency[STEPS];
	double *zipf; /* the sum of the weights up to each user */
} state;

/* --- which user ------------------------------------------------------------------------------ */

/* A number of [0, 1): xorshift64*, so that a seed gives the same users everywhere. */
static double draw(void)
{
	options.seed ^= options.seed >> 12;
	options.seed ^= options.seed << 25;
	options.seed ^= options.seed >> 27;
	return (double)((options.seed * 2685821657736338717u) >> 11) / 9007199254740992.0;
}

static int weigh_users(void)
{
	double sum = 0;

	state.zipf = calloc(options.users, sizeof(*state.zipf));
	if (!state.zipf)
		return -ENOMEM;
	for (unsigned n = 0; n < options.users; n++)
		state.zipf[n] = sum += 1.0 / (n + 1);
	return 0;
}

static unsigned draw_user(void)
{
	double wanted = draw() * state.zipf[options.users - 1];
	unsigned low = 0, high = options.users - 1;

	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (state.zipf[middle] <= wanted)
			low = middle + 1;
		else
			high = middle;
	}
	return low + 1;
}

/* --- one cycle ------------------------------------------------------------------------------- */

/* Adds the pattern, its '%' replaced by the number. */
static int add_pattern(struct buf *out, const char *pattern, unsigned number)
{
	int r = 0;

	for (; *pattern && r == 0; pattern++)
		r = *pattern == '%' ? buf_add_u64(out, number) : buf_add_char(out, *pattern);
	return r;
}

static int send_command(struct client *c)
{
	char bytes[1024];
	struct buf out = BUF_OVER(bytes);
	const char *command = options.step[c->step].command;
	int r = 0;

	if (!options.pop3)
		r = buf_add_char(&out, 'a')
			    ?: buf_add_u64(&out, c->step) ?: buf_add_char(&out, ' ');
	if (c->step == SELECT && options.examine)
		command = "EXAMINE INBOX";
	if (c->step == FETCH && options.bulk > 0)
		command = "FETCH 1 BODY.PEEK[]";
	for (const char *p = command; *p && r == 0; p++) {
		if (*p == '%')
			r = add_pattern(&out, options.user, c->user);
		else if (*p == '$')
			r = add_pattern(&out, options.password, c->user);
		else
			r = buf_add_char(&out, *p);
	}
	r = r ?: buf_add_str(&out, "\r\n");
	if (r < 0)
		return r;
	return stream_send(&c->stream, buf_span(&out).p, out.len) == (ssize_t)out.len ? 0 : -EPIPE;
}

static int watch(struct client *c, int how, uint32_t events)
{
	struct epoll_event event = { .events = events, .data = { .ptr = c } };

	return epoll_ctl(state.epoll, how, c->stream.fd, &event) < 0 ? -errno : 0;
}

static int begin_cycle(struct client *c)
{
	int one = 1;

	c->begun = c->stepped = hist_now();
	c->step = GREETING;
	c->messages = 0;
	c->literal = 0;
	c->connecting = options.tls;
	c->user = options.in_turn ? (unsigned)((state.begun - 1) % options.users) + 1 : draw_user();
	c->in = BUF_OVER(c->bytes);
	c->stream.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->stream.fd < 0)
		return -errno;
	(void)setsockopt(c->stream.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(c->stream.fd, (struct sockaddr *)&options.server, sizeof(options.server)) < 0 &&
	    errno != EINPROGRESS)
		return -errno;
	return (options.tls ? stream_start_tls(&c->stream) : 0) ?:
	       watch(c, EPOLL_CTL_ADD, options.tls ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void end_cycle(struct client *c, bool good);

/* Begins the client's next cycle, if there is to be one. One that cannot begin for want of a socket
 * or a port ends the client. */
static void go_on(struct client *c)
{
	state.active--;
	if (hist_now() >= state.end ||
	    (options.cycles_most > 0 && state.begun >= options.cycles_most))
		return;
	state.begun++;
	if (begin_cycle(c) == 0) {
		state.active++;
		return;
	}
	stream_close(&c->stream);
	state.failures[GREETING]++;
}

static void end_cycle(struct client *c, bool good)
{
	uint64_t now = hist_now();

	stream_close(&c->stream);
	if (good) {
		hist_add(&state.whole, now - c->begun);
		state.done++;
		state.in_time += now <= state.end;
	} else {
		state.failures[c->step]++;
	}
	go_on(c);
}

/* The literal that a FETCH reply ends with must be of the size that was asked for. */
static int announced(struct client *c, struct span line)
{
	const char *open = memrchr(line.p, '{', line.n);
	struct span digits = open ? span_from(line, (size_t)(open - line.p) + 1) : SPAN("");

	return span_u64(span_word(&digits, '}'), options.bulk, &c->literal) == 0 &&
			       c->literal == options.bulk ?
		       0 :
		       -EPROTO;
}

/* One line of the server: -EPROTO for one that should not be, 1 when it ends the step. */
static int take_line(struct client *c, struct span line)
{
	const char tagged[] = { 'a', (char)('0' + c->step), ' ' };

	if (options.pop3)
		return span_istarts(line, SPAN("+OK")) ? 1 : -EPROTO;
	if (c->step == GREETING)
		return span_istarts(line, SPAN("* OK")) ? 1 : -EPROTO;
	if (line.n > 2 && line.p[0] == '*') {
		c->messages += c->step == FETCH && span_ihas(line, SPAN(" FETCH ("));
		state.reused += c->step == LOGIN && span_ihas(line, SPAN("XPROXYREUSE"));
		if (options.bulk > 0 && c->step == FETCH)
			return announced(c, line);
		return c->step != LOGOUT && span_istarts(line, SPAN("* BYE")) ? -EPROTO : 0;
	}
	if (line.n < 6 || memcmp(line.p, tagged, sizeof(tagged)) != 0)
		return c->step == FETCH ? 0 : -EPROTO; /* a literal's lines belong to FETCH */
	if (!span_istarts(span_from(line, sizeof(tagged)), SPAN("OK")))
		return -EPROTO;
	return c->step == FETCH && c->messages != options.messages ? -EPROTO : 1;
}

static int next_step(struct client *c)
{
	uint64_t now = hist_now();

	hist_add(&state.latency[c->step], now - c->stepped);
	c->stepped = now;
	if (++c->step < options.steps)
		return send_command(c);
	return 0;
}

/* Everything that is in the buffer, as serve(). */
static int serve_buffer(struct client *c)
{
	for (;;) {
		size_t skipped = c->literal < c->in.len ? (size_t)c->literal : c->in.len;

		buf_consume(&c->in, skipped);
		c->literal -= skipped;
		struct span all = buf_span(&c->in);
		const char *end = memchr(all.p, '\n', all.n);

		if (c->literal > 0 || !end)
			return 0;
		int r = take_line(c, (struct span){ all.p, (size_t)(end - all.p) });

		buf_consume(&c->in, (size_t)(end - all.p) + 1);
		if (r == 1)
			r = next_step(c);
		if (r < 0)
			return r;
		if (c->step == options.steps)
			return 1;
	}
}

/* Reads what has come. 0: go on; 1: the cycle is done; -errno. */
static int serve(struct client *c)
{
	int r = c->connecting ? watch(c, EPOLL_CTL_MOD, EPOLLIN) : 0;

	c->connecting = false;
	r = r ?: stream_handshake(&c->stream);
	if (r < 0)
		return r == -EAGAIN ? 0 : r;
	do {
		size_t room;
		char *tail = buf_tail(&c->in, &room);
		ssize_t n = stream_recv(&c->stream, tail, room);

		if (n < 0)
			return n == -EAGAIN ? 0 : (int)n;
		if (n == 0)
			return -ECONNRESET; /* also: a line longer than the buffer */
		buf_filled(&c->in, (size_t)n);
		r = serve_buffer(c);
	} while (r == 0 && stream_has_more(&c->stream));
	return r;
}

/* --- all clients ----------------------------------------------------------------------------- */
static void give_up_slow(struct client *all)
{
	uint64_t now = hist_now();

	for (unsigned n = 0; n < options.clients; n++)
		if (all[n].stream.fd >= 0 && now - all[n].stepped > PATIENCE)
			end_cycle(&all[n], false);
}

static void run(struct client *all)
{
	struct epoll_event events[EVENTS];
	uint64_t looked = hist_now();

	for (unsigned n = 0; n < options.clients; n++) {
		all[n].stream.fd = -1;
		state.active++;
		go_on(&all[n]);
	}
	while (state.active > 0 && hist_now() < state.end + RUN_OUT) {
		int n = epoll_wait(state.epoll, events, EVENTS, 100);

		for (int i = 0; i < n; i++) {
			struct client *c = events[i].data.ptr;
			int r = serve(c);

			if (r != 0)
				end_cycle(c, r == 1);
		}
		if (hist_now() - looked > SECOND) {
			looked = hist_now();
			give_up_slow(all);
		}
	}
	for (unsigned n = 0; n < options.clients; n++)
		state.failures[all[n].step % STEPS] += all[n].stream.fd >= 0;
}

static void report(double seconds)
{
	uint64_t errors = 0;

	for (unsigned n = 0; n < STEPS; n++)
		errors += state.failures[n];
	printf("{\"cycles\":%" PRIu64 ",\"per_second\":%.1f,\"errors\":%" PRIu64
	       ",\"reused\":%" PRIu64 ",\"failed_at\":{",
	       state.done, (double)state.in_time / seconds, errors, state.reused);
	for (unsigned n = 0; n < STEPS; n++)
		printf("%s\"%s\":%" PRIu64, n ? "," : "", options.step[n].name, state.failures[n]);
	printf("},\"us\":{");
	for (unsigned n = 0; n < STEPS; n++) {
		hist_print(stdout, options.step[n].name, &state.latency[n]);
		putchar(',');
	}
	hist_print(stdout, "whole", &state.whole);
	puts("}}");
}

/* --- options --------------------------------------------------------------------------------- */
static const char usage[] =
	"usage: load [-h ADDRESS] -p PORT [-k CLIENTS] [-n USERS] [-t SECONDS] [-c CYCLES]\n"
	"            [-u NAME] [-w PASSWORD] [-m MESSAGES] [-s SEED] [-b BYTES] [-oegTP]\n"
	"NAME and PASSWORD are patterns: % is the user's number. MESSAGES: what FETCH must bring.\n"
	"-o: the users one after the other. -e: EXAMINE, not SELECT. -T: TLS.\n"
	"-g: a cycle ends with the greeting. -b: FETCH must bring a literal of BYTES. -P: POP3.\n";

static uint64_t number(const char *text, uint64_t most)
{
	uint64_t value;

	if (span_u64(span_str(text), most, &value) == 0)
		return value;
	fputs(usage, stderr);
	exit(2);
}

static void take_option(int option)
{
	switch (option) {
	case 'h':
		if (inet_pton(AF_INET, optarg, &options.server.sin_addr) == 1)
			return;
		break;
	case 'p':
		options.server.sin_port = htons((uint16_t)number(optarg, 65535));
		return;
	case 'k':
		options.clients = (unsigned)number(optarg, 15000);
		return;
	case 'n':
		options.users = (unsigned)number(optarg, 1000000);
		return;
	case 't':
		options.seconds = number(optarg, 3600);
		return;
	case 'c':
		options.cycles_most = number(optarg, UINT32_MAX);
		return;
	case 'm':
		options.messages = (unsigned)number(optarg, 20);
		return;
	case 's':
		options.seed = number(optarg, UINT32_MAX) + 1;
		return;
	case 'o':
		options.in_turn = true;
		return;
	case 'e':
		options.examine = true;
		return;
	case 'T':
		options.tls = true;
		return;
	case 'P':
		options.pop3 = true;
		options.step = pop3_steps;
		return;
	case 'g':
		options.steps = GREETING + 1;
		return;
	case 'b':
		options.bulk = number(optarg, UINT32_MAX);
		options.messages = 1;
		return;
	case 'u':
		options.user = optarg;
		return;
	case 'w':
		options.password = optarg;
		return;
	}
	fputs(usage, stderr);
	exit(2);
}

int main(int argc, char **argv)
{
	int option;

	options.server.sin_family = AF_INET;
	options.server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	while ((option = getopt(argc, argv, "h:p:k:n:t:c:m:s:b:u:w:oegTP")) != -1)
		take_option(option);
	if (!options.server.sin_port || !options.clients || !options.users || !options.seconds) {
		fputs(usage, stderr);
		return 2;
	}
	state.epoll = epoll_create1(EPOLL_CLOEXEC);
	struct client *all = calloc(options.clients, sizeof(*all));

	if (state.epoll < 0 || !all || weigh_users() < 0 ||
	    (options.tls && stream_init_client() < 0)) {
		perror("load");
		return 1;
	}
	uint64_t begin = hist_now();

	state.end = begin + options.seconds * SECOND;
	run(all);
	uint64_t took = hist_now() - begin;

	if (took > options.seconds * SECOND)
		took = options.seconds * SECOND;
	report((double)took / SECOND);
	free(all);
	return 0;
}
