/* Makes the filter of a session's process: the system calls that it may use, as a BPF array for the
 * C compiler.
 *
 * Runs at build time only. Each row is a call and a condition on its arguments; what is not listed
 * kills the process. The descriptor numbers are those of jail.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <seccomp.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxyd/jail.h"

#define PAIR_TYPE (SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK)

static const struct {
	int call;
	unsigned count;
	struct scmp_arg_cmp only[2];
} allowed[] = {
	/* the client's, the backend's and the broker's connections */
	{ SCMP_SYS(recvfrom), 1, { SCMP_A4(SCMP_CMP_EQ, 0) } },
	{ SCMP_SYS(recvmsg), 0, { { 0 } } },
	{ SCMP_SYS(sendto), 1, { SCMP_A4(SCMP_CMP_EQ, 0) } }, /* no address */
	{ SCMP_SYS(sendmsg), 1, { SCMP_A0(SCMP_CMP_EQ, JAIL_DOOR) } },
	{ SCMP_SYS(sendmsg), 1, { SCMP_A0(SCMP_CMP_EQ, JAIL_LINK) } },
	{ SCMP_SYS(shutdown), 1, { SCMP_A0(SCMP_CMP_EQ, JAIL_CLIENT) } },
	{ SCMP_SYS(close), 0, { { 0 } } },
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

static int fill(scmp_filter_ctx filter)
{
	for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++) {
		int r = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, allowed[i].call,
					       allowed[i].count, allowed[i].only);

		if (r < 0)
			return r;
	}
	return seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
}

/* Prints the program as the initialiser of a struct sock_filter array. */
static int print(scmp_filter_ctx filter)
{
	struct sock_filter step;
	FILE *file = tmpfile();
	int r = file ? seccomp_export_bpf(filter, fileno(file)) : -errno;

	if (r < 0)
		return r;
	rewind(file);
	(void)printf("/* made by proxyd/jail/make_filter.c */\n#define JAIL_FILTER \\\n");
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
	int r = filter ? fill(filter) : -ENOMEM;

	if (r == 0)
		r = print(filter);
	if (r < 0)
		(void)fprintf(stderr, "make_filter: %d\n", r);
	seccomp_release(filter);
	return r < 0 ? 1 : 0;
}
