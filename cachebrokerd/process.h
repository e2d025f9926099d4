/* What /proc says of a process. */
#ifndef CACHEBROKERD_PROCESS_H
#define CACHEBROKERD_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Milliseconds since the machine started, time asleep included: the clock of process_started(). */
int64_t process_clock_ms(void);

/* When the process started, rounded down to the kernel's ticks; -errno when /proc does not show
 * it. */
int64_t process_started(pid_t pid);

/* Has the file that this program was started from been replaced or removed? False when /proc does
 * not show it. */
bool process_is_replaced(void);

#endif
