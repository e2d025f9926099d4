/* A pool of spare processes.
 *
 * Each spare has a slot in a table that it shares with its parent, from its fork until it has a
 * client. When few spares are left, one of those that got a client wakes the parent through an
 * eventfd; so the parent runs once for several connections. Children are reaped when the parent
 * runs anyway, at the latest each second.
 *
 * No child is ever killed: accept() returns every POOL_LOOK seconds (SO_RCVTIMEO), and a spare
 * leaves by itself when its parent is gone, the pool is too large or it was retired. Retiring also
 * sends SIGURG, which does nothing but end accept().
 */
#include "proxyd/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "lib/log.h"

#define POOL_LOOK 1   /* seconds */
#define PAUSE_MS  100 /* before a spare tries again that could not accept */

/* Beside the program's own data, if there is room there: then no session needs two more pages of
 * page tables to reach it. */
struct pool_table *pool_table_new(void)
{
	static char near[1];
	uintptr_t place = ((uintptr_t)near | 0xfffff) + 1;
	struct pool_table *table = mmap((void *)place, sizeof(*table), PROT_READ | PROT_WRITE,
					MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return table == MAP_FAILED ? NULL : table;
}

/* What accepted sockets take over from the listening one is set here once, not for each of them.
 * A socket that systemd or inetd made may be non-blocking: all spares would wake for each client.
 */
static int prepare_socket(int socket)
{
	struct timeval look = { .tv_sec = POOL_LOOK };
	int on = 1, flags = fcntl(socket, F_GETFL);

	(void)setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on,
			 sizeof(on)); /* not of a local one */
	if (flags < 0 || fcntl(socket, F_SETFL, flags & ~O_NONBLOCK) < 0)
		return -errno;
	return setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &look, sizeof(look)) < 0 ? -errno : 0;
}

static struct pool_generation *generation_of(struct pool_table *table, unsigned number)
{
	return &table->generations[number % POOL_GENERATIONS];
}

/* A parent that was killed in the middle of a fork may have left a slot behind. */
static void clear_half_made(struct pool_shared *pool)
{
	for (uint32_t i = 0; i < atomic_load(&pool->used); i++) {
		pid_t forking = -1;

		(void)atomic_compare_exchange_strong(&pool->slots[i], &forking, 0);
	}
}

int pool_init(struct pool *p, struct pool_table *table, unsigned n, int socket, int wake,
	      uint32_t least, uint32_t most)
{
	unsigned number = atomic_load(&table->generation);
	struct pool_generation *generation = generation_of(table, number);

	clear_half_made(&generation->pools[n]);
	*p = (struct pool){ .socket = socket,
			    .wake = wake,
			    .table = table,
			    .shared = &generation->pools[n],
			    .woken = &generation->woken,
			    .generation = number,
			    .target = least,
			    .least = least,
			    .most = most < POOL_SPARES_MAX ? most : POOL_SPARES_MAX };
	return prepare_socket(socket);
}

/* One of them does it for all, until the parent has looked. */
static void wake_parent(const struct pool *p)
{
	uint64_t one = 1;

	if (!atomic_exchange(p->woken, true))
		(void)!write(p->wake, &one, sizeof(one));
}

/* Has this spare a reason to leave? */
static bool is_superfluous(struct pool *p, pid_t parent)
{
	if (getppid() != parent || atomic_load(&p->table->generation) != p->generation)
		return true;
	int spares = atomic_load(&p->shared->spares);

	return spares > atomic_load(&p->shared->wanted) &&
	       atomic_compare_exchange_strong(&p->shared->spares, &spares, spares - 1);
}

/* After accept() failed: waits where it would fail again at once. False: it always will. */
static bool may_try_again(int socket, int error)
{
	struct pollfd ready = { .fd = socket, .events = POLLIN };

	switch (error) {
	case EINTR:
	case ECONNABORTED:
		return true;
	case EAGAIN: /* its time is up, unless somebody has made the socket non-blocking */
		if (fcntl(socket, F_GETFL) & O_NONBLOCK)
			(void)poll(&ready, 1, POOL_LOOK * 1000);
		return true;
	case EBADF:
	case EINVAL:
	case ENOTSOCK:
		return false;
	default:
		(void)poll(NULL, 0, PAUSE_MS); /* out of memory or descriptors */
		return true;
	}
}

/* In the child: waits for a client. Its descriptor, or -1. */
static int await_client(struct pool *p, uint32_t slot, pid_t parent)
{
	for (;;) {
		int client = accept4(p->socket, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (client >= 0) {
			atomic_fetch_add(&p->table->busy, 1);
			atomic_store(&p->shared->slots[slot], 0);
			if (atomic_fetch_sub(&p->shared->spares, 1) - 1 <=
			    atomic_load(&p->shared->low))
				wake_parent(p);
			return client;
		}
		if (!may_try_again(p->socket, errno) || is_superfluous(p, parent))
			return -1;
	}
}

/* A free slot, or POOL_SPARES_MAX when there is none. */
static uint32_t find_free(struct pool *p)
{
	uint32_t i = 0;

	while (i < POOL_SPARES_MAX && atomic_load(&p->shared->slots[i]) != 0)
		i++;
	if (i < POOL_SPARES_MAX && i >= atomic_load(&p->shared->used))
		atomic_store(&p->shared->used, i + 1);
	return i;
}

static bool forget_spare(struct pool_shared *pool, pid_t pid)
{
	for (uint32_t i = 0; i < atomic_load(&pool->used); i++)
		if (atomic_load(&pool->slots[i]) == pid) {
			atomic_store(&pool->slots[i], 0);
			return true;
		}
	return false;
}

void pool_reaped(struct pool_table *table, unsigned pools, pid_t pid)
{
	for (unsigned g = 0; g < POOL_GENERATIONS; g++)
		for (unsigned n = 0; n < pools; n++)
			if (forget_spare(&table->generations[g].pools[n], pid))
				return;
	atomic_fetch_sub(&table->busy, 1);
}

void pool_listen(struct pool *p)
{
	atomic_store(p->woken, false);
}

/* The truth about the spares; the children's counter only estimates it. */
static uint32_t count_spares(struct pool *p)
{
	uint32_t spares = 0;

	for (uint32_t i = 0; i < atomic_load(&p->shared->used); i++)
		spares += atomic_load(&p->shared->slots[i]) != 0;
	return spares;
}

/* Said once, until a fork works again. */
static void note_failed_fork(struct pool *p, int error)
{
	if (!p->fork_failed)
		log_printf(LOG_ERR, "cannot start a process for the next client: %s",
			   strerror(error));
	p->fork_failed = true;
}

int pool_fill(struct pool *p, uint32_t *room, bool *ret_child)
{
	pid_t parent = getpid();
	uint32_t spares = count_spares(p);

	*ret_child = false;
	p->exhausted = p->exhausted || spares == 0;
	if (spares == 0 && p->target < p->most)
		p->target = p->target * 2 < p->most ? p->target * 2 : p->most;
	atomic_store(&p->shared->wanted, (int)p->target);
	atomic_store(&p->shared->low, (int)(p->target / 2));
	for (; spares<p->target && * room> 0; spares++, --*room) {
		uint32_t slot = find_free(p);

		if (slot == POOL_SPARES_MAX)
			break;
		atomic_store(&p->shared->slots[slot], -1);
		pid_t forking = -1, pid = fork();

		if (pid == 0) {
			*ret_child = true;
			return await_client(p, slot, parent);
		}
		if (pid < 0) {
			atomic_store(&p->shared->slots[slot], 0);
			note_failed_fork(p, errno);
			break; /* tried again in a second */
		}
		p->fork_failed = false;
		(void)atomic_compare_exchange_strong(&p->shared->slots[slot], &forking, pid);
	}
	atomic_store(&p->shared->spares, (int)count_spares(p));
	return 0;
}

void pool_adapt(struct pool *p)
{
	if (!p->exhausted && p->target > p->least)
		p->target--;
	p->exhausted = false;
}

static void nudge(struct pool_generation *g, unsigned pools)
{
	for (unsigned n = 0; n < pools; n++)
		for (uint32_t i = 0; i < atomic_load(&g->pools[n].used); i++) {
			pid_t pid = atomic_load(&g->pools[n].slots[i]);

			if (pid > 0)
				(void)kill(pid, SIGURG);
		}
}

void pool_retire(struct pool_table *table, unsigned pools)
{
	nudge(generation_of(table, atomic_fetch_add(&table->generation, 1)), pools);
}

void pool_remind(struct pool_table *table, unsigned pools)
{
	nudge(generation_of(table, atomic_load(&table->generation) - 1), pools);
}

void pool_leave(struct pool_table *table)
{
	(void)munmap(table, sizeof(*table));
}
