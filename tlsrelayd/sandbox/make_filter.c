/* Makes the filter of a worker: the system calls that it may use, as a BPF array for the C
 * compiler. Runs at build time only. What is not listed kills the process. The descriptor numbers
 * are those of sandbox.h. */
#include <errno.h>
#include <linux/filter.h>
#include <seccomp.h>
#include <stdio.h>
#include <sys/mman.h>

#include "tlsrelayd/sandbox.h"

struct rule {
	int call;
	unsigned count;
	struct scmp_arg_cmp only[2];
};

static const struct rule rules[] = {
	/* its connections; the ends of each, but not of what it shares with others */
	{ SCMP_SYS(recvfrom), 1, { SCMP_A4(SCMP_CMP_EQ, 0) } },
	{ SCMP_SYS(sendto), 1, { SCMP_A4(SCMP_CMP_EQ, 0) } }, /* no address */
	{ SCMP_SYS(shutdown), 1, { SCMP_A0(SCMP_CMP_GE, SANDBOX_NEXT) } },
	/* below the first that comes and goes nothing may become free */
	{ SCMP_SYS(close), 1, { SCMP_A0(SCMP_CMP_GE, SANDBOX_NEXT) } },
	/* jobs, with descriptors */
	{ SCMP_SYS(recvmsg), 1, { SCMP_A0(SCMP_CMP_EQ, SANDBOX_LINK) } },
	/* waiting, the clock, random numbers */
	{ SCMP_SYS(epoll_wait), 0, { { 0 } } },
	{ SCMP_SYS(epoll_pwait), 0, { { 0 } } },
	{ SCMP_SYS(epoll_ctl), 0, { { 0 } } },
	{ SCMP_SYS(poll), 0, { { 0 } } },
	{ SCMP_SYS(restart_syscall), 0, { { 0 } } },
	{ SCMP_SYS(rt_sigreturn), 0, { { 0 } } },
	{ SCMP_SYS(clock_gettime), 0, { { 0 } } },
	{ SCMP_SYS(gettimeofday), 0, { { 0 } } },
	{ SCMP_SYS(time), 0, { { 0 } } },
	{ SCMP_SYS(getrandom), 0, { { 0 } } },
	{ SCMP_SYS(getpid), 0, { { 0 } } }, /* OpenSSL: is this still the same process? */
	/* memory, nothing in it to be run; the end */
	{ SCMP_SYS(brk), 0, { { 0 } } },
	{ SCMP_SYS(mmap),
	  2,
	  { SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0),
	    SCMP_A3(SCMP_CMP_EQ, MAP_PRIVATE | MAP_ANONYMOUS) } },
	{ SCMP_SYS(munmap), 0, { { 0 } } },
	{ SCMP_SYS(mremap), 0, { { 0 } } },
	{ SCMP_SYS(madvise), 1, { SCMP_A2(SCMP_CMP_EQ, MADV_DONTNEED) } },
	{ SCMP_SYS(futex), 0, { { 0 } } },
	{ SCMP_SYS(exit_group), 0, { { 0 } } },
	{ SCMP_SYS(exit), 0, { { 0 } } },
};

/* Prints the program as the initialiser of a struct sock_filter array. */
static int print(const char *name, scmp_filter_ctx filter)
{
	struct sock_filter step;
	FILE *file = tmpfile();
	int r = file ? seccomp_export_bpf(filter, fileno(file)) : -errno;

	if (r < 0)
		return r;
	rewind(file);
	(void)printf("/* made by tlsrelayd/sandbox/make_filter.c */\n#define %s \\\n", name);
	while (fread(&step, sizeof(step), 1, file) == 1)
		(void)printf("\t{ 0x%02x, %u, %u, 0x%08xu }, \\\n", (unsigned)step.code,
			     (unsigned)step.jt, (unsigned)step.jf, (unsigned)step.k);
	(void)printf("\n"); /* ends the macro */
	(void)fclose(file);
	return 0;
}

int main(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r = filter ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < sizeof(rules) / sizeof(rules[0]); i++)
		r = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, rules[i].call, rules[i].count,
					   rules[i].only);
	if (r == 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (r == 0)
		r = print("RELAY_FILTER", filter);
	seccomp_release(filter);
	if (r < 0)
		(void)fprintf(stderr, "make_filter: %d\n", r);
	return r < 0 ? 1 : 0;
}
