/* Makes the filters of lookupd's master and of its workers, as BPF arrays for the C compiler. Runs
 * at build time only. The rows are for the libraries of directories, the resolver, and what an
 * administrator plugs into it (nsswitch, SASL). */
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "lib/filter/rules.h"

#define TYPE_MASK 0xf /* without SOCK_CLOEXEC, SOCK_NONBLOCK */

enum { NETLINK_ADDRESS = sizeof(struct sockaddr_nl) };

#define SOCKET(family, type) \
	{ \
		SCMP_SYS(socket), 2, \
		{ \
			SCMP_A0(SCMP_CMP_EQ, family), SCMP_A1(SCMP_CMP_MASKED_EQ, TYPE_MASK, type) \
		} \
	}

static const struct filter_rule worker[] = {
	/* directories, name servers, the broker, the logger */
	SOCKET(AF_INET, SOCK_STREAM),
	SOCKET(AF_INET, SOCK_DGRAM),
	SOCKET(AF_INET6, SOCK_STREAM),
	SOCKET(AF_INET6, SOCK_DGRAM),
	FILTER_ANY(connect),
	{ SCMP_SYS(socket), 1, { SCMP_A0(SCMP_CMP_EQ, AF_UNIX) } },
	{ SCMP_SYS(socketpair), 1, { SCMP_A0(SCMP_CMP_EQ, AF_UNIX) } },
	/* getaddrinfo(3) asks which addresses there are: the one bind(2) is of struct sockaddr_nl
	 */
	{ SCMP_SYS(socket),
	  2,
	  { SCMP_A0(SCMP_CMP_EQ, AF_NETLINK), SCMP_A2(SCMP_CMP_EQ, NETLINK_ROUTE) } },
	{ SCMP_SYS(bind), 1, { SCMP_A2(SCMP_CMP_EQ, NETLINK_ADDRESS) } },
	FILTER_ANY(recvmmsg),
	FILTER_ANY(sendmmsg),
	FILTER_IOCTL(SIOCGIFINDEX),
	FILTER_IOCTL(SIOCGIFNAME),
	FILTER_ANY(select),
	FILTER_ANY(pselect6),
	FILTER_ANY(timerfd_create),
	FILTER_ANY(timerfd_settime),
	/* how long a directory may take */
	FILTER_ANY(alarm),
	FILTER_ANY(rt_sigpending),
	FILTER_ANY(rt_sigtimedwait), /* libpq takes back a SIGPIPE; the master's waiting */
	/* libraries that are loaded when they are needed: to be run, and then never written */
	{ SCMP_SYS(mmap), 1, { SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_WRITE | PROT_EXEC, PROT_EXEC) } },
	/* files are watched by looking at them */
	FILTER_ANY(getcwd),
	FILTER_ANY(getgroups),
	FILTER_ANY(getresuid),
	FILTER_ANY(getresgid),
	FILTER_ANY(getrusage),
	FILTER_ANY(times),
	FILTER_ANY(getcpu),
	FILTER_ANY(dup),
	FILTER_ANY(inotify_init1), /* nscd's and the resolver's, of /etc */
	FILTER_ANY(inotify_add_watch),
	FILTER_ANY(inotify_rm_watch),
};

/* What the master does besides. A worker gives it up with a filter of its own. */
static const struct filter_rule master[] = {
	FILTER_ANY(fork), /* musl's */
	{ SCMP_SYS(clone), 1, { SCMP_A0(SCMP_CMP_EQ, FILTER_GLIBC_FORK) } },
	FILTER_ANY(wait4),
	FILTER_ANY(kill),
	FILTER_PRCTL(PR_SET_PDEATHSIG),
	FILTER_PRCTL(PR_SET_SECCOMP),
};

/* It is asked over connections that it makes itself. */
static const struct filter_rule hostile[] = {
	FILTER_ANY(accept),
	FILTER_ANY(accept4),
};

static int make(const char *name, bool with_master)
{
	const struct filter_list lists[] = {
		filter_basics,
		filter_reading,
		filter_sockets,
		filter_newer,
		filter_hostile,
		{ SCMP_ACT_KILL_PROCESS, FILTER_LIST(hostile) },
		{ SCMP_ACT_ALLOW, FILTER_LIST(worker) },
		{ SCMP_ACT_ALLOW, FILTER_LIST(master) },
	};

	return filter_print(name, FILTER_REFUSES, FILTER_LIST(lists) - !with_master);
}

int main(void)
{
	return make("LOOKUP_WORKER_FILTER", false) < 0 || make("LOOKUP_MASTER_FILTER", true) < 0;
}
