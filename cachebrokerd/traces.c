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

#define SIGNAL_STACK 32768 /* a frame with all vector registers has 3 to 11 KiB */

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

#define ZERO(n) "vpxord %%zmm" #n ", %%zmm" #n ", %%zmm" #n "\n\t"

/* Those that the compiler forgets: vzeroall does not reach them. */
__attribute__((noinline, target("avx512f"))) static void wipe_upper_avx512(void)
{
	__asm__ volatile(
		ZERO(16) ZERO(17) ZERO(18) ZERO(19) ZERO(20) ZERO(21) ZERO(22) ZERO(23) ZERO(24)
			ZERO(25) ZERO(26) ZERO(27) ZERO(28) ZERO(29) ZERO(30) ZERO(31)::
				: "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22",
				  "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29",
				  "xmm30", "xmm31");
}
#endif

void traces_wipe(void)
{
	wipe_registers();
#ifdef __x86_64__
	if (__builtin_cpu_supports("avx"))
		wipe_avx();
	if (__builtin_cpu_supports("avx512f"))
		wipe_upper_avx512();
#endif
	if (signal_stack)
		explicit_bzero(signal_stack + SIGNAL_STACK / 2, SIGNAL_STACK / 2);
}
