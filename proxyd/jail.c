/* The jail: what a session that has been taken over cannot do any more.
 *
 * The filter is made at build time (jail/make_filter.c), so that this process links no library for
 * it. A forbidden call kills the process; whoever reaps it logs and counts that. Traps:
 * RLIMIT_NOFILE stays as it is, because descriptors in flight count against the sender's limit and
 * GIVE would fail; Landlock needs no_new_privs; a sanitizer build is
 * locked up in part only.
 */
#include "proxyd/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jail_filter.h"
#include "lib/fd.h"

#define OUT_OF_THE_WAY 64 /* descriptors are first moved behind this number */

struct place {
	int *fd;
	int number;
};

/* Lifts all out of each other's way, then sets each down in its place; a place that nobody takes is
 * empty afterwards, whatever stood there. */
static int arrange(const struct place *places, size_t count)
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
	return syscall(SYS_close_range, JAIL_NEXT, ~0u, 0) < 0 && errno != ENOSYS ? -errno : 0;
}

static int limit(int what)
{
	const struct rlimit none = { 0, 0 };

	return setrlimit(what, &none) < 0 ? -errno : 0;
}

#ifdef KEEPWARM_SANITIZED
static int forbid_all_else(void)
{
	return 0; /* a sanitizer's run-time reads /proc, starts a tracer and uses other calls */
}
#else
/* No file can be opened, made or removed any more. A kernel without Landlock has the filter for
 * that. */
static int forbid_files(void)
{
	const struct landlock_ruleset_attr all = {
		.handled_access_fs = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE |
				     LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR |
				     LANDLOCK_ACCESS_FS_REMOVE_DIR |
				     LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR |
				     LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
				     LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |
				     LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM,
	};
	AUTO_FD rules = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0);

	if (rules < 0)
		return errno == ENOSYS || errno == EOPNOTSUPP ? 0 : -errno;
	return syscall(SYS_landlock_restrict_self, rules, 0) < 0 ? -errno : 0;
}

/* No process can be started, this one cannot be looked into, and only listed calls come back. */
static int forbid_all_else(void)
{
	static const struct sock_filter filter[] = { JAIL_FILTER };
	const struct sock_fprog program = { .len = sizeof(filter) / sizeof(filter[0]),
					    .filter = (struct sock_filter *)(uintptr_t)filter };
	int r = forbid_files();

	if (r == 0)
		r = limit(RLIMIT_NPROC);
	if (r == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		r = -errno;
	if (r == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		r = -errno;
	return r;
}
#endif

int jail_enter(int *client, int *door, int *link, int *log)
{
	const struct place places[] = {
		{ client, JAIL_CLIENT },
		{ door, JAIL_DOOR },
		{ link, JAIL_LINK },
		{ log, JAIL_LOG },
	};
	int r = arrange(places, sizeof(places) / sizeof(places[0]));

	if (r == 0 && *door < 0)
		/* nothing else may come to stand where sendmsg is allowed: the next descriptor that
		 * is received gets the lowest free number */
		r = dup3(*link, JAIL_DOOR, O_CLOEXEC) < 0 ? -errno : 0;
	if (r == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		r = -errno;
	(void)(r || (r = limit(RLIMIT_CORE)) || (r = forbid_all_else()));
	return r;
}
