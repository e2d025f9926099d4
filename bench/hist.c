/* The histogram: values below 512 have a bucket each, above that each power of two has 256.
 *
 * A bucket stands for its lower bound, so percentiles are never exaggerated; the maximum is exact.
 */
#include "bench/hist.h"

#include <inttypes.h>
#include <time.h>

#define EXACT	  512 /* below: one bucket per microsecond */
#define PARTS	  256 /* buckets per power of two */
#define PART_BITS 8

uint64_t hist_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static unsigned bucket_of(uint64_t value)
{
	if (value < EXACT)
		return (unsigned)value;
	unsigned power = 63 - (unsigned)__builtin_clzll(value);
	unsigned shift = power - PART_BITS;
	unsigned n = shift * PARTS + (unsigned)(value >> shift);

	return n < HIST_BUCKETS ? n : HIST_BUCKETS - 1;
}

static uint64_t lower_bound(unsigned n)
{
	if (n < EXACT)
		return n;
	unsigned shift = n / PARTS - 1;

	return (uint64_t)(n - shift * PARTS) << shift;
}

void hist_add(struct hist *h, uint64_t value)
{
	h->count++;
	h->bucket[bucket_of(value)]++;
	if (value > h->max)
		h->max = value;
}

uint64_t hist_percentile(const struct hist *h, unsigned percent)
{
	uint64_t wanted = (h->count * percent + 99) / 100, seen = 0;

	for (unsigned n = 0; n < HIST_BUCKETS && wanted > 0; n++) {
		seen += h->bucket[n];
		if (seen >= wanted)
			return lower_bound(n);
	}
	return 0;
}

void hist_print(FILE *out, const char *name, const struct hist *h)
{
	fprintf(out,
		"\"%s\":{\"p50\":%" PRIu64 ",\"p90\":%" PRIu64 ",\"p99\":%" PRIu64
		",\"max\":%" PRIu64 "}",
		name, hist_percentile(h, 50), hist_percentile(h, 90), hist_percentile(h, 99),
		h->max);
}
