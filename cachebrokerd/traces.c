/* Wiping registers and the signal stack.
 *
 * memcpy() leaves what it copied in vector registers, the upper ones of which nothing else uses for
 * long. A signal's frame holds all registers, and nothing overwrites it on a stack that is not that
 * deep again for hours. So registers are wiped behind each secret, and then the frames.
 */
#include "cachebrokerd/traces.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#define SIGNAL_STACK 65536 /* a frame with all vector registers has 3 to 11 KiB */

static char *signal_stack;

int traces_prepare(void)
{
	void *memory = mmap(NULL, SIGNAL_STACK, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	const stack_t stack = { .ss_sp = memory, .ss_size = SIGNAL_STACK };

	if (memory == MAP_FAILED)
		return -errno;
	if (sigaltstack(&stack, NULL) < 0) {
		int error = -errno;

		(void)munmap(memory, SIGNAL_STACK);
		return error;
	}
	signal_stack = memory;
	return 0;
}

/* The compiler overwrites all registers that a function may change when these return. */
#define NOT_EMPTY __asm__ volatile("") /* else the calls would be left out */
#define WIPES	  __attribute__((noinline, zero_call_used_regs("all")))

WIPES static void wipe_registers(void)
{
	NOT_EMPTY;
}

#ifdef __x86_64__
WIPES __attribute__((target("avx"))) static void wipe_avx(void)
{
	NOT_EMPTY;
}

WIPES __attribute__((target("avx512f"))) static void wipe_avx512(void)
{
	NOT_EMPTY;
}
#endif

void traces_wipe(void)
{
	wipe_registers();
#ifdef __x86_64__
	if (__builtin_cpu_supports("avx512f"))
		wipe_avx512();
	else if (__builtin_cpu_supports("avx"))
		wipe_avx();
#endif
	if (signal_stack)
		explicit_bzero(signal_stack + SIGNAL_STACK / 2, SIGNAL_STACK / 2);
}
