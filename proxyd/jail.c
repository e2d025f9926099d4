/* The jail: what a session that has been taken over cannot do any more.
 *
 * What is given up is lib/confine.c's; here are the descriptors and the order. The filters are made
 * at build time (jail/make_filter.c), so that this process links no library for them. A forbidden
 * call kills the process; whoever reaps it logs and counts that. Installing a filter is dear (some
 * 40 us, for the kernel compiles it): the listener's children inherit the nursery's. Traps:
 * RLIMIT_NOFILE stays as it is, because descriptors in flight count against the sender's limit and
 * GIVE would fail; RLIMIT_NPROC does not bind root; a sanitizer build is locked up in part only.
 */
#include "proxyd/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jail_filter.h"
#include "lib/confine.h"

#define OUT_OF_THE_WAY 64 /* descriptors are first moved behind this number */
#define PLACES_MAX     (7 + JAIL_SOCKETS_MAX)

struct place {
	int *fd;
	int number;
};

/* A kernel without it (before 5.9) has no jail: what stays open is as good as what is given. */
static int close_from(unsigned first)
{
	return syscall(SYS_close_range, first, ~0u, 0) < 0 ? -errno : 0;
}

/* Lifts all out of each other's way, then sets each down in its place; a place that nobody takes is
 * empty afterwards, whatever stood there. Closes all others from number `first` on. */
static int arrange(const struct place *places, size_t count, unsigned first)
{
	for (size_t i = 0; i < count; i++) {
		if (*places[i].fd < 0)
			continue;
		int lifted = fcntl(*places[i].fd, F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);

		if (lifted < 0)
			return -errno;
		if (*places[i].fd > STDERR_FILENO)
			close(*places[i].fd);
		*places[i].fd = lifted;
	}
	for (size_t i = 0; i < count; i++) {
		if (*places[i].fd < 0) {
			close(places[i].number);
			continue;
		}
		if (dup3(*places[i].fd, places[i].number, O_CLOEXEC) < 0)
			return -errno;
		*places[i].fd = places[i].number;
	}
	return close_from(first);
}

static int forbid_calls(bool nursery)
{
	static const struct sock_filter session[] = { SESSION_FILTER };
	static const struct sock_filter parent[] = { NURSERY_FILTER };

	return nursery ? confine_calls(parent, sizeof(parent) / sizeof(parent[0]))
		       : confine_calls(session, sizeof(session) / sizeof(session[0]));
}

/* What is received later comes to stand behind it in any case: there shutdown() is allowed. */
static int fill_log_place(int log)
{
	return log < 0 && dup3(STDERR_FILENO, JAIL_LOG, O_CLOEXEC) < 0 ? -errno : 0;
}

int jail_enter(int *client, int *door, int *link, int *log)
{
	const struct place places[] = {
		{ client, JAIL_CLIENT },
		{ door, JAIL_DOOR },
		{ link, JAIL_LINK },
		{ log, JAIL_LOG },
	};
	int r = arrange(places, sizeof(places) / sizeof(places[0]), JAIL_NEXT);

	if (r == 0 && *door < 0)
		/* nothing else may come to stand where sendmsg is allowed: the next descriptor that
		 * is received gets the lowest free number */
		r = dup3(*link, JAIL_DOOR, O_CLOEXEC) < 0 ? -errno : 0;
	if (r == 0 && *client >= 0) /* an errand shuts nothing down */
		r = fill_log_place(*log);
	(void)(r || (r = confine_rights(0)) || (r = confine_files()) || (r = confine_processes()) ||
	       (r = forbid_calls(false)));
	return r;
}

int jail_enter_nursery(struct jail_nursery *n)
{
	int none = -1;
	struct place places[PLACES_MAX] = {
		{ &none, JAIL_CLIENT },	       { &n->door, JAIL_DOOR }, { &none, JAIL_LINK },
		{ &n->log, JAIL_LOG },	       { &n->wake, JAIL_WAKE }, { &n->life, JAIL_LIFE },
		{ &n->reports, JAIL_REPORTS },
	};
	size_t count = 7;

	for (size_t i = 0; i < n->count; i++)
		places[count++] = (struct place){ &n->sockets[i], JAIL_SOCKETS + (int)i };
	int r = arrange(places, count, (unsigned)(JAIL_SOCKETS + n->count));

	(void)(r || (r = fill_log_place(n->log)) || (r = confine_rights(0)) ||
	       (r = confine_files()) || (r = forbid_calls(true)));
	return r;
}

int jail_enter_child(int client)
{
	if (client != JAIL_CLIENT)
		return -EBADF;
	int r = close_from(JAIL_NEXT);

	if (r == 0)
		r = confine_processes();
	/* what the nursery may and a session may not: RLIMIT_NPROC is no bound for root */
	return r == 0 && geteuid() == 0 ? forbid_calls(false) : r;
}
