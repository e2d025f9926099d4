/* The twelve lines. The order is the old one, reuses before creations, unlike its screen. There is
 * no SELECT cache, so nothing was found in it or missed.
 */
#include "pimpstat/classic.h"

#include <inttypes.h>

void classic_print(FILE *out, const struct model *m)
{
	const struct {
		uint64_t value;
		const char *label;
	} lines[] = {
		{m->gauges[GAUGE_clients], "Current Client Connections"},
		{m->peaks[GAUGE_clients].value, "Peak Client Connections"},
		{m->gauges[GAUGE_active], "In Use Connections"},
		{m->peaks[GAUGE_active].value, "Peak In Use Connections"},
		{m->gauges[GAUGE_cached], "Retained Server Connections"},
		{m->peaks[GAUGE_cached].value, "Peak Retained Server Connections"},
		{m->counters[COUNTER_clients], "Total Client Connections"},
		{m->counters[COUNTER_logins], "Total Client Logins"},
		{m->counters[COUNTER_logins_reused], "Total Reused Connections"},
		{m->counters[COUNTER_logins_fresh], "Total Created Connections"},
		{m->counters[COUNTER_select_hits], "Cache Hits"},
		{m->counters[COUNTER_select_misses], "Cache Misses"},
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		(void)fprintf(out, " %" PRIu64 " %s\n", lines[i].value, lines[i].label);
}
