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
	struct span tls; /* "version cipher name" of the client's TLS; empty: none */
	bool has_bytes; /* are these known? Of active sessions: see traffic.h */
	uint64_t from_client;
	uint64_t from_backend;
};

struct model_host {
	struct span name; /* "name:port" */
	struct statefile_host figures;
};

/* What an administrator has ordered of a mail host. */
#define MODEL_ORDERS 64
struct model_order {
	char host[264]; /* "name" or "name:port" */
	size_t length;
	uint32_t kind; /* enum statefile_order_kind */
	int64_t since; /* seconds since 1970 */
};

struct model {
	uint64_t schema;  /* of the file */
	char version[32]; /* of the broker that wrote it, harmless */
	int64_t started;  /* seconds since 1970, as are all times here */
	int64_t reset;	  /* since when counters count */
	int64_t heartbeat;
	uint64_t counters[COUNTER_COUNT];
	uint64_t gauges[GAUGE_COUNT];
	struct statefile_peak peaks[GAUGE_COUNT];
	uint64_t ends[END_COUNT];
	uint64_t not_cached[NOT_CACHED_COUNT];
	struct statefile_history history;
	struct model_session *sessions; /* in the order of their ids; texts borrow `bytes` */
	size_t session_count;
	struct model_order orders[MODEL_ORDERS]; /* in the order of their names */
	size_t order_count;
	struct model_host *hosts; /* in the order of their names, which borrow `host_bytes`; then
				   * those that are only named by an order */
	size_t host_count;
	char *bytes;
	char *host_bytes;
};

/* The rows' names, for printing. */
extern const char *const model_counter_names[COUNTER_COUNT];
extern const char *const model_counter_meanings[COUNTER_COUNT];
extern const char *const model_gauge_names[GAUGE_COUNT];
extern const char *const model_gauge_meanings[GAUGE_COUNT];
extern const char *const model_end_meanings[END_COUNT];
extern const char *const model_not_cached_meanings[NOT_CACHED_COUNT];

/* Copies the state file within one read transaction. Returns 0 and a model for model_wipe(), or -1
 * with one sentence for a person in why (no line feed): it names the file and says what to do.
 * Takes SIGBUS, which a file that is cut short meanwhile sends; after that (-2) do not call it
 * again. */
int model_read(const char *path, struct model *m, char *why, size_t cap);

/* Frees what the model owns. */
void model_wipe(struct model *m);

/* Does a broker run, now being seconds since 1970? */
bool model_is_running(const struct model *m, int64_t now);

/* Reused logins in a thousand of all, or -1 when there was none. */
int model_reuse_per_mille(const struct model *m);

/* A mail host state's word: "up", "down", "drain", "pause" or "?". */
const char *model_host_word(uint32_t state);

/* A session state's word: "login", "active", "cached" or "?". */
const char *model_state_word(uint32_t state);

#endif
