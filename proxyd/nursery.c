/* The nursery: forks, waits, and is locked up itself.
 *
 * Its children's descriptors stand where the jail wants them from the beginning: the lowest free
 * numbers are JAIL_CLIENT, which accept() takes, and JAIL_LINK, which the link to the broker takes.
 */
#include "proxyd/nursery.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "proxyd/hello.h"
#include "proxyd/io.h"
#include "proxyd/jail.h"

#define TICK_MS 1000

struct state {
	struct nursery *n;
	struct pool pools[POOLS_MAX];
	uint32_t alive; /* children */
	int wake;
	int64_t next_tick;
};

static void on_nudge(int number)
{
	(void)number; /* accept() has returned: that is all */
}

static void reap(struct state *s)
{
	pid_t pid;
	int status;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		s->alive--;
		pool_reaped(s->n->table, (unsigned)s->n->count, pid);
		if (!WIFSIGNALED(status))
			continue;
		const struct nursery_report report = { .pid = pid, .signal = WTERMSIG(status) };

		(void)!write(s->n->reports, &report, sizeof(report));
	}
}

/* Are there more clients than there may be? The nursery itself is a busy process. */
static bool is_crowded(const struct nursery *n)
{
	return atomic_load(&n->table->busy) - 1 > (int)n->bounds.processes_most;
}

/* In a child that has a client. */
static int serve_client(struct state *s, int client, size_t pool)
{
	struct nursery *n = s->n;
	struct session_start start = { .client = client,
				       .link = { .sock = -1, .door = n->door, .client = -1 },
				       .settings = n->settings,
				       .tls = n->services[pool]->tls,
				       .crowded = is_crowded(n) };

	hello_describe(client, n->services[pool]->service, &start.hello);
	pool_leave(n->table);
	int r = jail_enter_child(client);

	if (r < 0) {
		log_printf(LOG_ERR, "cannot be locked up: %s", strerror(-r));
		return 1;
	}
	return session_run(&start);
}

static void tick(struct state *s)
{
	if (clock_ms() < s->next_tick)
		return;
	s->next_tick = clock_ms() + TICK_MS;
	for (size_t i = 0; i < s->n->count; i++)
		pool_adapt(&s->pools[i]);
}

/* Returns false when there is no more use for this nursery. */
static bool wait_for_work(struct state *s)
{
	struct pollfd fds[] = { { .fd = s->wake, .events = POLLIN }, { .fd = s->n->life } };
	uint64_t drained;

	if (io_poll(fds, 2, s->next_tick) < 0 || fds[1].revents)
		return false;
	if (fds[0].revents)
		(void)!read(s->wake, &drained, sizeof(drained));
	return true;
}

/* How many processes may still be started. */
static uint32_t room(const struct state *s)
{
	uint64_t most = (uint64_t)s->n->bounds.processes_most +
			(uint64_t)s->n->bounds.spare_most * s->n->count;

	return most > s->alive ? (uint32_t)(most - s->alive) : 0;
}

/* Returns true in a child, with its client or -1, and the number of its pool. */
static bool fill(struct state *s, int *ret_client, size_t *ret_pool)
{
	for (size_t i = 0; i < s->n->count; i++) {
		uint32_t before = room(s), left = before;
		bool child;

		*ret_client = pool_fill(&s->pools[i], &left, &child);
		*ret_pool = i;
		if (child)
			return true;
		s->alive += before - left;
	}
	return false;
}

static int open_pools(struct state *s)
{
	const struct nursery *n = s->n;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < n->count; i++) {
		r = pool_init(&s->pools[i], n->table, i, n->sockets[i], s->wake,
			      n->bounds.spare_least, n->bounds.spare_most);
		io_keep_alive(n->sockets[i], n->settings->values.tcp_keepalives);
	}
	return r;
}

/* The descriptors get their places: everything that holds one is told. */
static int lock_up(struct state *s)
{
	struct nursery *n = s->n;
	struct jail_nursery places = { .door = n->door,
				       .log = log_socket(),
				       .reports = n->reports,
				       .wake = s->wake,
				       .life = n->life,
				       .sockets = n->sockets,
				       .count = n->count };
	int r = jail_enter_nursery(&places);

	n->door = places.door;
	n->reports = places.reports;
	n->life = places.life;
	s->wake = places.wake;
	log_set_socket(places.log);
	for (size_t i = 0; i < n->count; i++) {
		s->pools[i].socket = n->sockets[i];
		s->pools[i].wake = s->wake;
	}
	return r;
}

int nursery_run(struct nursery *n)
{
	static struct state s;
	const struct sigaction nudged = { .sa_handler = on_nudge };
	size_t pool;
	int client;

	s.n = n;
	log_limits((int)n->settings->values.log_facility, (int)n->settings->values.log_priority);
	s.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	io_init();
	(void)sigaction(SIGURG, &nudged, NULL);
	int r = s.wake < 0 ? -errno : open_pools(&s);

	if (r == 0)
		r = lock_up(&s);
	if (r < 0) {
		log_printf(LOG_ERR, "no client can be served: %s", strerror(-r));
		return 1;
	}
	do {
		pool_listen(&s.pools[0]); /* one flag for all of them */
		reap(&s);
		tick(&s);
		if (fill(&s, &client, &pool))
			return client < 0 ? 0 : serve_client(&s, client, pool);
	} while (wait_for_work(&s));
	return 0;
}
