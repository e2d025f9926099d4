/* Which worker gets the next connection, and which are too many. Pure. */
#ifndef TLSRELAYD_POOL_H
#define TLSRELAYD_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pool_row {
	bool takes; /* is of this kind, alive, and was not told to leave */
	uint32_t connections;
};

#define POOL_NEW  (-1) /* start a worker for it */
#define POOL_FULL (-2) /* there is no room */

/* Among count rows: a worker that has nothing to do; else a new one while fewer than `spread` take
 * connections; else the one with the fewest, below `most`; else a new one while `may_start`.
 * Returns an index, POOL_NEW or POOL_FULL. */
int pool_choose(const struct pool_row *rows, size_t count, uint32_t most, size_t spread,
		bool may_start);

/* May row i leave, that has had nothing to do for a while? Only if another one remains. */
bool pool_is_surplus(const struct pool_row *rows, size_t count, size_t i);

#endif
