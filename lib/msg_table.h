/* The local messages: the one table behind encoder, decoder, policing and docs/PROTOCOL.md.
 *
 *	MSG(NAME, number, senders, descriptors, FIELDS)
 *
 * senders: who may send it, as the roles of msg.h; a peer's role is the socket it came in by.
 * descriptors: how many a message of this type carries, exactly: 0 or 1.
 * Each FIELDS list is U32(N, name), U64(N, name) or TEXT(N, name, longest), in wire order; N is
 * the row's NAME.
 */
#ifndef LIB_MSG_TABLE_H
#define LIB_MSG_TABLE_H

/* A session's process introduces itself on the session socket, before its first client byte. It
 * does so once more, with the announced addresses, behind the PROXY header of a client that must
 * send one (proxy_protocol_addresses). */
#define MSG_HELLO_FIELDS(N, U32, U64, TEXT) \
	U32(N, service) \
	U32(N, client_port) \
	U32(N, local_port) \
	TEXT(N, client, 64) \
	TEXT(N, local, 64)

/* Everything that a session must know; times in seconds, sizes in bytes; auth_mechanisms is a set
 * of enum sasl_mechanism (lib/sasl.h): those that are offered before login. `settings` names this
 * configuration: it differs after each reload and each start. A listener gets it, too (session is
 * 0 then), for its children, and for itself: one that root started obeys uid, gid and
 * chroot_directory once, at the first. `old_log` is of enum msg_old_log. */
#define MSG_WELCOME_FIELDS(N, U32, U64, TEXT) \
	U64(N, session) \
	U64(N, settings) \
	U32(N, uid) \
	U32(N, gid) \
	U32(N, login_timeout) \
	U32(N, login_attempts) \
	U32(N, max_errors) \
	U32(N, max_line_login) \
	U32(N, idle_timeout) \
	U32(N, backend_timeout) \
	U32(N, lease_timeout) \
	U32(N, drain_bytes) \
	U32(N, drain_time) \
	U32(N, caching) \
	U32(N, select_cache) \
	U32(N, tcp_keepalives) \
	U32(N, log_facility) \
	U32(N, log_priority) \
	U32(N, starttls) \
	U32(N, require_tls) \
	TEXT(N, plaintext_addresses, 1000) \
	U32(N, auth_mechanisms) \
	U32(N, old_log) \
	TEXT(N, hide_capabilities, 1000) \
	TEXT(N, safe_commands, 1000) \
	TEXT(N, allow_addresses, 1000) \
	TEXT(N, deny_addresses, 1000) \
	TEXT(N, proxy_protocol_addresses, 1000) \
	TEXT(N, trusted_addresses, 1000) \
	TEXT(N, chroot_directory, 255)

/* Give me a backend connection for this account. proof_kind, of enum msg_proof, says what
 * `secret` is; with a token there is no authzid, and when lookupd or tlsrelayd has verified the
 * client there is no secret, and `user` is not believed. `origin`, `origin_port` and `hops` are
 * what a proxy in front of us said before login of whom it serves and how many proxies there
 * were. `client_id` is a digest of what ID said before login, 0 for nothing: with the client's
 * address it says what this client was seen to turn on before. `plain`: only one on which nothing
 * is turned on. `tls`: the client has TLS; `private`: so it has, or it needs none where it comes
 * from. */
#define MSG_LEASE_FIELDS(N, U32, U64, TEXT) \
	U32(N, proof_kind) \
	U32(N, plain) \
	U32(N, tls) \
	U32(N, private) \
	U64(N, client_id) \
	U32(N, hops) \
	U32(N, origin_port) \
	TEXT(N, origin, 64) \
	TEXT(N, user, 512) \
	TEXT(N, authzid, 512) \
	TEXT(N, secret, 8192)

/* Here it is (with its descriptor). `made`: it is cached only in that an errand has logged in on
 * it, just now and for this client. For a cached connection `capabilities` is the mail host's list
 * after login, for a fresh one the list that another one of this account and password had, if that
 * is known: the session makes sure of it. With `prove` a cached one lay for so long that the mail
 * host must answer before it is used, else the login counts as accepted. With a `fingerprint` it is
 * only offered: the session says OUTCOME accepted when its client has turned the same on (`opening`
 * is how), or UNTOUCHED. `greeted`: a fresh one whose greeting is gone (STARTTLS, or it waited as
 * a spare); `offered` is then the mail host's list before login, empty when nobody has asked.
 * `promise`: this client may be told XPROXYREUSE. `preauth_command` is what a login on a fresh
 * one begins with. `examined`: a mailbox is open on it for reading, and what a client is answered
 * that opens it (proxyd/selectcache.h). `tell_client`: a fresh one's mail host is to be told who is
 * calling. `user` is the login name as it is known from now on (default_domain, login_case). */
#define MSG_LEASED_FIELDS(N, U32, U64, TEXT) \
	U64(N, session) \
	U32(N, cached) \
	U32(N, made) \
	U32(N, prove) \
	U32(N, promise) \
	U32(N, greeted) \
	U32(N, tell_client) \
	U32(N, host_port) \
	TEXT(N, host, 255) \
	TEXT(N, user, 512) \
	TEXT(N, backend_user, 512) \
	TEXT(N, capabilities, 4096) \
	TEXT(N, offered, 2000) \
	TEXT(N, fingerprint, 200) \
	TEXT(N, opening, 1000) \
	TEXT(N, preauth_command, 1000) \
	TEXT(N, examined, 2000)

/* One step of a mechanism that challenges the client (CRAM, SCRAM): session to broker, which passes
 * it on to a look-up worker, and back. `conversation` is 0 with the first one, and then the number
 * that the worker has given; `mechanism` is of enum sasl_mechanism; `status` of enum msg_auth;
 * `data` is without base64. A worker says at the end whom it has judged: `user`; `why` is for the
 * log. Only the broker says `client`. Behind AUTH_ACCEPTED the session says LEASE with
 * PROOF_VERIFIED. */
#define MSG_AUTH_STEP_FIELDS(N, U32, U64, TEXT) \
	U64(N, session) \
	U64(N, conversation) \
	U32(N, service) \
	U32(N, mechanism) \
	U32(N, status) \
	U32(N, tls) \
	U32(N, attempt) \
	TEXT(N, client, 64) \
	TEXT(N, user, 512) \
	TEXT(N, why, 200) \
	TEXT(N, data, 4096)

/* There is none; `reason` is of enum msg_refusal; `user` as in LEASED, empty if it was no LEASE.
 * `code`, of lib/codes.h: what the mail host said to an errand, for the client in the place of what
 * the reason stands for. */
#define MSG_REFUSED_FIELDS(N, U32, U64, TEXT) \
	U64(N, session) \
	U32(N, reason) \
	U32(N, code) \
	TEXT(N, user, 512) \
	TEXT(N, text, 200)

/* What became of the lease: enum msg_outcome. */
#define MSG_OUTCOME_FIELDS(N, U32, U64, TEXT) \
	U32(N, outcome)

/* The session is over; the connection will be given back unless the reset fails. `fingerprint` is
 * what is turned on on it, in canonical form (proxyd/fingerprint.h); empty: it is plain. */
#define MSG_RETURNING_FIELDS(N, U32, U64, TEXT) \
	TEXT(N, fingerprint, 200)

/* The leased connection back, with its descriptor: quiet, unselected (but for `examined`, as in
 * LEASED), no trace of the session. Its last word, too: the rest is as in TALLY. No capabilities:
 * they are as they were. `opening` is how the fingerprint that RETURNING named came about. */
#define MSG_GIVE_FIELDS(N, U32, U64, TEXT) \
	U32(N, reason) \
	U32(N, select) \
	U64(N, from_client) \
	U64(N, from_backend) \
	TEXT(N, capabilities, 4096) \
	TEXT(N, opening, 1000) \
	TEXT(N, examined, 2000) \
	TEXT(N, line, 1500)

/* An offered connection back, with its descriptor: its client turned out to want another one. No
 * command that its fingerprint matters to was sent on it. A LEASE with `plain` follows. */
#define MSG_UNTOUCHED_FIELDS(N, U32, U64, TEXT) \
	U32(N, reserved)

/* The last word of a session that gives nothing back. `reason` is of enum session_end, `not_cached`
 * of enum not_cached, `select` of enum msg_select. `fingerprint` as in RETURNING, "?" when it has
 * no name. `line` is the log line when the process could not write it itself. */
#define MSG_TALLY_FIELDS(N, U32, U64, TEXT) \
	U32(N, reason) \
	U32(N, not_cached) \
	U32(N, select) \
	U64(N, from_client) \
	U64(N, from_backend) \
	TEXT(N, fingerprint, 200) \
	TEXT(N, line, 1500)

/* A log line of this session that its process could not write itself; `old_log`, of enum log_name,
 * says under which name it is written. */
#define MSG_LINE_FIELDS(N, U32, U64, TEXT) \
	U32(N, old_log) \
	TEXT(N, line, 1500)

/* Broker to session: end now, for this reason (of enum session_end), and tell the client this
 * text with BYE. */
#define MSG_END_FIELDS(N, U32, U64, TEXT) \
	U32(N, reason) \
	TEXT(N, text, 200)

/* A listener introduces itself; the descriptor is the receiving end of its children's door.
 * `sending_end` is the SO_COOKIE of the other one: who brings that through it brings no session.
 * `places`: where its sockets listen, each ADDRESS/PORT, with blanks between them. */
#define MSG_LISTENER_FIELDS(N, U32, U64, TEXT) \
	U32(N, sockets) \
	U64(N, sending_end) \
	TEXT(N, places, 900)

/* The socket to the system's logger, for a listener that cannot reach it itself, and its children.
 * Comes before WELCOME, and again, with the other two, when the logger has another one. */
#define MSG_LOGGER_FIELDS(N, U32, U64, TEXT) \
	U32(N, reserved)

/* The sending end of the broker's own door, for a session that came by the session socket: before
 * WELCOME, once. It meets the next broker through it, as a listener's children do. */
#define MSG_DOOR_FIELDS(N, U32, U64, TEXT) \
	U32(N, reserved)

/* How many spare processes it shall keep; comes behind WELCOME, both again after a reload. */
#define MSG_POOL_FIELDS(N, U32, U64, TEXT) \
	U32(N, spare_least) \
	U32(N, spare_most) \
	U32(N, processes_most)

/* A session's or an errand's process was killed by a signal: the listener has reaped it. `line`: as
 * in TALLY. */
#define MSG_REAPED_FIELDS(N, U32, U64, TEXT) \
	U32(N, signal) \
	TEXT(N, line, 200)

/* Broker to listener: start a process for one errand. The descriptor is its link to the broker, on
 * which the job waits already, so that the listener sees nothing of it. If root started the
 * listener, the process becomes this user; log_*: as in WELCOME. */
#define MSG_ERRAND_FIELDS(N, U32, U64, TEXT) \
	U32(N, uid) \
	U32(N, gid) \
	U32(N, log_facility) \
	U32(N, log_priority)

/* Broker to errand: its one job, of enum msg_job, on this connection to a mail host; all of it may
 * take `timeout` seconds. The texts are what JOB_LOGIN logs in with. `greeted`, `offered`: as in
 * LEASED. With `tell_client` the mail host is told that it is for this client. */
#define MSG_JOB_FIELDS(N, U32, U64, TEXT) \
	U32(N, kind) \
	U32(N, service) \
	U32(N, timeout) \
	U32(N, greeted) \
	U32(N, tell_client) \
	U32(N, hops) \
	U32(N, client_port) \
	U32(N, local_port) \
	TEXT(N, client, 64) \
	TEXT(N, local, 64) \
	TEXT(N, backend_user, 512) \
	TEXT(N, authzid, 512) \
	TEXT(N, secret, 8192) \
	TEXT(N, preauth_command, 1000) \
	TEXT(N, offered, 2000)

/* An errand's last word: outcome is of enum msg_done; `code`, of lib/codes.h, what the mail host
 * said with its refusal of a login. */
#define MSG_DONE_FIELDS(N, U32, U64, TEXT) \
	U32(N, outcome) \
	U32(N, code)

/* The last word of an errand that brings its connection back: the mail host accepted the password
 * (JOB_LOGIN: `capabilities` is its list after login) or has greeted (JOB_GREET: its
 * list before login), and here is the connection, quiet. */
#define MSG_PROVEN_FIELDS(N, U32, U64, TEXT) \
	TEXT(N, capabilities, 4096)

/* A new session, through the door: its socket, and what HELLO says. It has the settings of that
 * name already; WELCOME comes (as a push) only when they are others by now. `user` is set when it
 * has met a broker before, in the middle of a session. */
#define MSG_KNOCK_FIELDS(N, U32, U64, TEXT) \
	U32(N, service) \
	U32(N, client_port) \
	U32(N, local_port) \
	U32(N, announced) \
	U64(N, settings) \
	TEXT(N, client, 64) \
	TEXT(N, local, 64) \
	TEXT(N, user, 512)

/* A look-up worker is ready for its first question. */
#define MSG_WORKER_FIELDS(N, U32, U64, TEXT) \
	U32(N, reserved)

/* Which mail host serves this account? `check` is of enum msg_check. Some directories are told of
 * the client: its address, whether it has TLS, which of its login attempts this is, from 1. */
#define MSG_LOOKUP_FIELDS(N, U32, U64, TEXT) \
	U32(N, service) \
	U32(N, check) \
	U32(N, tls) \
	U32(N, attempt) \
	TEXT(N, client, 64) \
	TEXT(N, user, 512) \
	TEXT(N, secret, 8192)

/* Its record: status is of enum msg_account; `hosts` is a text of lib/route.h; `lifetime` is for
 * how many seconds that may be believed, 0: as long as anything. `password` is the clear one that
 * the directory has for the mail host; empty: the client's own. `place`: which directory has
 * decided, or could not, from 1 in the order in which they are asked; those in front have said no.
 * `private`: it may log in only where nobody can listen. */
#define MSG_ACCOUNT_FIELDS(N, U32, U64, TEXT) \
	U32(N, status) \
	U32(N, lifetime) \
	U32(N, place) \
	U32(N, private) \
	TEXT(N, hosts, 2200) \
	TEXT(N, backend_user, 512) \
	TEXT(N, password, 512) \
	TEXT(N, error, 200)

/* Which addresses has this host? ip_version is 4, 6, or 0 for both. */
#define MSG_RESOLVE_FIELDS(N, U32, U64, TEXT) \
	U32(N, ip_version) \
	TEXT(N, host, 255)

/* Numeric addresses, separated by spaces, in the order to try them; none: `error` says why. */
#define MSG_ADDRESSES_FIELDS(N, U32, U64, TEXT) \
	TEXT(N, addresses, 1024) \
	TEXT(N, error, 200)

/* What an administrator asks for: `kind` is of enum msg_admin, `argument` a user's name. From a
 * session it is one of the XPROXY_ commands. `from`: of something long, what comes behind this
 * number of REPORT's `next`. */
#define MSG_ADMIN_FIELDS(N, U32, U64, TEXT) \
	U32(N, kind) \
	U64(N, from) \
	TEXT(N, argument, 255)

/* The answer: `result` is of enum msg_report. `next` is not 0 when there is more of it: the asker
 * asks again when it is ready for that. */
#define MSG_REPORT_FIELDS(N, U32, U64, TEXT) \
	U32(N, result) \
	U64(N, next) \
	TEXT(N, text, 8000)

/* Broker to session: from now on, what client and mail host say after login goes into this socket,
 * too (lib/trace.h), until its other end is shut. Comes in front of LEASED, or in the session. */
#define MSG_TRACE_FIELDS(N, U32, U64, TEXT) \
	U32(N, reserved)

/* tlsrelayd introduces itself. `serves`: it has a certificate, so clients may be offered TLS. Said
 * again after a reload. */
#define MSG_RELAY_FIELDS(N, U32, U64, TEXT) \
	U32(N, serves)

/* TLS with the client on this TCP connection: session to broker, which passes it on to tlsrelayd
 * with the client's address. Nothing was read that belongs to TLS. The session keeps a copy until
 * TLS_BEGUN. Answer: TLS_READY or TLS_FAILED, before TLS_BEGUN or behind it. */
#define MSG_TLS_ACCEPT_FIELDS(N, U32, U64, TEXT) \
	U32(N, service) \
	TEXT(N, client, 64)

/* TLS with this mail host on this TCP connection, on which nothing was said yet; `mode` is of enum
 * tls_mode. `host` is the name that the certificate must carry. Answer as above; behind STARTTLS
 * the greeting is gone. */
#define MSG_TLS_CONNECT_FIELDS(N, U32, U64, TEXT) \
	U32(N, mode) \
	U32(N, service) \
	U32(N, port) \
	TEXT(N, host, 255)

/* A worker has the client's connection (serial as in TLS_ACCEPT; to the session it is a push): the
 * stream already, which lasts without broker and tlsrelayd. The worker touches the connection when
 * the session has said TLS_LET_GO on the stream, as its first byte: from then on the session has no
 * copy of the connection. Before TLS_READY nothing comes out of the stream. */
#define MSG_TLS_BEGUN_FIELDS(N, U32, U64, TEXT) \
	U32(N, reserved)

/* The handshake is done: the descriptor is the stream of what is inside. `name` is what the client
 * asked for (SNI); `identity` whom its verified certificate names, empty: it showed none. */
#define MSG_TLS_READY_FIELDS(N, U32, U64, TEXT) \
	U32(N, resumed) \
	TEXT(N, version, 32) \
	TEXT(N, cipher, 64) \
	TEXT(N, name, 255) \
	TEXT(N, identity, 512)

/* There is none, the TCP connection is closed. `reason` is of enum msg_tls_failure; `text` says it
 * to people, with the host's or client's part in it and the setting that decides. */
#define MSG_TLS_FAILED_FIELDS(N, U32, U64, TEXT) \
	U32(N, reason) \
	TEXT(N, text, 300)

/* tlsrelayd's figures, when they have changed, at most once a second: processes and connections
 * now; since the last time: ends without close_notify, workers that died. */
#define MSG_TLS_STATE_FIELDS(N, U32, U64, TEXT) \
	U32(N, workers) \
	U32(N, connections) \
	U32(N, truncated) \
	U32(N, workers_lost)

#define MSG_TABLE(MSG) \
	MSG(HELLO,     1, ROLE_SESSION, 0, MSG_HELLO_FIELDS) \
	MSG(WELCOME,   2, ROLE_BROKER, 0, MSG_WELCOME_FIELDS) \
	MSG(LEASE,     3, ROLE_SESSION, 0, MSG_LEASE_FIELDS) \
	MSG(LEASED,    4, ROLE_BROKER, 1, MSG_LEASED_FIELDS) \
	MSG(REFUSED,   5, ROLE_BROKER, 0, MSG_REFUSED_FIELDS) \
	MSG(OUTCOME,   6, ROLE_SESSION, 0, MSG_OUTCOME_FIELDS) \
	MSG(RETURNING, 7, ROLE_SESSION, 0, MSG_RETURNING_FIELDS) \
	MSG(GIVE,      8, ROLE_SESSION, 1, MSG_GIVE_FIELDS) \
	MSG(TALLY,     9, ROLE_SESSION, 0, MSG_TALLY_FIELDS) \
	MSG(END,       10, ROLE_BROKER, 0, MSG_END_FIELDS) \
	MSG(LINE,      12, ROLE_SESSION, 0, MSG_LINE_FIELDS) \
	MSG(UNTOUCHED, 11, ROLE_SESSION, 1, MSG_UNTOUCHED_FIELDS) \
	MSG(AUTH_STEP, 13, ROLE_SESSION | ROLE_BROKER | ROLE_LOOKUP, 0, MSG_AUTH_STEP_FIELDS) \
	MSG(LISTENER,  20, ROLE_LISTENER, 1, MSG_LISTENER_FIELDS) \
	MSG(POOL,      21, ROLE_BROKER, 0, MSG_POOL_FIELDS) \
	MSG(LOGGER,    28, ROLE_BROKER, 1, MSG_LOGGER_FIELDS) \
	MSG(DOOR,      29, ROLE_BROKER, 1, MSG_DOOR_FIELDS) \
	MSG(REAPED,    23, ROLE_LISTENER, 0, MSG_REAPED_FIELDS) \
	MSG(ERRAND,    24, ROLE_BROKER, 1, MSG_ERRAND_FIELDS) \
	MSG(JOB,       25, ROLE_BROKER, 1, MSG_JOB_FIELDS) \
	MSG(DONE,      26, ROLE_ERRAND, 0, MSG_DONE_FIELDS) \
	MSG(PROVEN,    27, ROLE_ERRAND, 1, MSG_PROVEN_FIELDS) \
	MSG(KNOCK,     22, ROLE_DOOR, 1, MSG_KNOCK_FIELDS) \
	MSG(WORKER,    30, ROLE_LOOKUP, 0, MSG_WORKER_FIELDS) \
	MSG(LOOKUP,    31, ROLE_BROKER, 0, MSG_LOOKUP_FIELDS) \
	MSG(ACCOUNT,   32, ROLE_LOOKUP, 0, MSG_ACCOUNT_FIELDS) \
	MSG(RESOLVE,   33, ROLE_BROKER, 0, MSG_RESOLVE_FIELDS) \
	MSG(ADDRESSES, 34, ROLE_LOOKUP, 0, MSG_ADDRESSES_FIELDS) \
	MSG(ADMIN,     40, ROLE_SESSION | ROLE_ADMIN, 0, MSG_ADMIN_FIELDS) \
	MSG(REPORT,    41, ROLE_BROKER, 0, MSG_REPORT_FIELDS) \
	MSG(TRACE,     42, ROLE_BROKER, 1, MSG_TRACE_FIELDS) \
	MSG(RELAY,       50, ROLE_TLS, 0, MSG_RELAY_FIELDS) \
	MSG(TLS_ACCEPT,  51, ROLE_SESSION | ROLE_BROKER, 1, MSG_TLS_ACCEPT_FIELDS) \
	MSG(TLS_CONNECT, 52, ROLE_BROKER, 1, MSG_TLS_CONNECT_FIELDS) \
	MSG(TLS_READY,   53, ROLE_TLS | ROLE_BROKER, 1, MSG_TLS_READY_FIELDS) \
	MSG(TLS_FAILED,  54, ROLE_TLS | ROLE_BROKER, 0, MSG_TLS_FAILED_FIELDS) \
	MSG(TLS_STATE,   55, ROLE_TLS, 0, MSG_TLS_STATE_FIELDS) \
	MSG(TLS_BEGUN,   56, ROLE_TLS | ROLE_BROKER, 1, MSG_TLS_BEGUN_FIELDS)

#endif
