/* Makes the broker's filter: the system calls that it may use once it has its sockets, as a BPF
 * array for the C compiler. Runs at build time only. */
#include <fcntl.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include "lib/filter/rules.h"

#define DIALLED (SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK)
#define PAIR	(SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK)

#define SOCKET(family, type) \
	{ \
		SCMP_SYS(socket), 2, \
		{ \
			SCMP_A0(SCMP_CMP_EQ, family), SCMP_A1(SCMP_CMP_EQ, type) \
		} \
	}

static const struct filter_rule rules[] = {
	/* mail hosts; the logger and the supervisor, to whom it says what it is doing */
	SOCKET(AF_INET, DIALLED),
	SOCKET(AF_INET6, DIALLED),
	SOCKET(AF_UNIX, DIALLED),
	SOCKET(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK),
	SOCKET(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC),
	FILTER_ANY(connect),
	/* which addresses are ours */
	{ SCMP_SYS(socket),
	  3,
	  { SCMP_A0(SCMP_CMP_EQ, AF_NETLINK), SCMP_A1(SCMP_CMP_EQ, SOCK_RAW | SOCK_CLOEXEC),
	    SCMP_A2(SCMP_CMP_EQ, NETLINK_ROUTE) } },
	/* local connections; the sockets that it listens on were made before */
	FILTER_ANY(accept4),
	{ SCMP_SYS(socketpair), 2, { SCMP_A0(SCMP_CMP_EQ, AF_UNIX), SCMP_A1(SCMP_CMP_EQ, PAIR) } },
	/* sd-event's */
	FILTER_ANY(signalfd4),
	FILTER_ANY(timerfd_create),
	FILTER_ANY(timerfd_settime),
	/* the state file and the protocol log: Landlock knows where they may be */
	FILTER_ANY(open),
	FILTER_ANY(openat),
	FILTER_ANY(rename),
	FILTER_ANY(renameat),
	FILTER_ANY(renameat2),
	FILTER_ANY(unlink),
	FILTER_ANY(unlinkat),
	FILTER_ANY(truncate),
	FILTER_ANY(ftruncate),
	FILTER_ANY(chmod),
	FILTER_ANY(fchmod),
	FILTER_ANY(fchmodat),
	FILTER_ANY(pwrite64),
	FILTER_ANY(pwritev),
	FILTER_ANY(msync),
	FILTER_ANY(fsync),
	FILTER_ANY(fdatasync),
	/* a planned restart */
	FILTER_ANY(memfd_create),
	FILTER_FCNTL(F_ADD_SEALS),
	FILTER_FCNTL(F_GET_SEALS),
};

int main(void)
{
	const struct filter_list lists[] = {
		filter_basics,
		filter_reading,
		filter_sockets,
		filter_newer,
		filter_hostile,
		{ SCMP_ACT_ALLOW, FILTER_LIST(rules) },
	};

	return filter_print("BROKER_FILTER", FILTER_REFUSES, FILTER_LIST(lists)) < 0;
}
