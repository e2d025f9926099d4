/* Makes the filter of a worker: the system calls that it may use, as a BPF array for the C
 * compiler. Runs at build time only. What is not listed kills the process. The descriptor numbers
 * are those of sandbox.h. */
#include <sys/mman.h>

#include "lib/filter/rules.h"
#include "tlsrelayd/sandbox.h"

/* What comes and goes: two for each connection. */
#define OTHERS FILTER_FDS(SANDBOX_NEXT, 1u << 31)

static const struct filter_rule rules[] = {
	/* its connections; the ends of each, but not of what it shares with others */
	{ SCMP_SYS(recvfrom), 1, { SCMP_A4(SCMP_CMP_EQ, 0) } },
	{ SCMP_SYS(sendto), 1, { SCMP_A4(SCMP_CMP_EQ, 0) } }, /* no address */
	{ SCMP_SYS(shutdown), 1, { OTHERS } },
	/* below the first that comes and goes nothing may become free */
	{ SCMP_SYS(close), 1, { OTHERS } },
	/* jobs, with descriptors */
	{ SCMP_SYS(recvmsg), 1, { SCMP_A0(SCMP_CMP_EQ, SANDBOX_LINK) } },
	/* waiting, the clock, random numbers */
	FILTER_ANY(epoll_wait),
	FILTER_ANY(epoll_pwait),
	FILTER_ANY(epoll_ctl),
	FILTER_ANY(poll),
	FILTER_ANY(restart_syscall),
	FILTER_ANY(rt_sigreturn),
	FILTER_ANY(clock_gettime),
	FILTER_ANY(gettimeofday),
	FILTER_ANY(time),
	FILTER_ANY(getrandom),
	FILTER_ANY(getpid), /* OpenSSL: is this still the same process? */
	/* memory, nothing in it to be run; the end */
	FILTER_ANY(brk),
	{ SCMP_SYS(mmap),
	  2,
	  { SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0),
	    SCMP_A3(SCMP_CMP_EQ, MAP_PRIVATE | MAP_ANONYMOUS) } },
	FILTER_ANY(munmap),
	FILTER_ANY(mremap),
	{ SCMP_SYS(madvise), 1, { SCMP_A2(SCMP_CMP_EQ, MADV_DONTNEED) } },
	FILTER_ANY(futex),
	FILTER_ANY(exit_group),
	FILTER_ANY(exit),
};

int main(void)
{
	const struct filter_list list = { SCMP_ACT_ALLOW, FILTER_LIST(rules) };

	return filter_print("RELAY_FILTER", FILTER_KILLS, &list, 1) < 0;
}
