/* Telling a mail host that restarts from one that ends a connection now and then. Pure. */
#ifndef CACHEBROKERD_BURST_H
#define CACHEBROKERD_BURST_H

#include <stdbool.h>
#include <stdint.h>

#define BURST_COUNT 3	 /* so many connections ended by the mail host */
#define BURST_MS    2000 /* within so long are a burst */

struct burst {
	int64_t at[BURST_COUNT]; /* the last ends, a ring; 0: none */
	unsigned next;
};

/* Another one has ended, at this time (monotonic ms, never 0). Returns whether that makes a burst;
 * what comes next begins a new one. */
bool burst_note(struct burst *b, int64_t now);

#endif
