/* What stands in the state file (LMDB, one file, MDB_NOSUBDIR): the names and the bytes that the
 * writer (cachebrokerd) and the readers (pimpstat) agree on. docs/PROTOCOL.md describes it for
 * others.
 *
 * Sub-databases and their rows, all numbers in the machine's own byte order:
 *   meta      name -> text: "schema", "boot_id", "version", "started", "heartbeat" (seconds since
 * 1970) counters  name -> u64 gauges    name -> u64 peaks     name -> struct statefile_peak
 *   sessions  u64 id -> struct statefile_session and behind it user, client and host
 *   ends      word of END_TABLE -> u64
 *   not_cached word of NOT_CACHED_TABLE -> u64
 *   trace      name of a user -> struct statefile_trace: who is traced
 */
#ifndef LIB_STATEFILE_H
#define LIB_STATEFILE_H

#include <stdint.h>

#define STATEFILE_SCHEMA    1
#define STATEFILE_MAP_BYTES (64ul << 20)
#define STATEFILE_DBS	    16

/* The writer renews meta/heartbeat at least this often, in seconds; thrice as old means: no broker.
 */
#define STATEFILE_HEARTBEAT 2

struct statefile_peak {
	uint64_t value;
	int64_t when; /* seconds since 1970 */
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
	uint16_t user_length;
	uint16_t client_length; /* "address:port" */
	uint16_t host_length;	/* "name:port" */
	uint16_t zero;
	/* the three texts follow, without NULs */
};

#endif
