/* What an intruder in a long-running program tries: the rows of broker_intruder.c and of
 * lookup_intruder.c. ROW(name, result): KILLED, or the errno that the call must fail with; OK shows
 * that success would be seen. */
#ifndef TESTS_JAIL_ATTEMPTS_H
#define TESTS_JAIL_ATTEMPTS_H

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define CALL(name, ...) \
	static long try_##name(void) \
	{ \
		return syscall(SYS_##name, __VA_ARGS__); \
	}
#define CALL_AS(name, call, ...) \
	static long try_##name(void) \
	{ \
		return syscall(SYS_##call, __VA_ARGS__); \
	}

static const struct sockaddr_in somewhere = { .sin_family = AF_INET };
static char page[4096] __attribute__((aligned(4096)));

static long try_nothing(void)
{
	return 0;
}

CALL(execve, "/bin/true", NULL, NULL)
CALL(execveat, AT_FDCWD, "/bin/true", NULL, NULL, 0)
CALL(ptrace, 16, 1, 0, 0)
CALL(process_vm_readv, 1, NULL, 0, NULL, 0, 0)
CALL(process_vm_writev, 1, NULL, 0, NULL, 0, 0)
CALL(pidfd_getfd, 0, 0, 0)
CALL(mount, "none", "/tmp", "tmpfs", 0, NULL)
CALL(umount2, "/tmp", 0)
CALL(pivot_root, "/", "/")
CALL(chroot, "/")
CALL(unshare, 0x10000000)
CALL(setns, 0, 0)
CALL(bpf, 0, page, 0)
CALL(perf_event_open, page, 0, -1, -1, 0)
CALL(userfaultfd, 0)
CALL(io_uring_setup, 4, page)
CALL(init_module, page, 1, "")
CALL(finit_module, 0, "", 0)
CALL(kexec_load, 0, 0, NULL, 0)
CALL(reboot, 0, 0, 0, NULL)
CALL(setuid, 0)
CALL(setgid, 0)
CALL(setresuid, 0, 0, 0)
CALL(setgroups, 0, NULL)
CALL(capset, page, page)
CALL(listen, 0, 5)

CALL(keyctl, 0, 0, 0, 0, 0)
CALL(add_key, "user", "x", "x", 1, 0)
CALL(personality, 0x0040000)
CALL(seccomp, SECCOMP_SET_MODE_FILTER, 0, page)
CALL_AS(undump, prctl, PR_SET_DUMPABLE, 1, 0, 0, 0)
CALL_AS(weaken, prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL)
CALL_AS(fork, clone, SIGCHLD, 0, 0, 0, 0)
CALL_AS(fork_with_memory, clone, 0x100 | 0x4000 | SIGCHLD, 0, 0, 0, 0)
CALL_AS(kill_parent, kill, getppid(), 0)
CALL(tkill, 1, 0)
CALL(tgkill, 1, 1, 0)
CALL(pidfd_open, 1, 0)
CALL_AS(own_signals, fcntl, 0, F_SETOWN, 1)
CALL_AS(type_into_terminal, ioctl, 0, 0x5412, page)
CALL_AS(run_memory, mmap, NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
	MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
CALL_AS(run_page, mprotect, page, sizeof(page), PROT_READ | PROT_EXEC)
CALL_AS(packets, socket, AF_PACKET, SOCK_RAW, 0)
CALL_AS(raw, socket, AF_INET, SOCK_RAW, IPPROTO_ICMP)
CALL_AS(vsock, socket, AF_VSOCK, SOCK_STREAM, 0)
CALL_AS(alg, socket, AF_ALG, SOCK_SEQPACKET, 0)
CALL_AS(other_netlink, socket, AF_NETLINK, SOCK_RAW, 15)
CALL_AS(limit_of_others, prlimit64, 1, 0, NULL, page)
CALL(shmget, 1, 4096, 0600)
CALL(mknodat, AT_FDCWD, "intruder", S_IFIFO | 0600, 0)
CALL(mkdirat, AT_FDCWD, "intruder", 0700)
CALL(symlinkat, "/", AT_FDCWD, "intruder")
CALL(linkat, AT_FDCWD, "victim", AT_FDCWD, "intruder", 0)
CALL(fchownat, AT_FDCWD, "victim", 1, 1, 0)
CALL(setxattr, "victim", "user.x", "x", 1, 0)
CALL(chdir, "/")

/* An address of its own, to be reached at. */
static long try_bind_port(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -1
		      : syscall(SYS_bind, fd, (const struct sockaddr *)&somewhere,
				sizeof(somewhere));
}

static long try_bind_path(void)
{
	const struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "intruder" };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return fd < 0 ? -1
		      : syscall(SYS_bind, fd, (const struct sockaddr *)&address, sizeof(address));
}

/* clang-format off: one a line, tests/scenarios/test_jail_services.py reads them */
#define SHARED_ROWS(ROW) \
	ROW(nothing, OK) \
	ROW(execve, KILLED) \
	ROW(execveat, KILLED) \
	ROW(ptrace, KILLED) \
	ROW(process_vm_readv, KILLED) \
	ROW(process_vm_writev, KILLED) \
	ROW(pidfd_getfd, KILLED) \
	ROW(mount, KILLED) \
	ROW(umount2, KILLED) \
	ROW(pivot_root, KILLED) \
	ROW(chroot, KILLED) \
	ROW(unshare, KILLED) \
	ROW(setns, KILLED) \
	ROW(bpf, KILLED) \
	ROW(perf_event_open, KILLED) \
	ROW(userfaultfd, KILLED) \
	ROW(io_uring_setup, KILLED) \
	ROW(init_module, KILLED) \
	ROW(finit_module, KILLED) \
	ROW(kexec_load, KILLED) \
	ROW(reboot, KILLED) \
	ROW(setuid, KILLED) \
	ROW(setgid, KILLED) \
	ROW(setresuid, KILLED) \
	ROW(setgroups, KILLED) \
	ROW(capset, EPERM) \
	ROW(listen, KILLED) \
	ROW(keyctl, EPERM) \
	ROW(add_key, EPERM) \
	ROW(personality, EPERM) \
	ROW(seccomp, EPERM) \
	ROW(undump, EPERM) \
	ROW(weaken, EPERM) \
	ROW(fork, EPERM) \
	ROW(fork_with_memory, EPERM) \
	ROW(kill_parent, EPERM) \
	ROW(tkill, EPERM) \
	ROW(tgkill, EPERM) \
	ROW(pidfd_open, EPERM) \
	ROW(own_signals, EPERM) \
	ROW(type_into_terminal, EPERM) \
	ROW(run_memory, EPERM) \
	ROW(run_page, EPERM) \
	ROW(packets, EPERM) \
	ROW(raw, EPERM) \
	ROW(vsock, EPERM) \
	ROW(alg, EPERM) \
	ROW(other_netlink, EPERM) \
	ROW(limit_of_others, EPERM) \
	ROW(shmget, EPERM) \
	ROW(mknodat, EPERM) \
	ROW(mkdirat, EPERM) \
	ROW(symlinkat, EPERM) \
	ROW(linkat, EPERM) \
	ROW(fchownat, EPERM) \
	ROW(setxattr, EPERM) \
	ROW(chdir, EPERM) \
	ROW(bind_port, EPERM) \
	ROW(bind_path, EPERM)
/* clang-format on */

struct attempt {
	const char *name;
	long (*run)(void);
};

/* Writes "survived NAME ERRNO", or nothing for a name that is not there. */
static void attempt(const struct attempt *attempts, size_t count, const char *name, char *answer,
		    size_t cap)
{
	*answer = '\0';
	for (size_t i = 0; i < count; i++) {
		if (strcmp(attempts[i].name, name) != 0)
			continue;
		long result = attempts[i].run();

		(void)snprintf(answer, cap, "survived %s %d", name, result < 0 ? errno : 0);
	}
}

#endif
