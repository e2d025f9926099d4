/* Makes the filters of a session's process and of the nursery: the system calls that they may use,
 * as BPF arrays for the C compiler.
 *
 * Runs at build time only. Each row is a call and a condition on its arguments; what is not listed
 * kills the process. The descriptor numbers are those of jail.h.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/filter/rules.h"
#include "proxyd/jail.h"

/* What comes and goes. A session has a handful of descriptors. */
#define OTHERS FILTER_FDS(JAIL_NEXT, 64)

#define PAIR_TYPE (SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK)

static const struct filter_rule session[] = {
	/* the client's, the backend's and the broker's connections */
	{ SCMP_SYS(recvfrom), 1, { SCMP_A4(SCMP_CMP_EQ, 0) } },
	FILTER_ANY(recvmsg),
	{ SCMP_SYS(sendto), 1, { SCMP_A4(SCMP_CMP_EQ, 0) } }, /* no address */
	{ SCMP_SYS(sendmsg), 1, { SCMP_A0(SCMP_CMP_EQ, JAIL_DOOR) } },
	{ SCMP_SYS(sendmsg), 1, { SCMP_A0(SCMP_CMP_EQ, JAIL_LINK) } },
	{ SCMP_SYS(shutdown), 1, { SCMP_A0(SCMP_CMP_EQ, JAIL_CLIENT) } },
	{ SCMP_SYS(shutdown), 1, { OTHERS } }, /* the backend's */
	FILTER_ANY(close),
	/* the stream inside of TLS takes the client's place; it was received, what stands below
	 * JAIL_NEXT may not be shut down */
	{ SCMP_SYS(dup3),
	  3,
	  { OTHERS, SCMP_A1(SCMP_CMP_EQ, JAIL_CLIENT), SCMP_A2(SCMP_CMP_EQ, O_CLOEXEC) } },
	/* meeting a new broker */
	{ SCMP_SYS(socketpair),
	  2,
	  { SCMP_A0(SCMP_CMP_EQ, AF_UNIX), SCMP_A1(SCMP_CMP_EQ, PAIR_TYPE) } },
	/* waiting, the clock, tags */
	FILTER_ANY(poll),
	FILTER_ANY(ppoll),
	FILTER_ANY(restart_syscall),
	FILTER_ANY(rt_sigreturn),
	FILTER_ANY(clock_gettime),
	FILTER_ANY(getrandom),
	/* log lines on standard error; their pid */
	{ SCMP_SYS(write), 1, { SCMP_A0(SCMP_CMP_EQ, STDERR_FILENO) } },
	FILTER_ANY(getpid),
	/* memory given back before a long wait, and the end */
	{ SCMP_SYS(madvise), 1, { SCMP_A2(SCMP_CMP_EQ, MADV_DONTNEED) } },
	FILTER_ANY(exit_group),
	FILTER_ANY(exit),
};

/* What the nursery does besides. Its children inherit this, and can do nothing with it: they have
 * no listening socket, no children, RLIMIT_NPROC is 0 and can only be lowered. */
static const struct filter_rule nursery[] = {
	FILTER_ANY(accept4),
	FILTER_ANY(getsockname),
	FILTER_ANY(getpeername),
	FILTER_FCNTL(F_GETFL),
	FILTER_ANY(getppid),
	FILTER_ANY(geteuid),
	{ SCMP_SYS(write), 1, { SCMP_A0(SCMP_CMP_EQ, JAIL_REPORTS) } },
	{ SCMP_SYS(write), 1, { SCMP_A0(SCMP_CMP_EQ, JAIL_WAKE) } },
	{ SCMP_SYS(read), 1, { SCMP_A0(SCMP_CMP_EQ, JAIL_WAKE) } },
	/* fork() of musl and of glibc */
	FILTER_ANY(fork),
	{ SCMP_SYS(clone), 1, { SCMP_A0(SCMP_CMP_EQ, FILTER_GLIBC_FORK) } },
	{ SCMP_SYS(clone), 1, { SCMP_A0(SCMP_CMP_EQ, SIGCHLD) } }, /* musl without SYS_fork */
	FILTER_ANY(set_robust_list),
	FILTER_ANY(rseq),
	FILTER_ANY(rt_sigprocmask),
	FILTER_ANY(gettid),
	FILTER_ANY(wait4),
	/* a child's way into its session */
	FILTER_ANY(close_range),
	FILTER_ANY(munmap),
	{ SCMP_SYS(setrlimit), 1, { SCMP_A0(SCMP_CMP_EQ, RLIMIT_NPROC) } },
	{ SCMP_SYS(prlimit64), 2, { SCMP_A0(SCMP_CMP_EQ, 0), SCMP_A1(SCMP_CMP_EQ, RLIMIT_NPROC) } },
	FILTER_PRCTL(PR_SET_SECCOMP),
};

static int make(const char *name, bool with_nursery)
{
	const struct filter_list lists[] = {
		{ SCMP_ACT_ALLOW, FILTER_LIST(session) },
		{ SCMP_ACT_ALLOW, FILTER_LIST(nursery) },
	};

	return filter_print(name, FILTER_KILLS, lists, with_nursery ? 2 : 1);
}

int main(void)
{
	return make("SESSION_FILTER", false) < 0 || make("NURSERY_FILTER", true) < 0;
}
