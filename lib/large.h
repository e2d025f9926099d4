/* Where large buffers of short-lived processes stand.
 *
 * A page that a process writes for the first time costs a fault, 4 KiB, and their return at its
 * exit. So what every process writes a little of stands together, and large buffers, of which
 * most processes touch the first page only, stand behind all of it, each on pages of its own:
 * proxyd's linker sorts .bss by name.
 */
#ifndef LIB_LARGE_H
#define LIB_LARGE_H

#define LARGE __attribute__((section(".bss.zz_large"), aligned(4096)))

#endif
