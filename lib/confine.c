/* Giving up rights, places and system calls.
 *
 * Landlock binds the thread that asks for it and those it makes later, so this comes before the
 * first thread, and after all that root does. Traps: no_new_privs must be set before both; a
 * ruleset holds a directory itself, not its name: one that is removed and made anew is another.
 * Containers' filters refuse calls that they do not know with EPERM, which Landlock itself never
 * says when a ruleset is made: that is a kernel without it. proxyd does this for each connection:
 * no call is made for nothing.
 */
#include "lib/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/fd.h"

#define READING (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define IN_PLACES \
	(LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG | \
	 LANDLOCK_ACCESS_FS_REMOVE_FILE)
#define NOWHERE \
	(LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_REMOVE_DIR | \
	 LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | \
	 LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | \
	 LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM)

static int keep_capabilities(uint64_t kept)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { { 0 } };

	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 ||
	    (kept != 0 && syscall(SYS_capget, &header, data) < 0))
		return -errno;
	for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
		data[i].permitted &= (uint32_t)(kept >> 32 * i);
		data[i].effective &= data[i].permitted;
		data[i].inheritable = 0;
	}
	return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

static int limit(int what)
{
	const struct rlimit none = { 0, 0 };

	return setrlimit(what, &none) < 0 ? -errno : 0;
}

int confine_dumps(void)
{
	int r = limit(RLIMIT_CORE);

	return r == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? -errno : r;
}

int confine_rights(uint64_t kept)
{
	int r = keep_capabilities(kept);

	if (r == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		r = -errno;
	return r < 0 ? r : confine_dumps();
}

#ifdef KEEPWARM_SANITIZED
int confine_files(void)
{
	return 0;
}

int confine_processes(void)
{
	return 0;
}

int confine_writes(const char *const *files, size_t count)
{
	(void)files;
	(void)count;
	return 0;
}

int confine_calls(const struct sock_filter *steps, size_t count)
{
	(void)steps;
	(void)count;
	return 0;
}
#else
int confine_processes(void)
{
	return limit(RLIMIT_NPROC);
}

/* What is handled and allowed nowhere is forbidden: the rules' descriptor, or -errno. */
static int make_rules(uint64_t handled)
{
	const struct landlock_ruleset_attr all = { .handled_access_fs = handled };
	int rules = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0);

	return rules < 0 ? -errno : rules;
}

static int obey(int rules)
{
	if (rules < 0)
		return rules == -ENOSYS || rules == -EOPNOTSUPP || rules == -EPERM ? 0 : rules;
	return syscall(SYS_landlock_restrict_self, rules, 0) < 0 ? -errno : 0;
}

int confine_files(void)
{
	AUTO_FD rules = make_rules(READING | IN_PLACES | NOWHERE);

	return obey(rules);
}

static int allow(int rules, const char *path, int kind, uint64_t rights)
{
	AUTO_FD fd = open(path, O_PATH | O_CLOEXEC | kind);
	const struct landlock_path_beneath_attr place = { .allowed_access = rights,
							  .parent_fd = fd };

	if (fd < 0)
		return 0; /* nothing can be made there now */
	return syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &place, 0) < 0
		       ? -errno
		       : 0;
}

/* The directory that a file is in. */
static int allow_directory(int rules, const char *file)
{
	char path[PATH_MAX];
	const char *slash = strrchr(file, '/');
	size_t n = slash ? (size_t)(slash - file) + 1 : 0;

	if (n >= sizeof(path))
		return -ENAMETOOLONG;
	memcpy(path, file, n);
	path[n] = '\0';
	return allow(rules, n > 0 ? path : ".", O_DIRECTORY, IN_PLACES);
}

/* Beside /dev/null is much that a log has no business with. */
static int allow_file(int rules, const char *file)
{
	char real[PATH_MAX];
	struct stat st;

	if (stat(file, &st) == 0 && S_ISCHR(st.st_mode))
		return allow(rules, file, 0, LANDLOCK_ACCESS_FS_WRITE_FILE);
	int r = allow_directory(rules, file);

	return r == 0 && realpath(file, real) ? allow_directory(rules, real) : r;
}

int confine_writes(const char *const *files, size_t count)
{
	AUTO_FD rules = make_rules(IN_PLACES | NOWHERE);
	int r = 0;

	for (size_t i = 0; rules >= 0 && r == 0 && i < count; i++)
		r = allow_file(rules, files[i]);
	return r < 0 ? r : obey(rules);
}

int confine_calls(const struct sock_filter *steps, size_t count)
{
	const struct sock_fprog program = {
		.len = (unsigned short)count,
		.filter = (struct sock_filter *)(uintptr_t)steps,
	};

	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0 ? -errno : 0;
}
#endif
