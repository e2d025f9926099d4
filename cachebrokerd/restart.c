/* A planned restart, the old broker's part: packing. (The successor's is restart_take.c.)
 *
 * Descriptors go into one socket pair as messages in flight (SCM_RIGHTS), as many in each as the
 * kernel allows, and what they are into a sealed memfd. The pair's other end and the memfd are all
 * that the supervisor has to keep: to hand descriptors to systemd one by one takes a time that
 * grows with the square of their number.
 *
 * A successor of another version understands neither pack nor sessions: who is about to log in
 * would be refused. So when our program was replaced they are served first (serve_out()).
 *
 * Traps: descriptors in flight count against RLIMIT_NOFILE for all processes of the user together
 * (ETOOMANYREFS); what does not fit is closed, as all was before there was a pack. And the
 * supervisor must have heard of what it shall store before we are gone: a barrier (sd_notify(3)).
 */
#include "cachebrokerd/restart.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "cachebrokerd/accounts.h"
#include "cachebrokerd/admin_orders.h"
#include "cachebrokerd/client_pack.h"
#include "cachebrokerd/connection_pack.h"
#include "cachebrokerd/door.h"
#include "cachebrokerd/habits.h"
#include "cachebrokerd/process.h"
#include "cachebrokerd/spares.h"
#include "cachebrokerd/tries.h"
#include "lib/activation.h"
#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/log.h"

#define FDS_A_MESSAGE 253  /* SCM_MAX_FD */
#define BUSY_MS	      1000 /* so long is waited for what cannot be asked for twice */
#define LOOK_MS	      10
#define BARRIER_MS    2000
#define LEAVE_MS      3000 /* so long are clients served when our program was replaced */
#define YOUNG_MS      1000 /* who has come and not logged in is waited for so long */
#define QUIET_MS      100  /* so long there is nobody */
#define SEALS	      (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

struct packer {
	struct broker *broker;
	int sending, receiving, text;
	int error;	   /* of the text: then there is no pack */
	int error_sockets; /* no further descriptor goes in */
	int error_text;	   /* no further record goes in */
	size_t whole;	   /* of the text, in bytes */
	unsigned waiting;  /* descriptors for the next message */
	unsigned packed, left;
	int fds[FDS_A_MESSAGE];
	size_t used;
	char buffer[8 * PACK_RECORD_MAX];
};

/* What is written ends with a whole record, so that much is good: the sessions stand in front. */
static void cut_off(struct packer *p, int error)
{
	if (p->whole == 0 || ftruncate(p->text, (off_t)p->whole) < 0)
		p->error = error;
	else
		p->error_text = error;
}

static void flush(struct packer *p)
{
	size_t done = 0;

	while (p->error == 0 && p->error_text == 0 && done < p->used) {
		ssize_t n = write(p->text, p->buffer + done, p->used - done);

		if (n < 0 && errno != EINTR)
			cut_off(p, -errno);
		if (n > 0)
			done += (size_t)n;
	}
	if (done == p->used)
		p->whole += done;
	explicit_bzero(p->buffer, p->used);
	p->used = 0;
}

static void add(struct packer *p, const struct pack_record *record)
{
	if (sizeof(p->buffer) - p->used < PACK_RECORD_MAX)
		flush(p);
	int n = pack_encode(record, p->buffer + p->used, PACK_RECORD_MAX);

	if (n < 0)
		p->error = n;
	else
		p->used += (size_t)n;
}

/* The descriptors that wait become one message. */
static void send_off(struct packer *p)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(FDS_A_MESSAGE * sizeof(int))];
	} control = { 0 };
	uint32_t count = p->waiting;
	struct iovec iov = { &count, sizeof(count) };
	struct msghdr header = { .msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = control.bytes,
				 .msg_controllen = CMSG_SPACE(count * sizeof(int)) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&header);

	if (count == 0)
		return;
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(count * sizeof(int));
	memcpy(CMSG_DATA(c), p->fds, count * sizeof(int));
	p->waiting = 0;
	if (sendmsg(p->sending, &header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		p->error_sockets = -errno;
		p->left += count;
	} else {
		p->packed += count;
	}
}

static void add_with_socket(struct packer *p, const struct pack_record *record, int fd)
{
	if (p->error_sockets < 0) {
		p->left++;
		return;
	}
	add(p, record);
	p->fds[p->waiting++] = fd;
	if (p->waiting == FDS_A_MESSAGE)
		send_off(p);
}

static void add_head(struct packer *p)
{
	const struct broker *b = p->broker;
	struct pack_record record = { .type = PACK_HEAD,
				      .HEAD = { .secret = *keys_secret(b->keys),
						.next_id = b->next_id,
						.settled_at = (uint64_t)b->settled_at,
						.tls_policy = b->tls_policy,
						.tls_settings = b->tls_settings,
						.tls_unsettled = (b->tls_unsettled ? 1 : 0) |
								 (b->clients_unsettled ? 2 : 0),
						.tries_born = (uint64_t)tries_born(b->tries) } };
	socklen_t n = sizeof(record.HEAD.socket);

	p->error = broker_digest_settings(b, &record.HEAD.settings);
	if (getsockopt(p->receiving, SOL_SOCKET, SO_COOKIE, &record.HEAD.socket, &n) < 0)
		p->error = -errno;
	pack_prefix(p->buffer);
	p->used = PACK_PREFIX;
	add(p, &record);
	explicit_bzero(&record, sizeof(record));
}

static void add_habits(struct packer *p)
{
	struct habits_row row;
	size_t at = 0;

	while (habits_next(p->broker->habits, &at, &row)) {
		const struct pack_record record = { .type = PACK_HABIT,
						    .HABIT = { .who = row.who,
							       .seen = (uint64_t)row.seen,
							       .enables = row.enables,
							       .plain_turns = row.plain_turns,
							       .fingerprint = row.fingerprint } };

		add(p, &record);
	}
}

static void add_tries(struct packer *p)
{
	struct tries_row row;
	size_t at = 0;

	while (tries_next(p->broker->tries, &at, &row)) {
		const struct pack_record record = { .type = PACK_TRIES,
						    .TRIES = { .pid = (uint32_t)row.pid,
							       .since = (uint64_t)row.since,
							       .gone = (uint64_t)row.gone,
							       .used = row.used,
							       .deeds = row.deeds,
							       .again = row.again } };

		add(p, &record);
	}
}

static void add_accounts(struct packer *p)
{
	struct accounts_cursor at;
	struct accounts_row row;

	accounts_begin(p->broker->accounts, &at);
	while (accounts_next(&at, clock_ms(), &row)) {
		unsigned flags = (row.account.other_password ? PACK_OTHER_PASSWORD : 0u) |
				 (row.account.private ? PACK_PRIVATE : 0u) |
				 (row.none ? PACK_NONE : 0u) | (row.refused ? PACK_REFUSED : 0u);
		const struct pack_record record = {
			.type = PACK_ACCOUNT,
			.ACCOUNT = { .login = row.login,
				     .user = row.user,
				     .fresh_until = (uint64_t)row.fresh_until,
				     .until = (uint64_t)row.until,
				     .flags = flags,
				     .place = row.account.place,
				     .hosts = row.account.hosts,
				     .backend_user = row.account.backend_user }
		};

		add(p, &record);
	}
}

static void add_connection(struct packer *p, const struct connection *c)
{
	struct pack_record record = { .type = PACK_CONNECTION };

	connection_pack(c, &record.CONNECTION);
	add(p, &record);
}

/* The one that came first first, as they shall be there again. */
static void add_clients(struct packer *p)
{
	struct client *c = p->broker->clients;

	while (c && c->next)
		c = c->next;
	for (; c; c = c->previous) {
		struct pack_record record = { .type = PACK_CLIENT };

		if (!client_pack(c, &record.CLIENT))
			continue;
		if (c->connection)
			add_connection(p, c->connection);
		add_with_socket(p, &record, c->peer->fd);
	}
}

static void add_idle(struct packer *p)
{
	const struct cache_entry *e = cache_oldest(p->broker->cache);

	for (; e; e = e->newer) {
		const struct connection *c = e->owner;
		const struct pack_record record = { .type = PACK_IDLE,
						    .IDLE = { .since = (uint64_t)e->since } };

		add_connection(p, c);
		add_with_socket(p, &record, c->fd);
	}
}

static int open_pack(struct packer *p)
{
	int pair[2];

	p->text = memfd_create("keepwarm-pack", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (p->text < 0)
		return -errno;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -errno;
	p->sending = pair[0];
	p->receiving = pair[1];
	return 0;
}

static int store(int fd, const char *state)
{
	int r = activation_notify(state, &fd, 1);

	return r < 0 ? r : 0;
}

/* The supervisor closes what came with it when it has dealt with all that was sent before. */
static int await_supervisor(void)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	AUTO_FD read_end = ends[0];
	AUTO_FD write_end = ends[1];
	struct pollfd polled = { .fd = read_end };
	int r = store(write_end, "BARRIER=1");
	int64_t now = clock_ms(), by = now + BARRIER_MS;

	fd_drop(&write_end);
	while (r == 0 && now < by) {
		int n = poll(&polled, 1, (int)(by - now));

		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
		now = clock_ms();
	}
	return r < 0 ? r : -ETIMEDOUT;
}

static int hand_over(struct packer *p)
{
	int r = p->error;

	if (r == 0 && fcntl(p->text, F_ADD_SEALS, SEALS) < 0)
		r = -errno;
	if (r == 0)
		r = store(p->receiving, "FDSTORE=1\nFDNAME=" RESTART_SOCKETS "\nFDPOLL=0");
	if (r == 0)
		r = store(p->text, "FDSTORE=1\nFDNAME=" RESTART_TEXT "\nFDPOLL=0");
	if (r < 0)
		return r;
	r = await_supervisor();
	if (r < 0) /* it may have it all the same */
		log_printf(LOG_WARNING, "restart: the supervisor has not said that it keeps it: %s",
			   strerror(-r));
	return 0;
}

static void pack_all(struct broker *b)
{
	static struct packer p = { .sending = -1, .receiving = -1, .text = -1 };
	int64_t begun = clock_ms();

	p.broker = b;
	p.error = open_pack(&p);
	if (p.error == 0)
		add_head(&p);
	if (p.error == 0) {
		add_habits(&p);
		add_accounts(&p);
		add_tries(&p); /* in front of the clients */
		add_clients(&p);
		add_idle(&p);
		send_off(&p);
		flush(&p);
	}
	int r = hand_over(&p);

	fd_drop(&p.sending);
	fd_drop(&p.receiving);
	fd_drop(&p.text);
	if (r < 0)
		log_printf(LOG_WARNING, "restart: nothing is left to the next broker: %s",
			   strerror(-r));
	else
		log_printf(LOG_NOTICE, "restart: %u sockets left to the next broker in %lld ms",
			   p.packed, (long long)(clock_ms() - begun));
	if (p.left > 0)
		log_printf(LOG_WARNING, "restart: %u sockets did not fit: %s", p.left,
			   strerror(-p.error_sockets));
	if (p.error_text < 0)
		log_printf(LOG_WARNING, "restart: the list did not fit, its end is lost: %s",
			   strerror(-p.error_text));
}

/* --- before that -------------------------------------------------------- */

static int64_t busy_until;

static bool is_busy(const struct broker *b)
{
	if (admin_orders_are_running())
		return true;
	for (const struct client *c = b->clients; c; c = c->next)
		if (client_is_busy(c))
			return true;
	return false;
}

/* Holds everybody until what cannot be asked for twice is answered, then packs. */
static void look(void *context)
{
	static struct timer *again;
	struct broker *b = context;

	if (!b->restarting)
		return; /* told otherwise meanwhile */
	if (is_busy(b) && clock_ms() < busy_until &&
	    loop_timer(b->loop, LOOK_MS, look, b, &again) == 0)
		return;
	pack_all(b);
	loop_end(b->loop, 0);
}

static void hold(struct broker *b)
{
	b->restarting = true;
	busy_until = clock_ms() + BUSY_MS;
	peer_hold_gate(&client_peer_kind); /* tlsrelayd may be about to come */
	door_hold();
	spares_flush_all(b);
	for (struct client *c = b->clients, *next; c; c = next) {
		next = c->next;
		client_hold(c);
	}
	look(b);
}

/* --- an upgrade ----------------------------------------------------------- */

static struct timer *leaving; /* the restart has been asked for, but we serve on */
static int64_t leave_by, busy_at;

/* Has it come for a login that it has not had yet? One that says nothing for long is not waited
 * for. */
static bool logs_in(const struct client *c, int64_t now)
{
	if (c->state & (CLIENT_SECURING | CLIENT_CHALLENGED | CLIENT_WAITING))
		return true;
	return c->state & (CLIENT_NEW | CLIENT_ANNOUNCING | CLIENT_READY) && !c->bound &&
	       now - c->since < YOUNG_MS;
}

static bool is_wanted(const struct broker *b, int64_t now)
{
	for (const struct peer *p = b->listeners; p; p = p->next)
		if (p->owner)
			return true; /* its spares greet clients who would find our successor */
	for (const struct client *c = b->clients; c; c = c->next)
		if (logs_in(c, now))
			return true;
	return false;
}

static void serve_out(void *context)
{
	struct broker *b = context;
	int64_t now = clock_ms();

	if (is_wanted(b, now))
		busy_at = now;
	if (now - busy_at >= QUIET_MS || now >= leave_by ||
	    loop_timer(b->loop, LOOK_MS, serve_out, b, &leaving) < 0)
		hold(b);
}

void restart_begin(struct broker *b)
{
	const char *supervisor = getenv("NOTIFY_SOCKET");

	if (b->restarting || leaving)
		return;
	if (!supervisor || !*supervisor || b->stopping || b->retiring) {
		loop_end(b->loop, 0);
		return;
	}
	if (!process_is_replaced()) {
		hold(b);
		return;
	}
	leave_by = clock_ms() + LEAVE_MS;
	busy_at = clock_ms();
	serve_out(b);
}

void restart_cancel(struct broker *b)
{
	timer_end(&leaving);
	if (!b->restarting)
		return;
	b->restarting = false;
	for (struct client *c = b->clients, *next; c; c = next) {
		next = c->next;
		peer_release(c->peer);
	}
	door_release();
	if (peer_release_gate(&client_peer_kind) < 0)
		log_printf(LOG_ERR, "restart: no session can come any more");
}
