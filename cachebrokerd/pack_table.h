/* What a broker leaves to its successor: the one table behind encoder and decoder (pack.h).
 *
 *	RECORD(NAME, number, sockets, FIELDS)
 *
 * sockets: how many descriptors the record has beside it, in the pack's socket: 0 or 1. Each FIELDS
 * list is U32(N, name), U64(N, name), KEY(N, name) (a digest) or TEXT(N, name, longest), in the
 * order in which they are written; N is the row's NAME. Times are of the monotonic clock, in ms,
 * which goes on while the machine runs.
 */
#ifndef CACHEBROKERD_PACK_TABLE_H
#define CACHEBROKERD_PACK_TABLE_H

/* The first one. `socket` is the cookie of the socket that has the descriptors; `secret` is the key
 * of all digests; `settings` the digest of the configuration (broker_digest_settings()); next_id
 * and settled_at as in struct broker, tls_unsettled, too, with clients_unsettled as its second bit;
 * tls_policy and tls_settings say what TLS with mail hosts was made with; tries_born as in tries.h.
 */
#define PACK_HEAD_FIELDS(N, U32, U64, KEY, TEXT) \
	U64(N, socket) \
	KEY(N, secret) \
	KEY(N, settings) \
	U64(N, next_id) \
	U64(N, settled_at) \
	U64(N, tls_policy) \
	U64(N, tls_settings) \
	U32(N, tls_unsettled) \
	U64(N, tries_born)

/* What a client was seen to turn on (habits.h). */
#define PACK_HABIT_FIELDS(N, U32, U64, KEY, TEXT) \
	KEY(N, who) \
	U64(N, seen) \
	U32(N, enables) \
	U32(N, plain_turns) \
	TEXT(N, fingerprint, 200)

/* What lookupd said of a login (accounts.h), in the order in which it was stored; `flags` of enum
 * pack_account_flag. */
#define PACK_ACCOUNT_FIELDS(N, U32, U64, KEY, TEXT) \
	KEY(N, login) \
	KEY(N, user) \
	U64(N, fresh_until) \
	U64(N, until) \
	U32(N, flags) \
	U32(N, place) \
	TEXT(N, hosts, 2200) \
	TEXT(N, backend_user, 512)

/* What is known of a session's process (tries.h), whose session may be over. Times are of the
 * machine's start. */
#define PACK_TRIES_FIELDS(N, U32, U64, KEY, TEXT) \
	U32(N, pid) \
	U64(N, since) \
	U64(N, gone) \
	U32(N, used) \
	U32(N, deeds) \
	U32(N, again)

/* A backend connection (connection.h) and its mail host. It is that of the record behind it: a
 * client that has leased it, or IDLE. `flags` of enum pack_connection_flag. `accepted`: when its
 * password was, if that is the account's current one; 0: it is not. */
#define PACK_CONNECTION_FIELDS(N, U32, U64, KEY, TEXT) \
	TEXT(N, host, 255) \
	U32(N, port) \
	U32(N, tls_mode) \
	U32(N, local) \
	U32(N, service) \
	U32(N, flags) \
	U64(N, id) \
	U64(N, cookie) \
	U64(N, born) \
	U64(N, tls) \
	U64(N, from_client) \
	U64(N, from_backend) \
	U64(N, accepted) \
	KEY(N, plain) \
	KEY(N, account) \
	KEY(N, record) \
	TEXT(N, user, 512) \
	TEXT(N, backend_user, 512) \
	TEXT(N, capabilities, 4096) \
	TEXT(N, fingerprint, 200) \
	TEXT(N, opening, 1000) \
	TEXT(N, examined, 2000)

/* The connection in front of it is idle, since then. */
#define PACK_IDLE_FIELDS(N, U32, U64, KEY, TEXT) \
	U64(N, since)

/* A session (client.h), and its socket, whose cookie is `socket`. `state` of enum client_state;
 * `flags` of enum pack_client_flag; `pid`: its process, of which a TRIES says more; connected_ and
 * caller_ as in caller.h; `verified`: whom a look-up worker has. */
#define PACK_CLIENT_FIELDS(N, U32, U64, KEY, TEXT) \
	U64(N, id) \
	U64(N, socket) \
	U64(N, since) \
	U32(N, state) \
	U32(N, service) \
	U32(N, flags) \
	U32(N, pid) \
	U32(N, leases) \
	U32(N, lines) \
	U32(N, tls_serial) \
	KEY(N, bound_to) \
	KEY(N, repeated) \
	KEY(N, habit) \
	TEXT(N, user, 512) \
	TEXT(N, address, 79) \
	TEXT(N, origin, 64) \
	TEXT(N, connected_client, 64) \
	TEXT(N, connected_local, 64) \
	U32(N, connected_client_port) \
	U32(N, connected_local_port) \
	U32(N, connected_hops) \
	TEXT(N, caller_client, 64) \
	TEXT(N, caller_local, 64) \
	U32(N, caller_client_port) \
	U32(N, caller_local_port) \
	U32(N, caller_hops) \
	TEXT(N, tls, 1000) \
	TEXT(N, identity, 512) \
	TEXT(N, verified, 512)

#define PACK_TABLE(RECORD) \
	RECORD(HEAD, 1, 0, PACK_HEAD_FIELDS) \
	RECORD(HABIT, 2, 0, PACK_HABIT_FIELDS) \
	RECORD(CONNECTION, 3, 0, PACK_CONNECTION_FIELDS) \
	RECORD(CLIENT, 4, 1, PACK_CLIENT_FIELDS) \
	RECORD(IDLE, 5, 1, PACK_IDLE_FIELDS) \
	RECORD(ACCOUNT, 6, 0, PACK_ACCOUNT_FIELDS) \
	RECORD(TRIES, 7, 0, PACK_TRIES_FIELDS)

#endif
