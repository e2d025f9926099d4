/* Makes the filters of a session's process and of the nursery: the system calls that they may use,
 * as BPF arrays for the C compiler.
 *
 * Runs at build time only. Each row is a call and a condition on its arguments; what is not listed
 * kills the process. The descriptor numbers are those of jail.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxyd/jail.h"

#define GLIBC_FORK (CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD)
#define PAIR_TYPE  (SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK)

struct rule {
	int call;
	unsigned count;
	struct scmp_arg_cmp only[3];
};

static const struct rule session[] = {
	/* the client's, the backend's and the broker's connections */
	{ SCMP_SYS(recvfrom), 1, { SCMP_A4(SCMP_CMP_EQ, 0) } },
	{ SCMP_SYS(recvmsg), 0, { { 0 } } },
	{ SCMP_SYS(sendto), 1, { SCMP_A4(SCMP_CMP_EQ, 0) } }, /* no address */
	{ SCMP_SYS(sendmsg), 1, { SCMP_A0(SCMP_CMP_EQ, JAIL_DOOR) } },
	{ SCMP_SYS(sendmsg), 1, { SCMP_A0(SCMP_CMP_EQ, JAIL_LINK) } },
	{ SCMP_SYS(shutdown), 1, { SCMP_A0(SCMP_CMP_EQ, JAIL_CLIENT) } },
	{ SCMP_SYS(shutdown), 1, { SCMP_A0(SCMP_CMP_GE, JAIL_NEXT) } }, /* the backend's */
	{ SCMP_SYS(close), 0, { { 0 } } },
	/* the stream inside of TLS takes the client's place; it was received, what stands below
	 * JAIL_NEXT may not be shut down */
	{ SCMP_SYS(dup3),
	  3,
	  { SCMP_A0(SCMP_CMP_GE, JAIL_NEXT), SCMP_A1(SCMP_CMP_EQ, JAIL_CLIENT),
	    SCMP_A2(SCMP_CMP_EQ, O_CLOEXEC) } },
	/* meeting a new broker */
	{ SCMP_SYS(socketpair),
	  2,
	  { SCMP_A0(SCMP_CMP_EQ, AF_UNIX), SCMP_A1(SCMP_CMP_EQ, PAIR_TYPE) } },
	/* waiting, the clock, tags */
	{ SCMP_SYS(poll), 0, { { 0 } } },
	{ SCMP_SYS(ppoll), 0, { { 0 } } },
	{ SCMP_SYS(restart_syscall), 0, { { 0 } } },
	{ SCMP_SYS(rt_sigreturn), 0, { { 0 } } },
	{ SCMP_SYS(clock_gettime), 0, { { 0 } } },
	{ SCMP_SYS(getrandom), 0, { { 0 } } },
	/* log lines on standard error; their pid */
	{ SCMP_SYS(write), 1, { SCMP_A0(SCMP_CMP_EQ, STDERR_FILENO) } },
	{ SCMP_SYS(getpid), 0, { { 0 } } },
	/* memory given back before a long wait, and the end */
	{ SCMP_SYS(madvise), 1, { SCMP_A2(SCMP_CMP_EQ, MADV_DONTNEED) } },
	{ SCMP_SYS(exit_group), 0, { { 0 } } },
	{ SCMP_SYS(exit), 0, { { 0 } } },
};

/* What the nursery does besides. Its children inherit this, and can do nothing with it: they have
 * no listening socket, no children, RLIMIT_NPROC is 0 and can only be lowered. */
static const struct rule nursery[] = {
	{ SCMP_SYS(accept4), 0, { { 0 } } },
	{ SCMP_SYS(getsockname), 0, { { 0 } } },
	{ SCMP_SYS(getpeername), 0, { { 0 } } },
	{ SCMP_SYS(fcntl), 1, { SCMP_A1(SCMP_CMP_EQ, F_GETFL) } },
	{ SCMP_SYS(getppid), 0, { { 0 } } },
	{ SCMP_SYS(geteuid), 0, { { 0 } } },
	{ SCMP_SYS(write), 1, { SCMP_A0(SCMP_CMP_EQ, JAIL_REPORTS) } },
	{ SCMP_SYS(write), 1, { SCMP_A0(SCMP_CMP_EQ, JAIL_WAKE) } },
	{ SCMP_SYS(read), 1, { SCMP_A0(SCMP_CMP_EQ, JAIL_WAKE) } },
	/* fork() of musl and of glibc */
	{ SCMP_SYS(fork), 0, { { 0 } } },
	{ SCMP_SYS(clone), 1, { SCMP_A0(SCMP_CMP_EQ, GLIBC_FORK) } },
	{ SCMP_SYS(clone), 1, { SCMP_A0(SCMP_CMP_EQ, SIGCHLD) } }, /* musl without SYS_fork */
	{ SCMP_SYS(set_robust_list), 0, { { 0 } } },
	{ SCMP_SYS(rseq), 0, { { 0 } } },
	{ SCMP_SYS(rt_sigprocmask), 0, { { 0 } } },
	{ SCMP_SYS(gettid), 0, { { 0 } } },
	{ SCMP_SYS(wait4), 0, { { 0 } } },
	/* a child's way into its session */
	{ SCMP_SYS(close_range), 0, { { 0 } } },
	{ SCMP_SYS(munmap), 0, { { 0 } } },
	{ SCMP_SYS(setrlimit), 1, { SCMP_A0(SCMP_CMP_EQ, RLIMIT_NPROC) } },
	{ SCMP_SYS(prlimit64), 2, { SCMP_A0(SCMP_CMP_EQ, 0), SCMP_A1(SCMP_CMP_EQ, RLIMIT_NPROC) } },
	{ SCMP_SYS(prctl), 1, { SCMP_A0(SCMP_CMP_EQ, PR_SET_SECCOMP) } },
};

static int add_rules(scmp_filter_ctx filter, const struct rule *rules, size_t count)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < count; i++)
		r = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, rules[i].call, rules[i].count,
					   rules[i].only);
	return r;
}

/* Prints the program as the initialiser of a struct sock_filter array. */
static int print(const char *name, scmp_filter_ctx filter)
{
	struct sock_filter step;
	FILE *file = tmpfile();
	int r = file ? seccomp_export_bpf(filter, fileno(file)) : -errno;

	if (r < 0)
		return r;
	rewind(file);
	(void)printf("/* made by proxyd/jail/make_filter.c */\n#define %s \\\n", name);
	while (fread(&step, sizeof(step), 1, file) == 1)
		(void)printf("\t{ 0x%02x, %u, %u, 0x%08xu }, \\\n", (unsigned)step.code,
			     (unsigned)step.jt, (unsigned)step.jf, (unsigned)step.k);
	(void)printf("\n"); /* ends the macro */
	(void)fclose(file);
	return 0;
}

static int make(const char *name, bool with_nursery)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r = filter ? add_rules(filter, session, sizeof(session) / sizeof(session[0])) : -ENOMEM;

	if (r == 0 && with_nursery)
		r = add_rules(filter, nursery, sizeof(nursery) / sizeof(nursery[0]));
	if (r == 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (r == 0)
		r = print(name, filter);
	seccomp_release(filter);
	return r;
}

int main(void)
{
	int r = make("SESSION_FILTER", false);

	if (r == 0)
		r = make("NURSERY_FILTER", true);
	if (r < 0)
		(void)fprintf(stderr, "make_filter: %d\n", r);
	return r < 0 ? 1 : 0;
}
