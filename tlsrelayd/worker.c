/* The worker's loop.
 *
 * epoll itself and not sd-event, which asks the kernel again after each single event (see
 * cachebrokerd's loop: that was a third of its CPU). There are two sets: connections that are open,
 * and inside it as one member the set of those in the handshake. Of the latter one step is done per
 * round, behind all of what the open ones had: a handshake costs a thousand times what a line of
 * mail does, and however many there are, no open connection waits for more than one.
 *
 * Trap: an event of a batch may be about a connection that an earlier one has ended, so connections
 * are freed behind the batch. Deadlines need no heap: all handshakes have the same time, so the
 * oldest is the first of its list; the same with those whose plain side has left.
 */
#include "tlsrelayd/worker.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>

#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/msg.h"
#include "tlsrelayd/link.h"
#include "tlsrelayd/relay.h"
#include "tlsrelayd/sandbox.h"

#define BATCH	      64
#define JOBS_AT_ONCE  16
#define LINGER_MS     10000 /* for the peer to take the last bytes and to leave */
#define LINE_EVERY_MS 1000  /* strangers can provoke these lines */
#define MASTER_MS     5000  /* a report waits so long for the master to read */

enum side { SIDE_TCP, SIDE_PLAIN };

struct conn {
	struct relay relay;
	struct conn *prev, *next; /* of the list for deadlines that it is on */
	struct conn **list;	  /* or NULL */
	struct conn *grave;
	int64_t deadline_ms;
	uint32_t id;
	int set;	      /* the epoll instance that watches it */
	int64_t watched[2];   /* events of each side, -1: not watched */
	bool was_ready, dead;
};

struct worker {
	const struct worker_setup *setup;
	int link, open_set, shake_set;
	size_t count;
	struct conn *shaking, *lingering; /* the oldest first */
	struct conn *graves;
	bool leaving;
	bool master_hangs; /* it did not read for MASTER_MS, and not since */
	int64_t next_line_ms;
	unsigned lines_left_out;
};

static struct worker worker;
static struct link_job job;
static struct link_report report;

/* --- reports ---------------------------------------------------------------------------------- */

/* The master reads all the time; while it loads certificates it may be late. One that hangs is
 * waited for once, not at each report: all connections would wait with us. */
static void send_report(void)
{
	struct pollfd wait = { .fd = worker.link, .events = POLLOUT };
	bool may_wait = report.word != LINK_TICKET && report.word != LINK_LINE;
	int r = -EAGAIN;

	if (report.failure.reason == 0)
		report.failure.reason = TLS_UNAVAILABLE;
	while (worker.link >= 0 && (r = link_send_report(worker.link, &report)) == -EAGAIN) {
		if (!may_wait || worker.master_hangs)
			break;
		worker.master_hangs = poll(&wait, 1, MASTER_MS) <= 0;
	}
	if (r == 0)
		worker.master_hangs = false;
	explicit_bzero(&report, sizeof(report));
}

static void begin_report(const struct conn *c, enum link_word word)
{
	report = (struct link_report){ .word = word, .id = c->id };
}

static void copy_text(char *to, size_t size, const char *from)
{
	size_t n = strnlen(from, size - 1);

	memcpy(to, from, n);
	to[n] = '\0';
}

static void report_failure(uint32_t id, const struct errors_text *failure)
{
	report = (struct link_report){ .word = LINK_FAILED, .id = id, .failure = *failure };
	send_report();
}

static void take_ticket(void *context, struct span ticket)
{
	const struct conn *c = context;

	begin_report(c, LINK_TICKET);
	report.ticket_length = (uint32_t)ticket.n;
	memcpy(report.ticket, ticket.p, ticket.n);
	send_report();
}

/* A line for the log, if it is time for one. */
static void log_text(const struct conn *c, const struct errors_text *text)
{
	char more[ERRORS_TEXT_MAX];
	int64_t now = clock_ms();

	if (now < worker.next_line_ms) {
		worker.lines_left_out++;
		return;
	}
	worker.next_line_ms = now + LINE_EVERY_MS;
	begin_report(c, LINK_LINE);
	report.failure = *text;
	if (worker.lines_left_out > 0) {
		(void)snprintf(more, sizeof(more), "%u lines like the next one were left out",
			       worker.lines_left_out);
		errors_say(&report.failure, more, TLS_HANDSHAKE, text->text);
	}
	worker.lines_left_out = 0;
	send_report();
}

static void log_truncation(const struct conn *c)
{
	struct errors_text text;

	errors_say(&text, c->relay.peer, TLS_HANDSHAKE,
		   "ended the connection without close_notify");
	log_text(c, &text);
}

/* A mail host of TLS 1.3 says only now that it wants a certificate, for example. */
static void log_break(const struct conn *c)
{
	struct errors_text text;

	if (errors_of_stream(c->relay.peer, c->relay.port, c->relay.is_client, &text))
		log_text(c, &text);
}

static void log_nobody(const struct conn *c)
{
	struct errors_text text;

	errors_say(&text, c->relay.peer, TLS_CERTIFICATE,
		   "its certificate has no name that a user can have (tls_client_name)");
	log_text(c, &text);
}

static void report_ready(struct conn *c)
{
	struct relay_facts facts;

	relay_facts(&c->relay, &facts);
	begin_report(c, LINK_READY);
	report.resumed = facts.resumed;
	copy_text(report.version, sizeof(report.version), facts.version);
	copy_text(report.cipher, sizeof(report.cipher), facts.cipher);
	copy_text(report.name, sizeof(report.name), facts.name);
	bool is_nobody = c->relay.is_client &&
			 contexts_identify(worker.setup->contexts, c->relay.ssl,
					   report.identity) < 0;
	c->was_ready = true;
	send_report();
	if (is_nobody)
		log_nobody(c);
}

/* --- connections ------------------------------------------------------------------------------ */

static void leave_list(struct conn *c)
{
	if (c->list)
		DL_DELETE(*c->list, c);
	c->list = NULL;
}

static void join_list(struct conn *c, struct conn **list, int64_t ms)
{
	leave_list(c);
	c->list = list;
	c->deadline_ms = clock_ms() + ms;
	DL_APPEND(*list, c);
}

static int fd_of(const struct conn *c, enum side side)
{
	return side == SIDE_TCP ? c->relay.tcp.fd : c->relay.plain;
}

/* events: -1 for not at all. */
static void watch(struct conn *c, enum side side, int64_t events)
{
	struct epoll_event e = { .events = (uint32_t)events,
				 .data.u64 = (uint64_t)(uintptr_t)c | side };
	int64_t before = c->watched[side];

	if (before == events)
		return;
	c->watched[side] = events;
	(void)epoll_ctl(c->set,
			events < 0   ? EPOLL_CTL_DEL
			: before < 0 ? EPOLL_CTL_ADD
				     : EPOLL_CTL_MOD,
			fd_of(c, side), &e);
}

static void end_conn(struct conn *c)
{
	if (c->dead)
		return;
	if (c->was_ready) {
		begin_report(c, LINK_GONE);
		report.truncated = c->relay.truncated;
		send_report();
	}
	leave_list(c);
	/* Closing alone would not do: master, broker and session may not have closed their copies
	 * of these ends yet, and until then the kernel goes on telling of them. */
	watch(c, SIDE_TCP, -1);
	watch(c, SIDE_PLAIN, -1);
	relay_wipe(&c->relay);
	c->dead = true;
	c->grave = worker.graves;
	worker.graves = c;
	worker.count--;
}

static void bury(void)
{
	while (worker.graves) {
		struct conn *c = worker.graves;

		worker.graves = c->grave;
		free(c);
	}
}

static void watch_both(struct conn *c)
{
	struct relay_wants wants;

	relay_wants(&c->relay, &wants);
	watch(c, SIDE_TCP, wants.watch_tcp ? (int64_t)wants.tcp : -1);
	watch(c, SIDE_PLAIN, wants.watch_plain ? (int64_t)wants.plain : -1);
}

static void become_open(struct conn *c)
{
	watch(c, SIDE_TCP, -1);
	watch(c, SIDE_PLAIN, -1);
	c->set = worker.open_set;
	leave_list(c);
	report_ready(c);
	contexts_keep_session(c->relay.ssl);
	contexts_slim(c->relay.ssl);
}

static void step(struct conn *c, uint32_t tcp_events, uint32_t plain_events)
{
	struct errors_text failure;

	if (c->dead)
		return;
	bool was_truncated = c->relay.truncated, was_hung = c->relay.plain_hung;

	switch (relay_step(&c->relay, tcp_events, plain_events, &failure)) {
	case RELAY_NOTHING:
		break;
	case RELAY_READY:
		become_open(c);
		break;
	case RELAY_FAILED:
		report_failure(c->id, &failure);
		end_conn(c);
		return;
	case RELAY_BROKEN:
		log_break(c);
		end_conn(c);
		return;
	case RELAY_ENDED:
		if (c->relay.truncated && !was_truncated)
			log_truncation(c);
		end_conn(c);
		return;
	}
	if (c->relay.truncated && !was_truncated)
		log_truncation(c);
	if (c->relay.plain_hung && !was_hung && c->was_ready)
		join_list(c, &worker.lingering, LINGER_MS);
	watch_both(c);
}

/* --- jobs ------------------------------------------------------------------------------------- */

static struct conn *new_conn(const int fds[2])
{
	struct conn *c = calloc(1, sizeof(*c));
	bool is_client = job.kind == LINK_ACCEPT;
	struct span ticket = { job.ticket, job.ticket_length };

	if (!c) {
		close(fds[0]);
		close(fds[1]);
		return NULL;
	}
	struct ssl_st *ssl =
		is_client ? contexts_accept(worker.setup->contexts, job.service)
			  : contexts_dial(worker.setup->contexts, job.peer, ticket);
	int r = relay_init(&c->relay, ssl, fds[0], fds[1], job.peer, is_client, job.starttls,
			   job.port);

	if (r < 0) {
		free(c);
		return NULL;
	}
	if (c->relay.dialogue)
		c->relay.dialogue->pop3 = job.service == SERVICE_POP3;
	contexts_set_owner(ssl, c);
	c->id = job.id;
	c->set = worker.shake_set;
	c->watched[SIDE_TCP] = c->watched[SIDE_PLAIN] = -1;
	return c;
}

static void refuse_job(const char *why)
{
	struct errors_text failure;

	errors_say(&failure, job.peer, TLS_UNAVAILABLE, why);
	report_failure(job.id, &failure);
}

static void begin_conn(const int fds[2])
{
	struct conn *c = new_conn(fds);

	if (!c) {
		refuse_job("there is no memory for it");
		return;
	}
	worker.count++;
	join_list(c, &worker.shaking, (int64_t)worker.setup->handshake_seconds * 1000);
	step(c, 0, 0);
}

static void lose_master(void)
{
	worker.leaving = true;
	/* its number stays taken: the filter goes by it */
	(void)epoll_ctl(worker.open_set, EPOLL_CTL_DEL, worker.link, NULL);
	worker.link = -1;
}

static void take_jobs(void)
{
	static const char no_room[] =
		"tlsrelayd may have no more descriptors (LimitNOFILE=, ulimit -n)";
	int fds[2];

	for (int i = 0; i < JOBS_AT_ONCE && worker.link >= 0; i++) {
		int r = link_receive_job(worker.link, &job, fds);

		if (r == -EAGAIN)
			break;
		if (r == -ECONNRESET || r == -EPIPE)
			lose_master();
		else if (r == -EMFILE)
			refuse_job(no_room);
		else if (r < 0)
			break; /* the master gives that one up in time */
		else if (job.kind == LINK_LEAVE)
			worker.leaving = true;
		else
			begin_conn(fds);
		explicit_bzero(&job, sizeof(job));
	}
}

/* --- the loop --------------------------------------------------------------------------------- */

static void expire(void)
{
	int64_t now = clock_ms();

	while (worker.shaking && worker.shaking->deadline_ms <= now) {
		struct conn *c = worker.shaking;
		struct errors_text failure;

		errors_say(&failure, c->relay.peer, TLS_TIMEOUT,
			   c->relay.stage == RELAY_STARTTLS
				   ? "was silent before TLS (tls_handshake_timeout)"
				   : "was too slow in the TLS handshake (tls_handshake_timeout)");
		report_failure(c->id, &failure);
		end_conn(c);
	}
	while (worker.lingering && worker.lingering->deadline_ms <= now)
		end_conn(worker.lingering);
}

static int next_wait(void)
{
	int64_t next = INT64_MAX, now;

	if (worker.shaking)
		next = worker.shaking->deadline_ms;
	if (worker.lingering && worker.lingering->deadline_ms < next)
		next = worker.lingering->deadline_ms;
	if (next == INT64_MAX)
		return -1;
	now = clock_ms();
	return next > now ? (int)(next - now) : 0;
}

static void dispatch(const struct epoll_event *e)
{
	struct conn *c = (struct conn *)(uintptr_t)(e->data.u64 & ~(uint64_t)1);

	if ((e->data.u64 & 1) == SIDE_TCP)
		step(c, e->events, 0);
	else
		step(c, 0, e->events);
}

static void shake_one(void)
{
	struct epoll_event e;

	if (epoll_wait(worker.shake_set, &e, 1, 0) == 1)
		dispatch(&e);
}

static void serve(void)
{
	struct epoll_event batch[BATCH];

	while (!worker.leaving || worker.count > 0) {
		int n = epoll_wait(worker.open_set, batch, BATCH, next_wait());
		bool shake = false, jobs = false;

		for (int i = 0; i < n; i++) {
			if (batch[i].data.ptr == &worker.link)
				jobs = true;
			else if (batch[i].data.ptr == &worker.shake_set)
				shake = true;
			else
				dispatch(&batch[i]);
		}
		if (jobs)
			take_jobs();
		if (shake)
			shake_one();
		expire();
		bury();
	}
}

static int add_member(int fd, void *mark)
{
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = mark };

	return epoll_ctl(worker.open_set, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

static int prepare(const struct worker_setup *setup)
{
	worker.setup = setup;
	worker.link = setup->link;
	int r = sandbox_arrange(&worker.link);

	if (r < 0)
		return r;
	worker.open_set = epoll_create1(EPOLL_CLOEXEC);
	worker.shake_set = epoll_create1(EPOLL_CLOEXEC);
	if (worker.open_set < 0 || worker.shake_set < 0)
		return -errno;
	r = bio_setup();
	if (r == 0)
		r = add_member(worker.link, &worker.link);
	if (r == 0)
		r = add_member(worker.shake_set, &worker.shake_set);
	contexts_on_ticket(setup->contexts, take_ticket);
	/* OpenSSL compares dates with mktime(3)'s family, which looks for /etc/localtime each time
	 * unless it is told what time it is */
	(void)setenv("TZ", "UTC0", 1);
	tzset();
	return r < 0 ? r : sandbox_enter(setup->uid, setup->gid);
}

int worker_run(const struct worker_setup *setup)
{
	int r = prepare(setup);

	if (r < 0) {
		report = (struct link_report){ .word = LINK_LINE };
		errors_say(&report.failure, "a worker cannot lock itself up", TLS_UNAVAILABLE,
			   strerror(-r));
		send_report();
		return 1;
	}
	serve();
	return 0;
}
