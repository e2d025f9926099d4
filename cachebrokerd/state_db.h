/* The state file itself: what state.c's writer thread calls to open it and to commit. Inside this
 * module only; everybody else uses state.h. No LMDB type leaves state_db.c. */
#ifndef CACHEBROKERD_STATE_DB_H
#define CACHEBROKERD_STATE_DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/counters.h"
#include "lib/ends.h"
#include "cachebrokerd/state_names.h"
#include "lib/statefile.h"

/* Everything in the file but the sessions. */
struct state_numbers {
	uint64_t counters[COUNTER_COUNT];
	uint64_t gauges[GAUGE_COUNT];
	struct statefile_peak peaks[GAUGE_COUNT];
	uint64_t ends[END_COUNT];
	uint64_t not_cached[NOT_CACHED_COUNT];
	struct statefile_history history;
	int64_t reset; /* when the counters were last reset, seconds since 1970; 0: not by us */
	struct state_names traces;
	struct state_names orders;
};

/* One row of `sessions` to be set, or with length 0 to be removed; or one of `hosts` to be set, or
 * removed if it is gone. */
struct state_row {
	struct state_row *next;
	uint64_t id; /* of a session */
	bool is_host;
	bool is_gone; /* of a host */
	size_t length;
	char bytes[]; /* struct statefile_session or statefile_host, and behind it the texts */
};

struct state_db;
struct state_host;

/* What state_db_open() found in the file's place, for one log line. */
enum state_db_found {
	STATE_DB_OURS,	   /* a file of this boot, or none */
	STATE_DB_REBUILT,  /* a file of another boot, schema or a damaged one: made anew */
	STATE_DB_OLD,	   /* up-imapproxy's: kept as PATH.old */
	STATE_DB_OLD_AGAIN, /* the same, in place of another PATH.old */
	STATE_DB_OLD_LOST, /* up-imapproxy's: emptied, because the folder cannot be written */
};

/* Opens or creates the file, removes the sessions and with `fresh` everything else, and fills
 * *numbers and *hosts from what is left (gauges are zero). Files of other programs are left alone.
 * Returns 0 and the database, or an error for state_db_error(). Blocks on the disk: call it at the
 * start only. */
int state_db_open(const char *path, bool fresh, struct state_numbers *numbers,
		  struct state_host **hosts, struct state_db **ret, enum state_db_found *found);

/* Writes all numbers, the rows and the heartbeat `now` (seconds since 1970) in one transaction.
 * Returns 0; -ENOBUFS when the map was too full for the rows: the numbers and the removals are
 * written, the new rows are not; or another error, with nothing written. From any one thread at a
 * time. */
int state_db_commit(struct state_db *db, const struct state_numbers *numbers,
		    const struct state_row *rows, int64_t now);

/* Forgets readers that died in the middle of a transaction: they would keep pages from being used
 * again. */
void state_db_check_readers(struct state_db *db);

/* NULL is allowed. */
void state_db_close(struct state_db *db);

/* What an error of the functions above means; valid until the next call. */
const char *state_db_error(int error);

#endif
