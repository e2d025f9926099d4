/* Pairs of lease and give against a running broker: K sessions at once, no IMAP between.
 *
 * Each session does what the broker's rules ask of a real one: HELLO, LEASE, RETURNING, GIVE, close
 * (and OUTCOME for a new connection); one pair is all that a session may do. With -e the sessions
 * are connected and have said HELLO before the clock starts, in batches, so that only LEASE to GIVE
 * is timed. The mail host behind the broker must greet, since a connection with unread bytes is
 * never cached; nobody logs in to it. Users take turns, so that a user's connection is back before
 * it is leased again. Prints one JSON object on one line; latencies are in microseconds.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "bench/hist.h"
#include "lib/buf.h"
#include "lib/ends.h"
#include "lib/fd.h"
#include "lib/msgsock.h"

#define SECOND	     1000000u
#define USERS_EACH   4
#define BATCH	     500 /* sessions that are made ready at once */
#define WARM_PAIRS   16	 /* of each proxy, before anything counts */
#define PROXIES_MOST 256
#define PATIENCE_MS  10000
#define EVENTS	     64

enum serial { SERIAL_HELLO = 1, SERIAL_LEASE };

struct proxy {
	int sock;
	bool leased_asked;
	unsigned number;
	unsigned turn;
	uint64_t begun;
};

static struct {
	const char *path;
	unsigned proxies;
	uint64_t seconds;
	bool early;
} options = { .proxies = 32, .seconds = 5 };

static struct {
	int epoll;
	int ready[BATCH]; /* sessions that have said HELLO */
	unsigned ready_count;
	unsigned busy;	 /* proxies that have a session under way */
	uint64_t wanted; /* pairs of this phase; 0: until `end` */
	uint64_t begun;	 /* of this phase */
	uint64_t end;
	uint64_t pairs;
	uint64_t reused;
	uint64_t errors;
	struct hist lease;
	struct hist pair;
} state;

static char received[MSG_MAX];

static _Noreturn void die(const char *what, int error)
{
	fprintf(stderr, "%s: %s\n", what, strerror(-error));
	exit(1);
}

/* --- messages -------------------------------------------------------------------------------- */
static int say_hello(int sock)
{
	const struct msg m = { .type = MSG_HELLO,
			       .serial = SERIAL_HELLO,
			       .HELLO = { .service = SERVICE_IMAP,
					  .client = SPAN("127.0.0.1"),
					  .local = SPAN("127.0.0.1") } };

	return msgsock_send(sock, &m, -1);
}

static int ask_lease(struct proxy *p)
{
	char bytes[32];
	struct buf user = BUF_OVER(bytes);
	int r = buf_add_str(&user, "bench")
			?: buf_add_u64(&user, p->number * USERS_EACH + p->turn++ % USERS_EACH);
	const struct msg m = { .type = MSG_LEASE,
			       .serial = SERIAL_LEASE,
			       .LEASE = { .proof_kind = PROOF_PASSWORD,
					  .user = buf_span(&user),
					  .authzid = SPAN_NONE,
					  .secret = SPAN("secret") } };

	p->begun = hist_now();
	return r ?: msgsock_send(p->sock, &m, -1);
}

static int take_greeting(int fd)
{
	struct pollfd readable = { .fd = fd, .events = POLLIN };
	char bytes[1024];

	if (poll(&readable, 1, PATIENCE_MS) != 1)
		return -ETIMEDOUT;
	return recv(fd, bytes, sizeof(bytes), 0) > 0 ? 0 : -ECONNRESET;
}

static int give_back(struct proxy *p, const struct msg_LEASED *leased, int fd)
{
	const struct msg outcome = { .type = MSG_OUTCOME,
				     .OUTCOME = { .outcome = OUTCOME_ACCEPTED } };
	const struct msg returning = { .type = MSG_RETURNING };
	struct msg give = { .type = MSG_GIVE, .GIVE = { .reason = END_LOGOUT, .line = SPAN_NONE } };
	int r = 0;

	if (leased->cached) {
		give.GIVE.capabilities = SPAN_NONE; /* as they were */
	} else {
		give.GIVE.capabilities = SPAN("IMAP4rev1 IDLE UNSELECT");
		r = take_greeting(fd);
		r = r ?: msgsock_send(p->sock, &outcome, -1);
	}
	return r ?: msgsock_send(p->sock, &returning, -1) ?: msgsock_send(p->sock, &give, fd);
}

/* --- sessions -------------------------------------------------------------------------------- */
static void begin_pair(struct proxy *p);

static void end_pair(struct proxy *p, int r)
{
	if (r < 0)
		state.errors++;
	fd_drop(&p->sock); /* which also ends its watch */
	state.busy--;
	begin_pair(p);
}

static int watch(struct proxy *p)
{
	struct epoll_event event = { .events = EPOLLIN, .data = { .ptr = p } };

	return epoll_ctl(state.epoll, EPOLL_CTL_ADD, p->sock, &event) < 0 ? -errno : 0;
}

static int begin_session(struct proxy *p)
{
	int r;

	p->leased_asked = state.ready_count > 0;
	if (state.ready_count > 0) {
		p->sock = state.ready[--state.ready_count];
		r = watch(p);
		return r ?: ask_lease(p);
	}
	p->sock = msgsock_connect(options.path);
	if (p->sock < 0)
		return p->sock;
	r = watch(p);
	return r ?: say_hello(p->sock);
}

/* Begins the proxy's next pair, if there is to be one. */
static void begin_pair(struct proxy *p)
{
	if (state.wanted > 0 ? state.begun >= state.wanted : hist_now() >= state.end)
		return;
	state.begun++;
	int r = begin_session(p);

	if (r < 0)
		die(options.path, r);
	state.busy++;
}

static void on_reply(struct proxy *p)
{
	struct msg m;
	AUTO_FD fd = -1;
	int r = msgsock_receive(p->sock, ROLE_BROKER, received, &m, &fd);

	if (r == -EAGAIN)
		return;
	if (r == 0 && !p->leased_asked && m.type == MSG_WELCOME) {
		p->leased_asked = true;
		r = ask_lease(p);
		if (r == 0)
			return;
	} else if (r == 0 && m.type == MSG_LEASED) {
		hist_add(&state.lease, hist_now() - p->begun);
		r = give_back(p, &m.LEASED, fd);
		if (r == 0) {
			state.pairs++;
			state.reused += m.LEASED.cached;
			hist_add(&state.pair, hist_now() - p->begun);
		}
	} else if (r == 0) {
		r = -EPROTO;
	}
	end_pair(p, r);
}

/* All proxies, until the phase is over. Returns its microseconds. */
static uint64_t run_phase(struct proxy *all, uint64_t wanted, uint64_t time)
{
	struct epoll_event events[EVENTS];
	uint64_t begin = hist_now();

	state.wanted = wanted;
	state.begun = 0;
	state.end = begin + time;
	for (unsigned n = 0; n < options.proxies; n++)
		begin_pair(&all[n]);
	while (state.busy > 0) {
		int n = epoll_wait(state.epoll, events, EVENTS, PATIENCE_MS);

		if (n == 0)
			die("no answer", -ETIMEDOUT);
		for (int i = 0; i < n; i++)
			on_reply(events[i].data.ptr);
	}
	return hist_now() - begin;
}

/* One more session that has said HELLO. */
static int make_ready(void)
{
	int sock = msgsock_connect(options.path), fd = -1;
	struct pollfd readable = { .fd = sock, .events = POLLIN };
	struct msg m;
	int r = sock < 0 ? sock : say_hello(sock);

	if (r == 0 && poll(&readable, 1, PATIENCE_MS) != 1)
		r = -ETIMEDOUT;
	r = r ?: msgsock_receive(sock, ROLE_BROKER, received, &m, &fd);
	fd_drop(&fd);
	if (r == 0)
		state.ready[state.ready_count++] = sock;
	return r;
}

static uint64_t run_early(struct proxy *all)
{
	uint64_t took = 0;

	while (took < options.seconds * SECOND) {
		while (state.ready_count < BATCH) {
			int r = make_ready();

			if (r < 0)
				die(options.path, r);
		}
		took += run_phase(all, BATCH, 0);
	}
	return took;
}

static void report(uint64_t took)
{
	printf("{\"pairs\":%" PRIu64 ",\"per_second\":%.1f,\"reused\":%" PRIu64
	       ",\"errors\":%" PRIu64 ",\"us\":{",
	       state.pairs, (double)state.pairs * SECOND / (double)took, state.reused,
	       state.errors);
	hist_print(stdout, "lease", &state.lease);
	putchar(',');
	hist_print(stdout, "pair", &state.pair);
	puts("}}");
}

/* --- start ----------------------------------------------------------------------------------- */
static int read_options(int argc, char **argv)
{
	uint64_t proxies = options.proxies;
	int option;

	while ((option = getopt(argc, argv, "s:k:t:e")) != -1) {
		if (option == 's')
			options.path = optarg;
		else if (option == 'e')
			options.early = true;
		else if (option == 'k' && span_u64(span_str(optarg), PROXIES_MOST, &proxies) == 0)
			options.proxies = (unsigned)proxies;
		else if (option != 't' || span_u64(span_str(optarg), 3600, &options.seconds) < 0)
			return -EINVAL;
	}
	return options.path && options.proxies && options.seconds ? 0 : -EINVAL;
}

int main(int argc, char **argv)
{
	if (read_options(argc, argv) < 0) {
		fputs("usage: broker -s SESSION_SOCKET [-k PROXIES] [-t SECONDS] [-e]\n", stderr);
		return 2;
	}
	struct proxy *all = calloc(options.proxies, sizeof(*all));

	state.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (!all || state.epoll < 0)
		die("broker", -errno);
	for (unsigned n = 0; n < options.proxies; n++)
		all[n] = (struct proxy){ .sock = -1, .number = n };
	(void)run_phase(all, (uint64_t)options.proxies * WARM_PAIRS, 0);
	state.pairs = state.reused = state.errors = 0;
	state.lease = state.pair = (struct hist){ 0 };
	report(options.early ? run_early(all) : run_phase(all, 0, options.seconds * SECOND));
	free(all);
	return 0;
}
