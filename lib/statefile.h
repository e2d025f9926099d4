/* What stands in the state file (LMDB, one file, MDB_NOSUBDIR): the names and the bytes that the
 * writer (cachebrokerd) and the readers (pimpstat) agree on. docs/PROTOCOL.md describes it for
 * others.
 *
 * Sub-databases and their rows, all numbers in the machine's own byte order:
 *   meta       name -> text: "schema", "boot_id", "version", and in seconds since 1970 "started",
 *              "reset" (since when counters count), "heartbeat"
 *   counters   name -> u64
 *   gauges     name -> u64
 *   peaks      name -> struct statefile_peak
 *   ends       word of END_TABLE -> u64
 *   not_cached word of NOT_CACHED_TABLE -> u64
 *   history    "logins" -> struct statefile_history
 *   hosts      "name:port" -> struct statefile_host
 *   sessions   u64 id -> struct statefile_session and behind it user, client, host and TLS
 *   trace      name of a user -> struct statefile_trace: who is traced
 *   orders     "name" or "name:port" of a mail host -> struct statefile_order: what an
 *              administrator has ordered of it
 */
#ifndef LIB_STATEFILE_H
#define LIB_STATEFILE_H

#include <stdint.h>

#define STATEFILE_SCHEMA    4
#define STATEFILE_MAP_BYTES (64ul << 20)
#define STATEFILE_DBS	    16

/* The writer renews meta/heartbeat at least this often, in seconds; thrice as old means: no broker.
 */
#define STATEFILE_HEARTBEAT 2

struct statefile_peak {
	uint64_t value;
	int64_t when; /* seconds since 1970 */
};

/* The logins of the last minutes, in steps. Step number n lasts from n * STATEFILE_STEP_SECONDS
 * seconds since 1970 and lies in place n % STATEFILE_STEPS; steps that nothing has come after are
 * older than `newest` by less than STATEFILE_STEPS. */
#define STATEFILE_STEP_SECONDS 10
#define STATEFILE_STEPS	       120

struct statefile_step {
	uint32_t fresh;
	uint32_t reused;
	uint32_t failed; /* and refused ones */
};

struct statefile_history {
	int64_t newest;
	struct statefile_step steps[STATEFILE_STEPS];
};

enum statefile_host_state {
	STATEFILE_HOST_UNKNOWN = 0, /* not connected to yet */
	STATEFILE_HOST_UP = 1,
	STATEFILE_HOST_DOWN = 2, /* it did not answer the last time */
	STATEFILE_HOST_DRAINED = 3, /* by order: no new sessions, nothing is cached */
	STATEFILE_HOST_PAUSED = 4,  /* by order: no new sessions */
};

#define STATEFILE_ERROR 120

struct statefile_host {
	uint32_t state;
	uint32_t error_length;
	uint64_t active; /* connections in use, being dialled or on their way back */
	uint64_t cached;
	uint64_t logins_fresh;
	uint64_t logins_reused;
	uint64_t logins_refused;
	uint64_t logins_failed; /* on a connection that was there */
	uint64_t dials_failed;
	uint64_t dials;	       /* that went well */
	uint64_t dial_average; /* how long these took, microseconds; the last ones count most */
	int64_t failed_at; /* the last dial that failed; seconds since 1970, 0: none */
	char error[STATEFILE_ERROR]; /* what went wrong with it; no NUL behind it */
};

enum statefile_order_kind {
	STATEFILE_ORDER_NONE = 0,
	STATEFILE_ORDER_DRAIN = STATEFILE_HOST_DRAINED,
	STATEFILE_ORDER_PAUSE = STATEFILE_HOST_PAUSED,
};

struct statefile_order {
	int64_t since; /* seconds since 1970 */
	uint32_t kind;
	uint32_t zero;
};

enum statefile_session_state {
	STATEFILE_LOGIN = 0,  /* no backend connection yet */
	STATEFILE_ACTIVE = 1, /* in use */
	STATEFILE_CACHED = 2, /* an idle backend connection; no client */
};

/* By whom a user is traced: bits. */
enum statefile_trace_by {
	STATEFILE_TRACE_COMMAND = 1, /* XPROXY_TRACE */
	STATEFILE_TRACE_ADMIN = 2,   /* pimpstat --trace */
};

struct statefile_trace {
	int64_t since; /* seconds since 1970 */
	uint32_t by;
	uint32_t zero;
};

struct statefile_session {
	uint32_t state;
	uint32_t service;
	int64_t since; /* seconds since 1970: in this state */
	/* What all sessions moved over a cached connection. 0 in other states: what a session moves
	 * only its own process knows, until it ends. */
	uint64_t from_client;
	uint64_t from_backend;
	uint16_t user_length;
	uint16_t client_length; /* "address:port" */
	uint16_t host_length;	/* "name:port" */
	uint16_t tls_length;	/* "version cipher name" of the client's TLS; 0: none */
	/* the four texts follow, without NULs */
};

#endif
