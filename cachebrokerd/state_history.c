/* The ring: steps are numbered by the wall clock, so that a broker that starts again, and every
 * reader, finds its place without a word. What the clock jumps over is emptied.
 */
#include "cachebrokerd/state_history.h"

#include <string.h>

static void advance(struct statefile_history *h, int64_t number)
{
	if (number > h->newest + STATEFILE_STEPS || number < h->newest - 1)
		memset(h->steps, 0, sizeof(h->steps));
	else
		for (int64_t n = h->newest + 1; n <= number; n++)
			h->steps[n % STATEFILE_STEPS] = (struct statefile_step){ 0 };
	h->newest = number;
}

static void add(uint32_t *to, int64_t by)
{
	int64_t sum = (int64_t)*to + by;

	*to = sum < 0 ? 0 : sum > UINT32_MAX ? UINT32_MAX : (uint32_t)sum;
}

void state_history_add(struct statefile_history *h, int64_t now, int64_t fresh, int64_t reused,
		       int64_t failed)
{
	int64_t number = now < 0 ? 0 : now / STATEFILE_STEP_SECONDS;

	/* One step back is a clock that is being put right: the newest goes on. */
	if (number > h->newest || number < h->newest - 1)
		advance(h, number);
	struct statefile_step *step = &h->steps[h->newest % STATEFILE_STEPS];

	add(&step->fresh, fresh);
	add(&step->reused, reused);
	add(&step->failed, failed);
}
