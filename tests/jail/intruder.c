/* A session that has been taken over: stands in the place of relay.c in build/test/proxyd-intruder
 * and tries, after login, what its client asks for by name. It answers "survived NAME ERRNO" when
 * the call came back; in a jail that holds it never does. The name "nothing" shows that an answer
 * would be seen.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/msgsock.h"
#include "proxyd/io.h"
#include "proxyd/jail.h"
#include "proxyd/session.h"

#define CALL(name, ...) \
	static long try_##name(struct session *s) \
	{ \
		(void)s; \
		return syscall(SYS_##name, __VA_ARGS__); \
	}

static const struct sockaddr_in somewhere = { .sin_family = AF_INET, .sin_port = 0x0900 };
static char page[4096] __attribute__((aligned(4096)));

CALL(open, "/etc/passwd", O_RDONLY)
CALL(openat, AT_FDCWD, "/etc/passwd", O_RDONLY)
CALL(creat, "/tmp/keepwarm-intruder", 0600)
CALL(unlink, "/tmp/keepwarm-intruder")
CALL(stat, "/etc/passwd", page)
CALL(socket, AF_INET, SOCK_STREAM, 0)
CALL(connect, JAIL_CLIENT, &somewhere, sizeof(somewhere))
CALL(bind, JAIL_CLIENT, &somewhere, sizeof(somewhere))
CALL(listen, JAIL_CLIENT, 5)
CALL(accept4, JAIL_CLIENT, NULL, NULL, 0)
CALL(fork, 0)
CALL(vfork, 0)
CALL(clone, SIGCHLD, 0, 0, 0, 0)
CALL(execve, "/bin/true", NULL, NULL)
CALL(kill, getppid(), 0)
CALL(tkill, 1, SIGTERM)
CALL(ptrace, 16, 1, 0, 0)
CALL(process_vm_readv, 1, NULL, 0, NULL, 0, 0)
CALL(pidfd_open, 1, 0)
CALL(pidfd_getfd, JAIL_LINK, 0, 0)
CALL(mount, "none", "/tmp", "tmpfs", 0, NULL)
CALL(umount2, "/tmp", 0)
CALL(chroot, "/")
CALL(chdir, "/")
CALL(unshare, 0x10000000)
CALL(setns, JAIL_LINK, 0)
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
CALL(dup, JAIL_CLIENT)
CALL(dup2, JAIL_CLIENT, JAIL_LINK)
CALL(ioctl, JAIL_CLIENT, 0x5413, page)
CALL(fcntl, JAIL_CLIENT, F_SETOWN, getppid())
CALL(setrlimit, RLIMIT_NOFILE, page)
CALL(prlimit64, 1, RLIMIT_NOFILE, NULL, page)
CALL(splice, JAIL_CLIENT, NULL, JAIL_LINK, NULL, 1, 0)
CALL(sendfile, JAIL_CLIENT, JAIL_LINK, NULL, 1)
CALL(inotify_init1, 0)
CALL(shmget, 1, 4096, 0600)
CALL(timer_create, 0, NULL, page)
CALL(seccomp, 1, 0, NULL)
CALL(reboot, 0, 0, 0, NULL)
CALL(wait4, -1, NULL, 1, NULL)

static long try_nothing(struct session *s)
{
	(void)s;
	return 0;
}

static long try_undump(struct session *s)
{
	(void)s;
	return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

static long try_linger(struct session *s)
{
	const struct linger on = { 1, 60 };

	return setsockopt(s->backend.fd, SOL_SOCKET, SO_LINGER, &on, sizeof(on));
}

static long try_sendto_address(struct session *s)
{
	return sendto(s->backend.fd, "x", 1, 0, (const struct sockaddr *)&somewhere,
		      sizeof(somewhere));
}

/* A descriptor over a connection that is not ours to pass descriptors on. */
static long pass_descriptor(int over, int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { page, 1 };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control.bytes,
			    .msg_controllen = sizeof(control.bytes) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	return sendmsg(over, &m, MSG_DONTWAIT);
}

static long try_pass_to_client(struct session *s)
{
	return pass_descriptor(s->client, s->backend.fd);
}

static long try_pass_to_backend(struct session *s)
{
	return pass_descriptor(s->backend.fd, s->client);
}

static long try_shut_door(struct session *s)
{
	(void)s;
	return shutdown(JAIL_DOOR, SHUT_RDWR);
}

static long try_shut_link(struct session *s)
{
	(void)s;
	return shutdown(JAIL_LINK, SHUT_RDWR);
}

/* All processes of a listener share the logger's socket. */
static long try_shut_log(struct session *s)
{
	(void)s;
	return shutdown(JAIL_LOG, SHUT_RDWR);
}

/* To where shutdown() is allowed. */
static long try_move_door(struct session *s)
{
	(void)s;
	return dup3(JAIL_DOOR, JAIL_CLIENT, O_CLOEXEC);
}

static long try_move_link(struct session *s)
{
	(void)s;
	return dup3(JAIL_LINK, JAIL_CLIENT, O_CLOEXEC);
}

static long try_move_log(struct session *s)
{
	(void)s;
	return dup3(JAIL_LOG, JAIL_CLIENT, O_CLOEXEC);
}

/* To where descriptors can be sent. */
static long try_move_backend_to_link(struct session *s)
{
	return dup3(s->backend.fd, JAIL_LINK, O_CLOEXEC);
}

static long try_move_backend_to_log(struct session *s)
{
	return dup3(s->backend.fd, STDERR_FILENO, O_CLOEXEC);
}

static long try_keep_backend_over_exec(struct session *s)
{
	return dup3(s->backend.fd, JAIL_CLIENT, 0);
}

/* inetd's listening socket comes as standard input: no session may accept other clients at it. */
static long try_accept_standard(struct session *s)
{
	(void)s;
	return syscall(SYS_accept4, STDIN_FILENO, NULL, NULL, SOCK_NONBLOCK);
}

static long try_inet_pair(struct session *s)
{
	int pair[2];

	(void)s;
	return socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
}

static long try_write_elsewhere(struct session *s)
{
	(void)s;
	return write(JAIL_CLIENT, "x", 1);
}

/* Sends a message's worth of nothing through the door. */
static long try_empty_knock(struct session *s)
{
	(void)s;
	return sendto(JAIL_DOOR, "", 0, 0, NULL, 0);
}

/* If the broker took it for a session's socket, the door would never hang up. */
static long try_knock_with_the_door(struct session *s)
{
	const struct msg knock = { .type = MSG_KNOCK,
				   .KNOCK = { .service = SERVICE_IMAP,
					      .client = SPAN("x"),
					      .local = SPAN("x"),
					      .user = SPAN("x") } };

	(void)s;
	return msgsock_send(JAIL_DOOR, &knock, JAIL_DOOR);
}

/* Has the door, which all sessions share, wrapped in TLS and read by tlsrelayd. */
static long try_wrap_the_door(struct session *s)
{
	const struct msg wrap = { .type = MSG_TLS_ACCEPT,
				  .serial = 1000,
				  .TLS_ACCEPT = { .service = SERVICE_IMAP,
						  .client = s->hello.client } };

	return msgsock_send(JAIL_LINK, &wrap, JAIL_DOOR);
}

/* Moves the door, which all sessions share, to where shutdown() is allowed. */
static long shut_moved_door(int how)
{
	static char data[MSG_MAX];
	const struct msg m = { .type = MSG_LEASED };
	struct msg received;
	int pair[2], fd = -1;

	close(JAIL_LOG);
	close(JAIL_LINK);
	if (msgsock_pair(pair) < 0 || pair[0] != JAIL_LINK ||
	    msgsock_send(pair[0], &m, JAIL_DOOR) < 0)
		return -1;
	close(JAIL_CLIENT);
	if (msgsock_receive(pair[1], ROLE_BROKER, data, &received, &fd) < 0 || fd != JAIL_CLIENT)
		return -1;
	return shutdown(JAIL_CLIENT, how);
}

static long try_shut_the_moved_door(struct session *s)
{
	(void)s;
	return shut_moved_door(SHUT_RDWR);
}

/* One direction: poll(2) calls that no hang-up. */
static long try_half_shut_the_moved_door(struct session *s)
{
	(void)s;
	return shut_moved_door(SHUT_WR);
}

/* clang-format off: one a line, tests/scenarios/test_jail.py reads them */
#define CALL_ROWS(ROW) \
	ROW(open) \
	ROW(openat) \
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
	ROW(nothing) \
	ROW(undump) \
	ROW(linger) \
	ROW(sendto_address) \
	ROW(pass_to_client) \
	ROW(pass_to_backend) \
	ROW(shut_door) \
	ROW(shut_link) \
	ROW(shut_log) \
	ROW(move_door) \
	ROW(move_link) \
	ROW(move_log) \
	ROW(move_backend_to_link) \
	ROW(move_backend_to_log) \
	ROW(keep_backend_over_exec) \
	ROW(accept_standard) \
	ROW(inet_pair) \
	ROW(write_elsewhere) \
	ROW(wait4) \
	ROW(empty_knock) \
	ROW(knock_with_the_door) \
	ROW(wrap_the_door) \
	ROW(shut_the_moved_door) \
	ROW(half_shut_the_moved_door)
/* clang-format on */

static const struct {
	const char *name;
	long (*run)(struct session *s);
} attempts[] = {
#define ROW(name) { #name, try_##name },
	CALL_ROWS(ROW)
};

static enum session_end answer(struct session *s, const char *name, long result)
{
	char bytes[200];
	struct buf out = BUF_OVER(bytes);

	if (buf_add_str(&out, "survived ") < 0 || buf_add_str(&out, name) < 0 ||
	    buf_add_char(&out, ' ') < 0 ||
	    buf_add_u64(&out, result < 0 ? (uint64_t)errno : 0) < 0 ||
	    buf_add_str(&out, "\r\n") < 0)
		return END_INTERNAL;
	return session_tell(s, buf_span(&out));
}

enum session_end relay_run(struct session *s)
{
	for (;;) {
		enum session_end end = session_read_client(s, clock_ms() + 10000, END_IDLE_TIMEOUT);
		struct span line = buf_span(&s->in);
		bool known = false;

		if (end != END_NONE)
			return end;
		while (line.n > 0 && (line.p[line.n - 1] == '\n' || line.p[line.n - 1] == '\r'))
			line.n--;
		for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]) && !known; i++) {
			known = span_eq(line, span_str(attempts[i].name));
			if (known)
				end = answer(s, attempts[i].name, attempts[i].run(s));
		}
		buf_consume(&s->in, s->in.len);
		if (!known)
			end = session_tell(s, SPAN("unknown\r\n"));
		if (end != END_NONE)
			return end;
	}
}
