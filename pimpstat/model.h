/* What pimpstat knows: one consistent copy of the state file, in plain memory. */
#ifndef PIMPSTAT_MODEL_H
#define PIMPSTAT_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/counters.h"
#include "lib/ends.h"
#include "lib/span.h"
#include "lib/statefile.h"

struct model_session {
	uint64_t id;
	uint32_t state; /* enum statefile_session_state, or a number of a later version */
	uint32_t service;
	int64_t since; /* seconds since 1970 */
	struct span user;
	struct span client; /* "address:port", empty for a cached connection */
	struct span host;
};

struct model {
	char version[32]; /* of the broker that wrote it */
	int64_t started;  /* seconds since 1970, as are all times here */
	int64_t heartbeat;
	uint64_t counters[COUNTER_COUNT];
	uint64_t gauges[GAUGE_COUNT];
	struct statefile_peak peaks[GAUGE_COUNT];
	uint64_t ends[END_COUNT];
	uint64_t not_cached[NOT_CACHED_COUNT];
	struct model_session *sessions; /* in the order of their ids; texts borrow `bytes` */
	size_t session_count;
	char *bytes;
};

/* The rows' names, for printing. */
extern const char *const model_counter_names[COUNTER_COUNT];
extern const char *const model_counter_meanings[COUNTER_COUNT];
extern const char *const model_gauge_names[GAUGE_COUNT];
extern const char *const model_gauge_meanings[GAUGE_COUNT];

/* Copies the state file within one read transaction. Returns 0 and a model for model_wipe(), or -1
 * with one sentence for a person in why (no line feed): it names the file and says what to do. */
int model_read(const char *path, struct model *m, char *why, size_t cap);

/* Frees what the model owns. */
void model_wipe(struct model *m);

/* Does a broker run, now being seconds since 1970? */
bool model_is_running(const struct model *m, int64_t now);

/* Reused logins in a thousand of all, or -1 when there was none. */
int model_reuse_per_mille(const struct model *m);

/* A session state's word: "login", "active", "cached" or "?". */
const char *model_state_word(uint32_t state);

#endif
