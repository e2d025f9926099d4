/* A worker of tlsrelayd that has been taken over: stands in the place of relay.c in
 * build/test/tlsrelayd-intruder and tries what its client asks for by name, in plain text. It
 * answers "survived NAME ERRNO" when the call came back; in a jail that holds it never does. The
 * name "nothing" shows that an answer would be seen.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/fd.h"
#include "tlsrelayd/link.h"
#include "tlsrelayd/relay.h"
#include "tlsrelayd/sandbox.h"

#define CALL(name, ...) \
	static long try_##name(const struct relay *r) \
	{ \
		(void)r; \
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
CALL(socketpair, AF_UNIX, SOCK_STREAM, 0, page)
CALL(connect, r->tcp.fd, &somewhere, sizeof(somewhere))
CALL(bind, r->tcp.fd, &somewhere, sizeof(somewhere))
CALL(listen, r->tcp.fd, 5)
CALL(accept4, r->tcp.fd, NULL, NULL, 0)
CALL(fork, 0)
CALL(vfork, 0)
CALL(clone, SIGCHLD, 0, 0, 0, 0)
CALL(execve, "/bin/true", NULL, NULL)
CALL(kill, getppid(), 0)
CALL(tkill, 1, SIGTERM)
CALL(ptrace, 16, 1, 0, 0)
CALL(process_vm_readv, 1, NULL, 0, NULL, 0, 0)
CALL(pidfd_open, 1, 0)
CALL(pidfd_getfd, SANDBOX_LINK, 0, 0)
CALL(mount, "none", "/tmp", "tmpfs", 0, NULL)
CALL(chroot, "/")
CALL(chdir, "/")
CALL(unshare, 0x10000000)
CALL(setns, SANDBOX_LINK, 0)
CALL(setuid, 0)
CALL(setresuid, 0, 0, 0)
CALL(setgroups, 0, NULL)
CALL(io_uring_setup, 4, page)
CALL(userfaultfd, 0)
CALL(keyctl, 0, 0, 0, 0, 0)
CALL(perf_event_open, page, 0, -1, -1, 0)
CALL(bpf, 0, page, 0)
CALL(personality, 0x0040000)
CALL(mprotect, page, sizeof(page), PROT_READ | PROT_EXEC)
CALL(mmap, NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
CALL(memfd_create, "x", 0)
CALL(dup, r->tcp.fd)
CALL(dup2, r->tcp.fd, SANDBOX_LINK)
CALL(ioctl, r->tcp.fd, 0x5413, page)
CALL(fcntl, r->tcp.fd, F_SETOWN, getppid())
CALL(setrlimit, RLIMIT_NOFILE, page)
CALL(prlimit64, 1, RLIMIT_NOFILE, NULL, page)
CALL(splice, r->tcp.fd, NULL, r->plain, NULL, 1, 0)
CALL(inotify_init1, 0)
CALL(shmget, 1, 4096, 0600)
CALL(timer_create, 0, NULL, page)
CALL(seccomp, 1, 0, NULL)
CALL(reboot, 0, 0, 0, NULL)
CALL(wait4, -1, NULL, 1, NULL)
CALL(read, r->tcp.fd, page, 1)
CALL(sendmsg, SANDBOX_LINK, page, 0)
CALL(setsockopt, r->tcp.fd, SOL_SOCKET, SO_LINGER, page, sizeof(struct linger))
CALL(close, SANDBOX_LINK)
CALL(shutdown, SANDBOX_LINK, SHUT_RDWR)
CALL(recvmsg, r->plain, page, 0)
CALL(write, r->plain, "x", 1)
CALL(prctl, PR_SET_DUMPABLE, 1, 0, 0, 0)
CALL(sendto, r->tcp.fd, "x", 1, 0, &somewhere, sizeof(somewhere))

static long try_nothing(const struct relay *r)
{
	(void)r;
	return 0;
}

/* clang-format off: one a line, tests/scenarios/test_tlsrelayd_jail.py reads them */
#define CALL_ROWS(ROW) \
	ROW(nothing) \
	ROW(open) \
	ROW(openat) \
	ROW(openat2) \
	ROW(creat) \
	ROW(unlink) \
	ROW(stat) \
	ROW(socket) \
	ROW(socketpair) \
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
	ROW(inotify_init1) \
	ROW(shmget) \
	ROW(timer_create) \
	ROW(seccomp) \
	ROW(reboot) \
	ROW(wait4) \
	ROW(read) \
	ROW(sendmsg) \
	ROW(setsockopt) \
	ROW(close) \
	ROW(shutdown) \
	ROW(recvmsg) \
	ROW(write) \
	ROW(prctl) \
	ROW(sendto)
/* clang-format on */

static const struct {
	const char *name;
	long (*run)(const struct relay *r);
} attempts[] = {
#define ROW(name) { #name, try_##name },
	CALL_ROWS(ROW)
};

/* Not forbidden, since the link must be written to: the master has to bear it. */
static void say_lines(const struct relay *r)
{
	static const struct link_report line = {
		.word = LINK_LINE,
		.failure = { .reason = TLS_HANDSHAKE, .text = "a line of the intruder's" },
	};
	int said = 0;

	while (said < 1000) {
		int e = link_send_report(SANDBOX_LINK, &line);

		if (e < 0 && e != -EAGAIN)
			break;
		said += e == 0;
	}
	(void)send(r->tcp.fd, "said", 4, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void attempt(const struct relay *r, struct span name)
{
	char answer[100];

	for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
		if (!span_eq(name, span_str(attempts[i].name)))
			continue;
		long result = attempts[i].run(r);
		int n = snprintf(answer, sizeof(answer), "survived %s %d\n", attempts[i].name,
				 result < 0 ? errno : 0);

		(void)send(r->tcp.fd, answer, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
}

int relay_init(struct relay *r, struct ssl_st *ssl, int tcp, int plain, const char *peer,
	       bool is_client, bool starttls, uint32_t port)
{
	(void)ssl;
	(void)peer;
	(void)is_client;
	(void)starttls;
	(void)port;
	*r = (struct relay){ .tcp.fd = tcp, .plain = plain };
	return 0;
}

void relay_wipe(struct relay *r)
{
	fd_drop(&r->tcp.fd);
	fd_drop(&r->plain);
}

enum relay_news relay_step(struct relay *r, uint32_t tcp_events, uint32_t plain_events,
			   struct errors_text *failure)
{
	char name[64];
	ssize_t n = recv(r->tcp.fd, name, sizeof(name), MSG_DONTWAIT);

	(void)tcp_events;
	(void)plain_events;
	if (n == 0) {
		errors_say(failure, "intruder", TLS_HANDSHAKE, "left");
		return RELAY_FAILED;
	}
	if (n == 5 && memcmp(name, "lines", 5) == 0)
		say_lines(r);
	else if (n > 0)
		attempt(r, (struct span){ name, (size_t)n });
	return RELAY_NOTHING;
}

void relay_wants(const struct relay *r, struct relay_wants *ret)
{
	(void)r;
	*ret = (struct relay_wants){ .tcp = EPOLLIN, .watch_tcp = true };
}

void relay_facts(const struct relay *r, struct relay_facts *ret)
{
	(void)r;
	*ret = (struct relay_facts){ .version = "", .cipher = "", .name = "" };
}
