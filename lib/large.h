/* Where large buffers of short-lived processes stand.
 *
 * A page that a process writes for the first time costs a fault, 4 KiB, and their return at its
 * exit. So what every process writes a little of stands together, and large buffers, of which
 * most processes touch the first page only, stand behind all of it, each on pages of its own:
 * proxyd's linker sorts .bss by name.
 */
#ifndef LIB_LARGE_H
#define LIB_LARGE_H

#include <stddef.h>
#include <sys/mman.h>

#define LARGE_PAGE 4096
#define LARGE	   __attribute__((section(".bss.zz_large"), aligned(LARGE_PAGE)))

/* What every session writes to, on as few pages as it fits on. */
#define HOT __attribute__((section(".bss.zy_hot"), aligned(LARGE_PAGE)))

/* Gives the memory of a LARGE array back to the kernel: its content is zeros afterwards. Not the
 * rest of a last page that it has in part. */
static inline void large_release(void *array, size_t size)
{
	(void)madvise(array, size - size % LARGE_PAGE, MADV_DONTNEED);
}

#endif
