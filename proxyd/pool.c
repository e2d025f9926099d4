/* A pool of spare processes.
 *
 * Each child has a slot in a table that parent and children share: spare or busy. A child that gets
 * a client marks its slot busy and, when few spares are left, wakes the parent through an eventfd;
 * so the parent runs once for several connections. Children are reaped when the parent runs anyway,
 * at the latest each second.
 *
 * No child is ever killed: accept() returns every POOL_LOOK seconds (SO_RCVTIMEO), and a spare
 * leaves by itself when its parent is gone, the pool is too large or it was retired. Retiring also
 * sends SIGURG, which a spare takes as a reason to look at once and which a child that has a client
 * ignores.
 */
#include "proxyd/pool.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "lib/log.h"

#define POOL_LOOK 1 /* seconds */
#define POOL_SLOTS \
	(1 << 21) /* the largest max_clients and spares; pages that are not touched cost nothing \
		   */
#define PAUSE_MS 100 /* before a spare tries again that could not accept */

enum slot_state { SLOT_SPARE = 1, SLOT_BUSY };

struct pool_shared {
	atomic_int spares;   /* waiting now, roughly: only decides whether to wake the parent */
	atomic_int wanted;   /* a spare beyond this number leaves */
	atomic_int low;	     /* so few left: wake the parent */
	atomic_uint retired; /* spares forked before this generation leave */
	atomic_uchar slots[POOL_SLOTS]; /* enum slot_state */
};

void pool_set_bounds(struct pool *p, uint32_t least, uint32_t most, uint32_t processes_most)
{
	p->least = least;
	p->most = most;
	p->slots = processes_most < POOL_SLOTS - most ? processes_most + most : POOL_SLOTS;
	if (p->slots < p->slots_used)
		p->slots = p->slots_used;
	p->target = p->target < least ? least : p->target > most ? most : p->target;
}

int pool_init(struct pool *p, int socket, int door, int wake, uint32_t least, uint32_t most,
	      uint32_t processes_most)
{
	struct timeval look = { .tv_sec = POOL_LOOK };

	*p = (struct pool){ .socket = socket, .door = door, .wake = wake };
	pool_set_bounds(p, least, most, processes_most);
	p->shared = mmap(NULL, sizeof(*p->shared), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	p->pids = mmap(NULL, POOL_SLOTS * sizeof(pid_t), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p->shared == MAP_FAILED || p->pids == MAP_FAILED ||
	    madvise(p->pids, POOL_SLOTS * sizeof(pid_t), MADV_DONTFORK) < 0)
		return -errno;
	return setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &look, sizeof(look)) < 0 ? -errno : 0;
}

static void wake_parent(const struct pool *p)
{
	uint64_t one = 1;

	(void)!write(p->wake, &one, sizeof(one));
}

/* Has this spare a reason to leave? */
static bool is_superfluous(struct pool *p, pid_t parent, unsigned generation)
{
	if (getppid() != parent || atomic_load(&p->shared->retired) != generation)
		return true;
	int spares = atomic_load(&p->shared->spares);

	return spares > atomic_load(&p->shared->wanted) &&
	       atomic_compare_exchange_strong(&p->shared->spares, &spares, spares - 1);
}

static void on_nudge(int number)
{
	(void)number; /* accept() has returned: that is all */
}

static void hear_nudges(bool hear)
{
	const struct sigaction action = { .sa_handler = hear ? on_nudge : SIG_IGN };

	(void)sigaction(SIGURG, &action, NULL);
}

/* In the child: waits for a client. Its descriptor, or -1. */
static int await_client(struct pool *p, uint32_t slot, pid_t parent)
{
	unsigned generation = atomic_load(&p->shared->retired);

	hear_nudges(true);
	for (;;) {
		int client = accept4(p->socket, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (client >= 0) {
			hear_nudges(false);
			atomic_store(&p->shared->slots[slot], SLOT_BUSY);
			if (atomic_fetch_sub(&p->shared->spares, 1) - 1 <=
			    atomic_load(&p->shared->low))
				wake_parent(p);
			return client;
		}
		/* a socket that systemd or inetd made may be non-blocking */
		if (errno == EAGAIN)
			(void)poll(&(struct pollfd){ .fd = p->socket, .events = POLLIN }, 1,
				   POOL_LOOK * 1000);
		else if (errno == EBADF || errno == EINVAL || errno == ENOTSOCK)
			return -1;
		else if (errno != EINTR && errno != ECONNABORTED)
			(void)poll(NULL, 0, PAUSE_MS); /* out of memory or descriptors */
		if (is_superfluous(p, parent, generation))
			return -1;
	}
}

/* A free slot, or p->slots when there is none. */
static uint32_t find_free(struct pool *p)
{
	uint32_t i = 0;

	while (i < p->slots && p->pids[i] != 0)
		i++;
	if (i < p->slots && i >= p->slots_used)
		p->slots_used = i + 1;
	return i;
}

bool pool_reaped(struct pool *p, pid_t pid)
{
	for (uint32_t i = 0; i < p->slots_used; i++) {
		if (p->pids[i] != pid)
			continue;
		p->pids[i] = 0;
		while (p->slots_used > 0 && p->pids[p->slots_used - 1] == 0)
			p->slots_used--;
		return true;
	}
	return false;
}

/* The truth about the spares; the children's counter only estimates it. */
static uint32_t count_spares(struct pool *p)
{
	uint32_t spares = 0;

	for (uint32_t i = 0; i < p->slots_used; i++)
		spares += p->pids[i] != 0 && atomic_load(&p->shared->slots[i]) == SLOT_SPARE;
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

int pool_fill(struct pool *p, bool *ret_child)
{
	pid_t parent = getpid();
	uint32_t spares = count_spares(p);

	*ret_child = false;
	p->exhausted = p->exhausted || spares == 0;
	if (spares == 0 && p->target < p->most)
		p->target = p->target * 2 < p->most ? p->target * 2 : p->most;
	atomic_store(&p->shared->wanted, (int)p->target);
	atomic_store(&p->shared->low, (int)(p->target / 2));
	for (; spares < p->target; spares++) {
		uint32_t slot = find_free(p);

		if (slot == p->slots)
			break;
		atomic_store(&p->shared->slots[slot], SLOT_SPARE);
		pid_t pid = fork();

		if (pid == 0) {
			*ret_child = true;
			return await_client(p, slot, parent);
		}
		if (pid < 0) {
			note_failed_fork(p, errno);
			break; /* tried again in a second */
		}
		p->fork_failed = false;
		p->pids[slot] = pid;
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

void pool_retire(struct pool *p)
{
	atomic_fetch_add(&p->shared->retired, 1);
	for (uint32_t i = 0; i < p->slots_used; i++)
		if (p->pids[i] > 0 && atomic_load(&p->shared->slots[i]) == SLOT_SPARE)
			(void)kill(p->pids[i], SIGURG);
}

void pool_leave(struct pool *p)
{
	(void)munmap(p->shared, sizeof(*p->shared));
	p->shared = NULL;
}
