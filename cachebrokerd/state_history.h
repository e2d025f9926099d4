/* The ring of what happened in the last minutes, for pimpstat's curves. Pure. Inside the state
 * file's module only. */
#ifndef CACHEBROKERD_STATE_HISTORY_H
#define CACHEBROKERD_STATE_HISTORY_H

#include <stdint.h>

#include "lib/statefile.h"

/* Adds what was counted since the last call, at `now` (seconds since 1970). Differences may be
 * negative: what was counted and taken back; no step goes below zero. Steps in which nobody called
 * are zero. A clock that was set back by more than a step begins the ring anew. */
void state_history_add(struct statefile_history *h, int64_t now, int64_t fresh, int64_t reused,
		       int64_t failed);

#endif
