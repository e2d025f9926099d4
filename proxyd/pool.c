/* A pool of spare processes.
 *
 * Each child has a slot in a table that parent and children share: free, spare or busy. A child that gets a client
 * marks its slot busy and, when few spares are left, wakes the parent through an eventfd; so the parent runs once
 * for several connections. Children are reaped when the parent runs anyway, at the latest each second.
 *
 * No child is ever killed: accept() returns every POOL_LOOK seconds (SO_RCVTIMEO), and a spare leaves by itself when
 * its parent is gone, the pool is too large or it was retired. Retiring also sends SIGURG, which a spare takes as
 * a reason to look at once and which a child that has a client ignores.
 */
#include "proxyd/pool.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define POOL_LOOK 1 /* seconds */

enum slot_state { SLOT_FREE, SLOT_SPARE, SLOT_BUSY };

struct slot {
	atomic_int state;
	pid_t pid; /* the parent's */
};

struct pool_shared {
	atomic_int spares;   /* waiting now, roughly: only decides whether to wake the parent */
	atomic_int wanted;   /* a spare beyond this number leaves */
	atomic_int low;	     /* so few left: wake the parent */
	atomic_uint retired; /* spares forked before this generation leave */
	struct slot slots[];
};

static size_t shared_size(uint32_t slots)
{
	return sizeof(struct pool_shared) + slots * sizeof(struct slot);
}

void pool_set_bounds(struct pool *p, uint32_t least, uint32_t most)
{
	p->least = least;
	p->most = most;
	p->target = p->target < least ? least : p->target > most ? most : p->target;
}

int pool_init(struct pool *p, int socket, int door, int wake, uint32_t least, uint32_t most,
	      uint32_t processes_most)
{
	struct timeval look = { .tv_sec = POOL_LOOK };

	*p = (struct pool){ .socket = socket,
			    .door = door,
			    .wake = wake,
			    .processes_most = processes_most,
			    .slots = processes_most + most };
	pool_set_bounds(p, least, most);
	p->shared = mmap(NULL, shared_size(p->slots), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (p->shared == MAP_FAILED)
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
static int await_client(struct pool *p, struct slot *slot, pid_t parent)
{
	unsigned generation = atomic_load(&p->shared->retired);

	hear_nudges(true);
	for (;;) {
		int client = accept4(p->socket, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (client >= 0) {
			hear_nudges(false);
			atomic_store(&slot->state, SLOT_BUSY);
			if (atomic_fetch_sub(&p->shared->spares, 1) - 1 <= atomic_load(&p->shared->low))
				wake_parent(p);
			return client;
		}
		/* a socket that systemd or inetd made may be non-blocking */
		if (errno == EAGAIN)
			(void)poll(&(struct pollfd){ .fd = p->socket, .events = POLLIN }, 1, POOL_LOOK * 1000);
		else if (errno == EBADF || errno == EINVAL || errno == ENOTSOCK)
			return -1;
		if (is_superfluous(p, parent, generation))
			return -1;
	}
}

static struct slot *find_free(struct pool *p)
{
	for (uint32_t i = 0; i < p->slots; i++)
		if (atomic_load(&p->shared->slots[i].state) == SLOT_FREE) {
			if (i >= p->slots_used)
				p->slots_used = i + 1;
			return &p->shared->slots[i];
		}
	return NULL;
}

bool pool_reaped(struct pool *p, pid_t pid)
{
	for (uint32_t i = 0; i < p->slots_used; i++) {
		struct slot *slot = &p->shared->slots[i];

		if (slot->pid != pid || atomic_load(&slot->state) == SLOT_FREE)
			continue;
		slot->pid = 0;
		atomic_store(&slot->state, SLOT_FREE);
		while (p->slots_used > 0 &&
		       atomic_load(&p->shared->slots[p->slots_used - 1].state) == SLOT_FREE)
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
		spares += atomic_load(&p->shared->slots[i].state) == SLOT_SPARE;
	return spares;
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
		struct slot *slot = find_free(p);

		if (!slot)
			break;
		atomic_store(&slot->state, SLOT_SPARE);
		pid_t pid = fork();

		if (pid == 0) {
			*ret_child = true;
			return await_client(p, slot, parent);
		}
		if (pid < 0) {
			atomic_store(&slot->state, SLOT_FREE);
			break; /* tried again in a second */
		}
		slot->pid = pid;
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
		if (atomic_load(&p->shared->slots[i].state) == SLOT_SPARE && p->shared->slots[i].pid > 0)
			(void)kill(p->shared->slots[i].pid, SIGURG);
}
