/* Curves out of eighths of a block, or out of ASCII that is more or less dark. What is not zero is
 * seen, however small beside the highest.
 */
#include "pimpstat/history.h"

#include <string.h>

#define EIGHTHS 8

static const char *const blocks[EIGHTHS + 1] = {
	"·", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█",
};
static const char *const darkness[EIGHTHS + 1] = {"_", ".", ":", "-", "=", "+", "*", "%", "#"};

static struct statefile_step step_at(const struct statefile_history *h, int64_t number)
{
	if (number < 0 || number > h->newest || number <= h->newest - STATEFILE_STEPS)
		return (struct statefile_step){0};
	return h->steps[number % STATEFILE_STEPS];
}

/* The number of the last step; the broker's clock may be ahead of ours by one. */
static int64_t last_number(const struct statefile_history *h, int64_t now)
{
	int64_t number = now / STATEFILE_STEP_SECONDS;

	return number < h->newest ? h->newest : number;
}

void history_curve(const struct statefile_history *h, enum history_kind kind, int64_t now,
		   int64_t since, unsigned count, struct curve *ret)
{
	int64_t last = last_number(h, now);

	*ret = (struct curve){.count = count < STATEFILE_STEPS ? count : STATEFILE_STEPS};
	for (unsigned i = 0; i < ret->count; i++) {
		int64_t number = last - ret->count + 1 + i;
		struct statefile_step s = step_at(h, number);
		uint64_t logins = (uint64_t)s.fresh + s.reused, value = logins;

		ret->known[i] = (number + 1) * STATEFILE_STEP_SECONDS > since;
		if (kind == HISTORY_FAILED) {
			value = s.failed;
		} else if (kind == HISTORY_REUSE) {
			value = logins > 0 ? (uint64_t)s.reused * 1000 / logins : 0;
			ret->known[i] = ret->known[i] && logins > 0;
		}
		ret->values[i] = value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;
		if (ret->values[i] > ret->most)
			ret->most = ret->values[i];
		ret->last = ret->values[i];
		ret->sum += ret->values[i];
	}
}

void history_sum(const struct statefile_history *h, int64_t now, unsigned count, uint64_t *logins,
		 uint64_t *reused)
{
	int64_t last = last_number(h, now);

	*logins = *reused = 0;
	for (int64_t number = last - count + 1; number <= last; number++) {
		struct statefile_step s = step_at(h, number);

		*logins += (uint64_t)s.fresh + s.reused;
		*reused += s.reused;
	}
}

/* How many eighths of the row are filled. */
static unsigned level(uint32_t value, uint32_t full, unsigned rows, unsigned row)
{
	uint64_t whole = (uint64_t)rows * EIGHTHS, eighths;

	if (value == 0 || full == 0)
		return 0;
	eighths = (value * whole + full / 2) / full;
	eighths = eighths == 0 ? 1 : eighths > whole ? whole : eighths;
	if (eighths <= row * EIGHTHS)
		return 0;
	eighths -= row * EIGHTHS;
	return eighths > EIGHTHS ? EIGHTHS : (unsigned)eighths;
}

void history_draw(struct page *p, const struct curve *c, enum style style, uint32_t full,
		  unsigned rows, unsigned row)
{
	const char *const *glyphs = p->utf8 ? blocks : darkness;

	for (unsigned i = 0; i < c->count; i++) {
		unsigned eighths = level(c->values[i], full, rows, row);

		if (eighths > 0)
			page_put(p, style, glyphs[eighths]);
		else if (c->known[i] && row == 0)
			page_put(p, STYLE_DIM, glyphs[0]);
		else
			page_put(p, STYLE_PLAIN, " ");
	}
}
