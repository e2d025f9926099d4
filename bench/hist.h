/* A histogram of microseconds with buckets 0.4 % wide: enough for percentiles, no samples kept. */
#ifndef BENCH_HIST_H
#define BENCH_HIST_H

#include <stdint.h>
#include <stdio.h>

#define HIST_BUCKETS 6144

struct hist {
	uint64_t count;
	uint64_t max;
	uint64_t bucket[HIST_BUCKETS];
};

/* Microseconds of the monotonic clock. */
uint64_t hist_now(void);

/* Counts one value, in microseconds. */
void hist_add(struct hist *h, uint64_t value);

/* The value that so many per cent of all are not above (0 when there are none), as exact as a
 * bucket is wide. */
uint64_t hist_percentile(const struct hist *h, unsigned percent);

/* Prints "name":{"p50":…,"p90":…,"p99":…,"max":…} for a JSON object. */
void hist_print(FILE *out, const char *name, const struct hist *h);

#endif
