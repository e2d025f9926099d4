/* Lists of system calls, made into filters at build time: for the generators of filters only, which
 * link libseccomp; no program does. */
#ifndef LIB_FILTER_RULES_H
#define LIB_FILTER_RULES_H

#include <seccomp.h>
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
#define FILTER_LIST(rules) rules, sizeof(rules) / sizeof((rules)[0])

/* Of every program with threads and a C library: memory in which nothing can be run, waiting, the
 * clock, signals, threads but no processes, its own limits, the end. */
extern const struct filter_list filter_basics;

/* Looking at files, and opening them for reading. */
extern const struct filter_list filter_reading;

/* What libraries try first and do without where the kernel is older: ENOSYS. */
extern const struct filter_list filter_newer;

/* What nobody but an intruder would try ends the process. */
extern const struct filter_list filter_hostile;

/* Prints a filter as the initialiser of a struct sock_filter array, a macro of this name. What is
 * on no list fails with EPERM; a call may be on several lists only if their action is the same. 0
 * or -errno. */
int filter_print(const char *name, const struct filter_list *lists, size_t count);

#endif
