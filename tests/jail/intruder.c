/* A session that has been taken over: stands in the place of relay.c in build/test/proxyd-intruder
 * and tries, after login, what its client asks for by name. It answers "survived NAME ERRNO" when
 * the call came back; in a jail that holds it never does. The name "nothing" shows that an answer
 * would be seen.
 */
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/msgsock.h"
#include "proxyd/io.h"
#include "proxyd/jail.h"
#include "proxyd/session.h"

#define WHO	   struct session
#define CONNECTION JAIL_CLIENT
#define LINK	   JAIL_LINK
#include "tests/jail/sealed.h"

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

/* The kernel looks at the lower half of a descriptor's number only. */
static long try_shut_door_by_a_wide_number(struct session *s)
{
	(void)s;
	return syscall(SYS_shutdown, 1L << 32 | JAIL_DOOR, SHUT_RDWR);
}

static long try_move_door_by_a_wide_number(struct session *s)
{
	(void)s;
	return syscall(SYS_dup3, 1L << 32 | JAIL_DOOR, JAIL_CLIENT, O_CLOEXEC);
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
	ROW(shut_door_by_a_wide_number) \
	ROW(move_door_by_a_wide_number) \
	ROW(move_backend_to_link) \
	ROW(move_backend_to_log) \
	ROW(keep_backend_over_exec) \
	ROW(accept_standard) \
	ROW(inet_pair) \
	ROW(write_elsewhere) \
	ROW(empty_knock) \
	ROW(knock_with_the_door) \
	ROW(wrap_the_door) \
	ROW(shut_the_moved_door) \
	ROW(half_shut_the_moved_door)
/* clang-format on */

static const struct attempt attempts[] = {
#define ROW(name) { #name, try_##name },
	SEALED_ROWS(ROW) CALL_ROWS(ROW)
};

enum session_end relay_run(struct session *s)
{
	for (;;) {
		enum session_end end = session_read_client(s, clock_ms() + 10000, END_IDLE_TIMEOUT);
		struct span line = buf_span(&s->in);
		char answer[200];

		if (end != END_NONE)
			return end;
		while (line.n > 0 && (line.p[line.n - 1] == '\n' || line.p[line.n - 1] == '\r'))
			line.n--;
		int n = attempt(attempts, sizeof(attempts) / sizeof(attempts[0]), s, line, answer,
				sizeof(answer));

		buf_consume(&s->in, s->in.len);
		end = session_tell(s, n > 0 ? (struct span){ answer, (size_t)n }
					    : SPAN("unknown\r\n"));
		if (end != END_NONE)
			return end;
	}
}
