/* What a worker gives up.
 *
 * The filter is made at build time (sandbox/make_filter.c). A forbidden call kills the process. No
 * file can be opened, no socket made, no descriptor sent: not even a worker that was taken over
 * reaches more than the connections it has. A sanitizer build is locked up in part only: its
 * run-time reads /proc and uses other calls.
 */
#include "tlsrelayd/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/fd.h"
#include "lib/ids.h"
#include "relay_filter.h"

static int limit(int what)
{
	const struct rlimit none = { 0, 0 };

	return setrlimit(what, &none) < 0 ? -errno : 0;
}

void sandbox_forbid_dumps(void)
{
	(void)limit(RLIMIT_CORE);
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

int sandbox_arrange(int *link)
{
	if (*link != SANDBOX_LINK && dup3(*link, SANDBOX_LINK, O_CLOEXEC) < 0)
		return -errno;
	*link = SANDBOX_LINK;
	return syscall(SYS_close_range, SANDBOX_NEXT, ~0u, 0) < 0 ? -errno : 0;
}

static int give_up_capabilities(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { { 0 } };

	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 ||
	    syscall(SYS_capset, &header, none) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return 0;
}

#ifdef KEEPWARM_SANITIZED
static int forbid_files(void)
{
	return 0;
}

static int forbid_calls(void)
{
	return 0;
}
#else
/* A kernel without Landlock, or a container that refuses it (EPERM), has the filter for that. */
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
		return errno == ENOSYS || errno == EOPNOTSUPP || errno == EPERM ? 0 : -errno;
	return syscall(SYS_landlock_restrict_self, rules, 0) < 0 ? -errno : 0;
}

static int forbid_calls(void)
{
	static const struct sock_filter steps[] = { RELAY_FILTER };
	const struct sock_fprog program = {
		.len = (unsigned short)(sizeof(steps) / sizeof(steps[0])),
		.filter = (struct sock_filter *)(uintptr_t)steps,
	};
	int r = limit(RLIMIT_NPROC);

	if (r == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		r = -errno;
	return r;
}
#endif

int sandbox_enter(uid_t uid, gid_t gid)
{
	int r = geteuid() == 0 ? ids_drop(uid, gid) : 0;

	if (r == 0)
		r = give_up_capabilities();
	sandbox_forbid_dumps(); /* a change of ids undid it */
	if (r == 0)
		r = forbid_files();
	return r < 0 ? r : forbid_calls();
}
