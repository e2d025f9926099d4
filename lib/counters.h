/* What is counted: the one table behind the state file, pimpstat, its JSON and the manual.
 *
 *	COUNTER(name, meaning)		only grows; zeroed by a fresh start of the whole
 *	GAUGE(name, meaning)		now; the highest is kept as a peak with its time
 */
#ifndef LIB_COUNTERS_H
#define LIB_COUNTERS_H

#define COUNTER_TABLE(COUNTER) \
	COUNTER(clients, "client connections accepted") \
	COUNTER(clients_refused, "client connections refused: max_clients, max_per_ip") \
	COUNTER(clients_denied, "client connections closed: allow_addresses, deny_addresses") \
	COUNTER(logins, "successful client logins") \
	COUNTER(logins_reused, "logins served by a cached connection") \
	COUNTER(logins_fresh, "logins that made a new backend login") \
	COUNTER(logins_refused, "logins that the mail host refused") \
	COUNTER(logins_failed, "logins that failed for another reason") \
	COUNTER(given, "connections given back to the cache") \
	COUNTER(expired, "cached connections closed: cache_expiration_time or cache_max_age") \
	COUNTER(evicted, "cached connections closed to make room") \
	COUNTER(died, "cached connections closed by the mail host") \
	COUNTER(stale, "cached connections found dead when they were handed out") \
	COUNTER(superseded, "connections not kept: their password is not the account's any more") \
	COUNTER(flushed, "cached connections closed: their host restarts, is drained, is another") \
	COUNTER(limited, "tries of a login that met a LIMIT of the mail host") \
	COUNTER(rechecks, "passwords proven again behind a reused login: auth_recheck") \
	COUNTER(rechecks_refused, "passwords that the mail host did not accept any more") \
	COUNTER(rechecks_open, "passwords of which the mail host said neither") \
	COUNTER(offers_kept, "connections with a fingerprint whose next client wanted the same") \
	COUNTER(offers_swapped, "the same whose client wanted another and got a plain one") \
	COUNTER(select_hits, "EXAMINEs answered with what was kept: enable_select_cache") \
	COUNTER(select_misses, "mailboxes left open for nothing: news, or another first command") \
	COUNTER(dials_failed, "connections to mail hosts that failed") \
	COUNTER(sessions_lost, "sessions whose process died without a word") \
	COUNTER(sessions_killed, "sessions and errands killed for a forbidden system call") \
	COUNTER(errands, "errands started: LOGOUT, and logins for auth_recheck") \
	COUNTER(errands_failed, "errands that the mail host did not answer, or that died") \
	COUNTER(errands_dropped, "errands not started: no listener, or too many at once") \
	COUNTER(bad_messages, "peers cut off for a bad local message") \
	COUNTER(spares_taken, "logins on a connection that had waited for one") \
	COUNTER(spares_died, "such connections that the mail host ended first") \
	COUNTER(tls_handshakes, "TLS handshakes with clients that went well") \
	COUNTER(tls_handshakes_failed, "TLS handshakes with clients that failed") \
	COUNTER(tls_backend_handshakes, "TLS handshakes with mail hosts that went well") \
	COUNTER(tls_backend_resumed, "of these, those that resumed an earlier TLS session") \
	COUNTER(tls_backend_failed, "TLS handshakes with mail hosts that failed") \
	COUNTER(tls_truncated, "TLS connections that ended without close_notify") \
	COUNTER(tls_workers_lost, "processes of tlsrelayd that died") \
	COUNTER(bytes_from_clients, "bytes from clients after login") \
	COUNTER(bytes_from_backends, "bytes from mail hosts after login")

#define GAUGE_TABLE(GAUGE) \
	GAUGE(clients, "client connections now") \
	GAUGE(active, "backend connections in use") \
	GAUGE(cached, "backend connections in the cache") \
	GAUGE(spares, "connections to mail hosts that wait for a login") \
	GAUGE(tls_workers, "processes of tlsrelayd with TLS connections") \
	GAUGE(tls_connections, "TLS connections, with clients and mail hosts")

enum counter {
#define COUNTER_ENUM(name, ...) COUNTER_##name,
	COUNTER_TABLE(COUNTER_ENUM)
#undef COUNTER_ENUM
	COUNTER_COUNT,
};

enum gauge {
#define GAUGE_ENUM(name, ...) GAUGE_##name,
	GAUGE_TABLE(GAUGE_ENUM)
#undef GAUGE_ENUM
	GAUGE_COUNT,
};

#endif
