/* What an intruder tries in a process that any forbidden call ends: the rows that intruder.c and
 * tls_intruder.c share. Whoever includes this has defined WHO, what the process knows of the
 * connection; CONNECTION, its descriptor; and LINK, that of the way to those who are in charge. */
#ifndef TESTS_JAIL_SEALED_H
#define TESTS_JAIL_SEALED_H

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/span.h"

#define CALL(name, ...) \
	static long try_##name(WHO *who) \
	{ \
		(void)who; \
		return syscall(SYS_##name, __VA_ARGS__); \
	}

static const struct sockaddr_in somewhere = { .sin_family = AF_INET, .sin_port = 0x0900 };
static char page[4096] __attribute__((aligned(4096)));

CALL(open, "/etc/passwd", O_RDONLY)
CALL(openat, AT_FDCWD, "/etc/passwd", O_RDONLY)
CALL(openat2, AT_FDCWD, "/etc/passwd", page, 24)
CALL(creat, "/tmp/keepwarm-intruder", 0600)
CALL(unlink, "/tmp/keepwarm-intruder")
CALL(stat, "/etc/passwd", page)
CALL(socket, AF_INET, SOCK_STREAM, 0)
CALL(connect, CONNECTION, &somewhere, sizeof(somewhere))
CALL(bind, CONNECTION, &somewhere, sizeof(somewhere))
CALL(listen, CONNECTION, 5)
CALL(accept4, CONNECTION, NULL, NULL, 0)
CALL(fork, 0)
CALL(vfork, 0)
CALL(clone, SIGCHLD, 0, 0, 0, 0)
CALL(execve, "/bin/true", NULL, NULL)
CALL(kill, getppid(), 0)
CALL(tkill, 1, SIGTERM)
CALL(ptrace, 16, 1, 0, 0)
CALL(process_vm_readv, 1, NULL, 0, NULL, 0, 0)
CALL(pidfd_open, 1, 0)
CALL(pidfd_getfd, LINK, 0, 0)
CALL(mount, "none", "/tmp", "tmpfs", 0, NULL)
CALL(umount2, "/tmp", 0)
CALL(chroot, "/")
CALL(chdir, "/")
CALL(unshare, 0x10000000)
CALL(setns, LINK, 0)
CALL(setuid, 0)
CALL(setresuid, 0, 0, 0)
CALL(setgroups, 0, NULL)
CALL(io_uring_setup, 4, page)
CALL(userfaultfd, 0)
CALL(keyctl, 0, 0, 0, 0, 0)
CALL(add_key, "user", "x", "x", 1, 0)
CALL(perf_event_open, page, 0, -1, -1, 0)
CALL(bpf, 0, page, 0)
CALL(personality, 0x0040000)
CALL(mprotect, page, sizeof(page), PROT_READ | PROT_EXEC)
CALL(mmap, NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
CALL(memfd_create, "x", 0)
CALL(dup, CONNECTION)
CALL(dup2, CONNECTION, LINK)
CALL(ioctl, CONNECTION, 0x5413, page)
CALL(fcntl, CONNECTION, F_SETOWN, getppid())
CALL(setrlimit, RLIMIT_NOFILE, page)
CALL(prlimit64, 1, RLIMIT_NOFILE, NULL, page)
CALL(splice, CONNECTION, NULL, LINK, NULL, 1, 0)
CALL(sendfile, CONNECTION, LINK, NULL, 1)
CALL(inotify_init1, 0)
CALL(shmget, 1, 4096, 0600)
CALL(timer_create, 0, NULL, page)
CALL(seccomp, 1, 0, NULL)
CALL(reboot, 0, 0, 0, NULL)
CALL(wait4, -1, NULL, 1, NULL)

static long try_nothing(WHO *who)
{
	(void)who;
	return 0;
}

/* clang-format off: one a line, tests/scenarios/test_jail.py and test_tlsrelayd_jail.py read them */
#define SEALED_ROWS(ROW) \
	ROW(nothing) \
	ROW(open) \
	ROW(openat) \
	ROW(openat2) \
	ROW(creat) \
	ROW(unlink) \
	ROW(stat) \
	ROW(socket) \
	ROW(connect) \
	ROW(bind) \
	ROW(listen) \
	ROW(accept4) \
	ROW(fork) \
	ROW(vfork) \
	ROW(clone) \
	ROW(execve) \
	ROW(kill) \
	ROW(tkill) \
	ROW(ptrace) \
	ROW(process_vm_readv) \
	ROW(pidfd_open) \
	ROW(pidfd_getfd) \
	ROW(mount) \
	ROW(umount2) \
	ROW(chroot) \
	ROW(chdir) \
	ROW(unshare) \
	ROW(setns) \
	ROW(setuid) \
	ROW(setresuid) \
	ROW(setgroups) \
	ROW(io_uring_setup) \
	ROW(userfaultfd) \
	ROW(keyctl) \
	ROW(add_key) \
	ROW(perf_event_open) \
	ROW(bpf) \
	ROW(personality) \
	ROW(mprotect) \
	ROW(mmap) \
	ROW(memfd_create) \
	ROW(dup) \
	ROW(dup2) \
	ROW(ioctl) \
	ROW(fcntl) \
	ROW(setrlimit) \
	ROW(prlimit64) \
	ROW(splice) \
	ROW(sendfile) \
	ROW(inotify_init1) \
	ROW(shmget) \
	ROW(timer_create) \
	ROW(seccomp) \
	ROW(reboot) \
	ROW(wait4)
/* clang-format on */

struct attempt {
	const char *name;
	long (*run)(WHO *who);
};

/* Writes "survived NAME ERRNO" and the line's end. Its length; 0 for a name that is not there. */
static int attempt(const struct attempt *attempts, size_t count, WHO *who, struct span name,
		   char *answer, size_t cap)
{
	for (size_t i = 0; i < count; i++) {
		if (!span_eq(name, span_str(attempts[i].name)))
			continue;
		long result = attempts[i].run(who);

		return snprintf(answer, cap, "survived %s %d\r\n", attempts[i].name,
				result < 0 ? errno : 0);
	}
	return 0;
}

#endif
