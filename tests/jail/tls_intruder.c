/* A worker of tlsrelayd that has been taken over: stands in the place of relay.c in
 * build/test/tlsrelayd-intruder and tries what its client asks for by name, in plain text. It
 * answers "survived NAME ERRNO" when the call came back; in a jail that holds it never does. The
 * name "nothing" shows that an answer would be seen.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "lib/fd.h"
#include "tlsrelayd/link.h"
#include "tlsrelayd/relay.h"
#include "tlsrelayd/sandbox.h"

#define WHO	   const struct relay
#define CONNECTION who->tcp.fd
#define LINK	   SANDBOX_LINK
#include "tests/jail/sealed.h"

CALL(socketpair, AF_UNIX, SOCK_STREAM, 0, page)
CALL(read, who->tcp.fd, page, 1)
CALL(sendmsg, SANDBOX_LINK, page, 0)
CALL(setsockopt, who->tcp.fd, SOL_SOCKET, SO_LINGER, page, sizeof(struct linger))
CALL(close, SANDBOX_LINK)
CALL(shutdown, SANDBOX_LINK, SHUT_RDWR)
CALL(recvmsg, who->plain, page, 0)
CALL(write, who->plain, "x", 1)
CALL(prctl, PR_SET_DUMPABLE, 1, 0, 0, 0)
CALL(sendto, who->tcp.fd, "x", 1, 0, &somewhere, sizeof(somewhere))

/* The kernel looks at the lower half of a descriptor's number only. */
static long try_close_by_a_wide_number(const struct relay *who)
{
	(void)who;
	return syscall(SYS_close, 1L << 32 | SANDBOX_LINK);
}

static long try_shutdown_by_a_wide_number(const struct relay *who)
{
	(void)who;
	return syscall(SYS_shutdown, 1L << 32 | SANDBOX_LINK, SHUT_RDWR);
}

/* clang-format off: one a line, tests/scenarios/test_tlsrelayd_jail.py reads them */
#define CALL_ROWS(ROW) \
	ROW(socketpair) \
	ROW(read) \
	ROW(sendmsg) \
	ROW(setsockopt) \
	ROW(close) \
	ROW(shutdown) \
	ROW(recvmsg) \
	ROW(write) \
	ROW(prctl) \
	ROW(sendto) \
	ROW(close_by_a_wide_number) \
	ROW(shutdown_by_a_wide_number)
/* clang-format on */

static const struct attempt attempts[] = {
#define ROW(name) { #name, try_##name },
	SEALED_ROWS(ROW) CALL_ROWS(ROW)
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
	char name[64], answer[100];
	int answered = 0;
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
		answered = attempt(attempts, sizeof(attempts) / sizeof(attempts[0]), r,
				   (struct span){ name, (size_t)n }, answer, sizeof(answer));
	if (answered > 0)
		(void)send(r->tcp.fd, answer, (size_t)answered, MSG_DONTWAIT | MSG_NOSIGNAL);
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
