/* The choice of a worker. Connections are spread over as many workers as there are CPUs before any
 * is filled: TLS is what costs, and a worker uses one CPU. */
#include "tlsrelayd/pool.h"

int pool_choose(const struct pool_row *rows, size_t count, uint32_t most, size_t spread,
		bool may_start)
{
	size_t taking = 0;
	int best = POOL_FULL;

	for (size_t i = 0; i < count; i++) {
		if (!rows[i].takes)
			continue;
		taking++;
		if (rows[i].connections < most &&
		    (best < 0 || rows[i].connections < rows[best].connections))
			best = (int)i;
	}
	if (best >= 0 && (rows[best].connections == 0 || taking >= spread || !may_start))
		return best;
	return may_start ? POOL_NEW : POOL_FULL;
}

bool pool_is_surplus(const struct pool_row *rows, size_t count, size_t i)
{
	size_t taking = 0;

	for (size_t j = 0; j < count; j++)
		taking += rows[j].takes;
	return rows[i].takes && rows[i].connections == 0 && taking > 1;
}
