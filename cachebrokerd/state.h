/* The state file's writer: statistics for pimpstat in LMDB (DESIGN of lib/statefile.h).
 *
 * The broker's one thread calls the functions below; they change memory only. A writer thread of
 * this module's own takes snapshots and commits, at most every 100 ms, so that a lock, a slow disk
 * or a full map never delays a lease. What goes wrong with the file is logged once and stops the
 * statistics, never the mail.
 */
#ifndef CACHEBROKERD_STATE_H
#define CACHEBROKERD_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/counters.h"
#include "lib/ends.h"
#include "lib/span.h"
#include "lib/statefile.h"

struct state;
struct state_names;

/* Opens or creates the file and starts the writer. A file of another boot or schema, and an old
 * 72-byte file of up-imapproxy, are replaced (that one is kept as PATH.old). `fresh` zeroes the
 * counters, as a start of the whole does; a broker restarted by its supervisor goes on counting.
 * Always returns an object unless there is no memory (NULL): when the file cannot be used, one
 * warning is logged and the object counts in memory only. */
struct state *state_open(const char *path, bool fresh);

/* The file belongs to another broker now: nothing is written any more, not even what is new;
 * counting goes on in memory. Never waits: a commit under way ends first. */
void state_leave(struct state *s);

/* Commits what is new, stops the writer, closes. NULL is allowed. */
void state_close(struct state *s);

void state_count(struct state *s, enum counter which, uint64_t by);
void state_uncount(struct state *s, enum counter which, uint64_t by);
void state_count_end(struct state *s, enum session_end end);
void state_count_not_cached(struct state *s, enum not_cached reason);

/* Sets a gauge and, when it is the highest so far, its peak with the time. */
void state_gauge(struct state *s, enum gauge which, uint64_t value);

/* Counters, session ends and reasons begin at zero again, and peaks at what is now. */
void state_reset(struct state *s);

/* Who is traced (state_names.h): as it was left by the broker before, until the caller changes it
 * through its functions. Lives as long as s. */
struct state_names *state_traces_of(struct state *s);

/* What state_traces_of() points to was changed: it is written with the next tick. */
void state_traces_changed(struct state *s);

/* The same of what is ordered of mail hosts (state_names.h). */
struct state_names *state_orders_of(struct state *s);
void state_orders_changed(struct state *s);

/* Sets the row of a session or of a cached connection (ids are the caller's, never reused). Texts
 * are copied. Texts longer than 512 bytes are cut. */
void state_session(struct state *s, uint64_t id, enum statefile_session_state what,
		   uint32_t service, struct span user, struct span client, struct span host);

/* Removes that row. */
void state_session_gone(struct state *s, uint64_t id);

/* The TLS of the session whose row was set just now: "version cipher name". */
void state_session_tls(struct state *s, uint64_t id, struct span tls);

/* How many bytes went over the cached connection whose row was set just now. */
void state_session_moved(struct state *s, uint64_t id, uint64_t from_client, uint64_t from_backend);

/* The figures of a mail host ("name:port"): the caller counts in them, what has changed is written
 * with the next tick. Counters go on where a broker before this one left them. They live until
 * state_close(), or until as many calls of state_host_gone() have come. NULL: no memory. */
struct statefile_host *state_host(struct state *s, const char *label);
void state_host_gone(struct state *s, const char *label);

/* How many hosts have a label that is_one() is true for. */
unsigned state_count_hosts(struct state *s, bool (*is_one)(const void *context, struct span label),
			   const void *context);

/* Hands what has changed to the writer thread, when it is idle and 100 ms have passed since the
 * last time. Call it from a timer every 100 ms. now_ms is the monotonic clock. */
void state_tick(struct state *s, int64_t now_ms);

#endif
