/* The rows that filters share, and how a filter becomes C. Runs at build time only.
 *
 * Calls that an architecture does not have (open(2) on arm64) are left out by libseccomp. A rule
 * without conditions beats all others of its call, so what is to be refused by its arguments is
 * refused by being on no list.
 */
#include "lib/filter/rules.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

/* pthread_create(3), of glibc and of musl: nothing but a thread. */
#define THREAD \
	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | \
	 CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID)
#define DETACHED 0x00400000 /* musl's; the kernel ignores it */

#define TO_WRITE (O_ACCMODE | O_CREAT | O_TRUNC)

static const struct filter_rule basics[] = {
	FILTER_ANY(brk),
	{ SCMP_SYS(mmap), 1, { SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0) } },
	{ SCMP_SYS(mprotect), 1, { SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0) } },
	FILTER_ANY(munmap),
	FILTER_ANY(mremap),
	FILTER_ANY(madvise),
	FILTER_ANY(mlock),
	FILTER_ANY(mlock2),
	FILTER_ANY(munlock),
	FILTER_ANY(futex),
	FILTER_ANY(membarrier),
	{ SCMP_SYS(clone), 1, { SCMP_A0(SCMP_CMP_MASKED_EQ, ~(uint64_t)DETACHED, THREAD) } },
	FILTER_ANY(set_robust_list),
	FILTER_ANY(rseq),
	FILTER_ANY(gettid),
	FILTER_ANY(getpid),
	FILTER_ANY(getppid),
	FILTER_ANY(getuid),
	FILTER_ANY(geteuid),
	FILTER_ANY(getgid),
	FILTER_ANY(getegid),
	FILTER_ANY(sched_yield),
	FILTER_ANY(sched_getaffinity),
	FILTER_ANY(sysinfo),
	FILTER_ANY(uname),
	FILTER_ANY(getrlimit),
	FILTER_ANY(setrlimit),
	{ SCMP_SYS(prlimit64), 1, { SCMP_A0(SCMP_CMP_EQ, 0) } }, /* of its own */
	FILTER_ANY(poll),
	FILTER_ANY(ppoll),
	FILTER_ANY(epoll_create1),
	FILTER_ANY(epoll_ctl),
	FILTER_ANY(epoll_wait),
	FILTER_ANY(epoll_pwait),
	FILTER_ANY(epoll_pwait2),
	FILTER_ANY(eventfd2),
	FILTER_ANY(pipe2),
	FILTER_ANY(restart_syscall),
	FILTER_ANY(clock_gettime),
	FILTER_ANY(clock_getres),
	FILTER_ANY(clock_nanosleep),
	FILTER_ANY(nanosleep),
	FILTER_ANY(gettimeofday),
	FILTER_ANY(time),
	FILTER_ANY(getrandom),
	FILTER_ANY(rt_sigaction),
	FILTER_ANY(rt_sigprocmask),
	FILTER_ANY(rt_sigreturn),
	FILTER_ANY(sigaltstack),
	FILTER_ANY(setitimer),
	FILTER_ANY(read),
	FILTER_ANY(readv),
	FILTER_ANY(write),
	FILTER_ANY(writev),
	FILTER_ANY(close),
	/* not those that make the kernel send signals (F_SETOWN, F_SETSIG) */
	FILTER_FCNTL(F_DUPFD_CLOEXEC),
	FILTER_FCNTL(F_GETFD),
	FILTER_FCNTL(F_SETFD),
	FILTER_FCNTL(F_GETFL),
	FILTER_FCNTL(F_SETFL),
	FILTER_FCNTL(F_GETLK),
	FILTER_FCNTL(F_SETLK),
	FILTER_FCNTL(F_SETLKW),
	/* not those that type into a terminal (TIOCSTI) */
	FILTER_IOCTL(FIONREAD),
	FILTER_IOCTL(FIONBIO),
	FILTER_IOCTL(TCGETS),
	FILTER_ANY(exit),
	FILTER_ANY(exit_group),
};

static const struct filter_rule reading[] = {
	{ SCMP_SYS(open), 1, { SCMP_A1(SCMP_CMP_MASKED_EQ, TO_WRITE, O_RDONLY) } },
	{ SCMP_SYS(openat), 1, { SCMP_A2(SCMP_CMP_MASKED_EQ, TO_WRITE, O_RDONLY) } },
	FILTER_ANY(stat),
	FILTER_ANY(lstat),
	FILTER_ANY(fstat),
	FILTER_ANY(newfstatat),
	FILTER_ANY(access),
	FILTER_ANY(faccessat),
	FILTER_ANY(readlink),
	FILTER_ANY(readlinkat),
	FILTER_ANY(getdents64),
	FILTER_ANY(lseek),
	FILTER_ANY(pread64),
	FILTER_ANY(fadvise64),
	FILTER_ANY(fstatfs),
	FILTER_ANY(statfs),
};

static const struct filter_rule sockets[] = {
	FILTER_ANY(recvfrom),
	FILTER_ANY(recvmsg),
	FILTER_ANY(sendto),
	FILTER_ANY(sendmsg),
	FILTER_ANY(shutdown),
	FILTER_ANY(getsockopt),
	FILTER_ANY(setsockopt),
	FILTER_ANY(getsockname),
	FILTER_ANY(getpeername),
};

static const struct filter_rule newer[] = {
	FILTER_ANY(clone3), /* its flags are in memory, where no filter can see them */
	FILTER_ANY(statx),   FILTER_ANY(faccessat2), FILTER_ANY(openat2),
	FILTER_ANY(preadv2), FILTER_ANY(pwritev2),
};

/* Nothing that a program or a library of ours would try: an intruder is shown by it. */
static const struct filter_rule hostile[] = {
	FILTER_ANY(execve),
	FILTER_ANY(execveat),
	FILTER_ANY(ptrace),
	FILTER_ANY(process_vm_readv),
	FILTER_ANY(process_vm_writev),
	FILTER_ANY(pidfd_getfd),
	FILTER_ANY(mount),
	FILTER_ANY(umount2),
	FILTER_ANY(move_mount),
	FILTER_ANY(open_tree),
	FILTER_ANY(fsopen),
	FILTER_ANY(pivot_root),
	FILTER_ANY(chroot),
	FILTER_ANY(unshare),
	FILTER_ANY(setns),
	FILTER_ANY(bpf),
	FILTER_ANY(perf_event_open),
	FILTER_ANY(userfaultfd),
	FILTER_ANY(io_uring_setup),
	FILTER_ANY(io_uring_enter),
	FILTER_ANY(io_uring_register),
	FILTER_ANY(init_module),
	FILTER_ANY(finit_module),
	FILTER_ANY(delete_module),
	FILTER_ANY(kexec_load),
	FILTER_ANY(kexec_file_load),
	FILTER_ANY(reboot),
	FILTER_ANY(swapon),
	FILTER_ANY(acct),
	FILTER_ANY(settimeofday),
	FILTER_ANY(clock_settime),
	FILTER_ANY(iopl),
	FILTER_ANY(ioperm),
	FILTER_ANY(setuid),
	FILTER_ANY(setgid),
	FILTER_ANY(setreuid),
	FILTER_ANY(setregid),
	FILTER_ANY(setresuid),
	FILTER_ANY(setresgid),
	FILTER_ANY(setfsuid),
	FILTER_ANY(setfsgid),
	FILTER_ANY(setgroups),
	FILTER_ANY(listen),
};

const struct filter_list filter_basics = { SCMP_ACT_ALLOW, FILTER_LIST(basics) };
const struct filter_list filter_reading = { SCMP_ACT_ALLOW, FILTER_LIST(reading) };
const struct filter_list filter_sockets = { SCMP_ACT_ALLOW, FILTER_LIST(sockets) };
const struct filter_list filter_newer = { SCMP_ACT_ERRNO(ENOSYS), FILTER_LIST(newer) };
const struct filter_list filter_hostile = { SCMP_ACT_KILL_PROCESS, FILTER_LIST(hostile) };

/* FILTER_FDS(): a row for each block of numbers that differ in their last bits only, the upper half
 * being zero. */
static int add_blocks(scmp_filter_ctx filter, uint32_t action, struct filter_rule rule)
{
	const scmp_datum_t below = rule.only[0].datum_b;
	int r = 0;

	for (scmp_datum_t at = rule.only[0].datum_a, size; r == 0 && at < below; at += size) {
		size = at & -at;
		rule.only[0] = SCMP_A0(SCMP_CMP_MASKED_EQ, ~(size - 1), at);
		r = seccomp_rule_add_array(filter, action, rule.call, rule.count, rule.only);
	}
	return r;
}

static int add_list(scmp_filter_ctx filter, const struct filter_list *list)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < list->count; i++) {
		const struct filter_rule *rule = &list->rules[i];

		r = rule->count > 0 && rule->only[0].op == SCMP_CMP_GE
			    ? add_blocks(filter, list->action, *rule)
			    : seccomp_rule_add_array(filter, list->action, rule->call, rule->count,
						     rule->only);
	}
	return r;
}

static int write_steps(const char *name, scmp_filter_ctx filter)
{
	struct sock_filter step;
	FILE *file = tmpfile();
	int r = file ? seccomp_export_bpf(filter, fileno(file)) : -errno;

	if (r < 0)
		return r;
	rewind(file);
	(void)printf("/* made by lib/filter/rules.c */\n#define %s \\\n", name);
	while (fread(&step, sizeof(step), 1, file) == 1)
		(void)printf("\t{ 0x%02x, %u, %u, 0x%08xu }, \\\n", (unsigned)step.code,
			     (unsigned)step.jt, (unsigned)step.jf, (unsigned)step.k);
	(void)printf("\n"); /* ends the macro */
	(void)fclose(file);
	return 0;
}

int filter_print(const char *name, uint32_t otherwise, const struct filter_list *lists,
		 size_t count)
{
	scmp_filter_ctx filter = seccomp_init(otherwise);
	int r = filter ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < count; i++)
		r = add_list(filter, &lists[i]);
	if (r == 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (r == 0)
		r = write_steps(name, filter);
	seccomp_release(filter);
	if (r < 0)
		(void)fprintf(stderr, "%s: %d\n", name, r);
	return r;
}
