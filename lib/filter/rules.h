/* Lists of system calls, made into filters at build time: for the generators of filters only, which
 * link libseccomp; no program does. */
#ifndef LIB_FILTER_RULES_H
#define LIB_FILTER_RULES_H

#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>

/* A call and the conditions on its arguments, all of which must hold. */
struct filter_rule {
	int call;
	unsigned count;
	struct scmp_arg_cmp only[3];
};

struct filter_list {
	uint32_t action; /* SCMP_ACT_ALLOW or another */
	const struct filter_rule *rules;
	size_t count;
};

#define FILTER_ANY(name) \
	{ \
		SCMP_SYS(name), 0, \
		{ \
			{ \
				0 \
			} \
		} \
	}
#define FILTER_FCNTL(command) \
	{ \
		SCMP_SYS(fcntl), 1, \
		{ \
			SCMP_A1(SCMP_CMP_EQ, command) \
		} \
	}
#define FILTER_IOCTL(command) \
	{ \
		SCMP_SYS(ioctl), 1, \
		{ \
			SCMP_A1(SCMP_CMP_EQ, command) \
		} \
	}
#define FILTER_PRCTL(option) \
	{ \
		SCMP_SYS(prctl), 1, \
		{ \
			SCMP_A0(SCMP_CMP_EQ, option) \
		} \
	}
/* The first argument is a descriptor with one of these numbers, `below` being a power of 2. The
 * kernel takes the lower half of what stands there for the number, so SCMP_CMP_GE alone would let
 * each one through that has a bit set in the upper half. */
#define FILTER_FDS(first, below) SCMP_A0(SCMP_CMP_GE, first, below)

#define FILTER_LIST(rules) rules, sizeof(rules) / sizeof((rules)[0])

/* fork() of glibc: the flags of its clone(2). */
#define FILTER_GLIBC_FORK (CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD)

/* Of every program with threads and a C library: memory in which nothing can be run, waiting, the
 * clock, signals, threads but no processes, its own limits, the end. */
extern const struct filter_list filter_basics;

/* Looking at files, and opening them for reading. */
extern const struct filter_list filter_reading;

/* What is done with sockets that are there, of any kind; making and connecting is on no list. */
extern const struct filter_list filter_sockets;

/* What libraries try first and do without where the kernel is older: ENOSYS. */
extern const struct filter_list filter_newer;

/* What nobody but an intruder would try ends the process. */
extern const struct filter_list filter_hostile;

/* What befalls a call that is on no list. A process that runs none but our code and libc's knows
 * each of its calls, so that another one is an intruder's. Libraries, whose next versions and
 * plug-ins (nsswitch.conf's, SASL's) do what nobody can foresee, are told no, as under systemd's
 * filter. */
#define FILTER_KILLS   SCMP_ACT_KILL_PROCESS
#define FILTER_REFUSES SCMP_ACT_ERRNO(EPERM)

/* Prints a filter as the initialiser of a struct sock_filter array, a macro of this name. A call
 * may be on several lists only if their action is the same. 0 or -errno, which has been said. */
int filter_print(const char *name, uint32_t otherwise, const struct filter_list *lists,
		 size_t count);

#endif
