/* The state file's ring of logins as curves. Pure. */
#ifndef PIMPSTAT_HISTORY_H
#define PIMPSTAT_HISTORY_H

#include "lib/statefile.h"
#include "pimpstat/page.h"

/* The values of a curve, the oldest first. */
struct curve {
	unsigned count;
	uint32_t values[STATEFILE_STEPS];
	bool known[STATEFILE_STEPS]; /* else nothing was counted then, or there is nothing to say */
	uint32_t most;
	uint32_t last;
	uint64_t sum;
};

enum history_kind { HISTORY_LOGINS, HISTORY_FAILED, HISTORY_REUSE /* in a thousand */ };

/* The last `count` steps up to time `now`; those before `since` are not known. Seconds since 1970.
 */
void history_curve(const struct statefile_history *h, enum history_kind kind, int64_t now,
		   int64_t since, unsigned count, struct curve *ret);

/* The logins of the last `count` steps, in all and reused. */
void history_sum(const struct statefile_history *h, int64_t now, unsigned count, uint64_t *logins,
		 uint64_t *reused);

/* One row of a curve that is `rows` high, row 0 the lowest, scaled so that `full` fills it. */
void history_draw(struct page *p, const struct curve *c, enum style style, uint32_t full,
		  unsigned rows, unsigned row);

#endif
