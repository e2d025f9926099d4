/* A ring of the last ends: the place that is written next holds the oldest. */
#include "cachebrokerd/burst.h"

bool burst_note(struct burst *b, int64_t now)
{
	b->at[b->next] = now;
	b->next = (b->next + 1) % BURST_COUNT;
	int64_t oldest = b->at[b->next];

	if (oldest == 0 || now - oldest > BURST_MS)
		return false;
	*b = (struct burst){ 0 };
	return true;
}
