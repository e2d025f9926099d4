/* Makes the master's filter: what its workers need, on their way into their own, and to make them.
 * Runs at build time only. It never touches a byte of a connection: what it reads from others is
 * the broker's messages and the workers' reports. */
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "lib/filter/rules.h"

static const struct filter_rule rules[] = {
	/* the broker, the logger, the supervisor; connections only pass through */
	{ SCMP_SYS(socket), 1, { SCMP_A0(SCMP_CMP_EQ, AF_UNIX) } },
	{ SCMP_SYS(socketpair), 1, { SCMP_A0(SCMP_CMP_EQ, AF_UNIX) } },
	FILTER_ANY(connect),
	FILTER_ANY(signalfd4),
	FILTER_ANY(timerfd_create),
	FILTER_ANY(timerfd_settime),
	/* workers */
	FILTER_ANY(fork), /* musl's */
	{ SCMP_SYS(clone), 1, { SCMP_A0(SCMP_CMP_EQ, FILTER_GLIBC_FORK) } },
	FILTER_ANY(wait4),
	FILTER_ANY(kill),
	/* a worker's way into its own jail */
	FILTER_ANY(dup3),
	FILTER_ANY(close_range),
	FILTER_ANY(capset),
	FILTER_ANY(landlock_create_ruleset),
	FILTER_ANY(landlock_restrict_self),
	FILTER_PRCTL(PR_CAP_AMBIENT),
	FILTER_PRCTL(PR_SET_NO_NEW_PRIVS),
	FILTER_PRCTL(PR_SET_SECCOMP),
	FILTER_PRCTL(PR_SET_PDEATHSIG),
	{ SCMP_SYS(prctl), 2, { SCMP_A0(SCMP_CMP_EQ, PR_SET_DUMPABLE), SCMP_A1(SCMP_CMP_EQ, 0) } },
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

	return filter_print("RELAY_MASTER_FILTER", FILTER_REFUSES, FILTER_LIST(lists)) < 0;
}
