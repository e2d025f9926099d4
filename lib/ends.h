/* Why a session ended and why its backend connection was not cached: one row each, which feeds
 * the log line, the counters in the state file and the manual.
 *
 *	END(NAME, word, is_error, bye, meaning)	bye: the text of the client's BYE, or NULL
 *	NOT_CACHED(NAME, word, meaning)
 *
 * New rows go to the end: the numbers are in the messages.
 */
#ifndef LIB_ENDS_H
#define LIB_ENDS_H

#include <stdbool.h>

#define END_TABLE(END) \
	END(LOGOUT, "logout", 0, NULL, \
	    "The client logged out.") \
	END(CLIENT_CLOSED, "client-closed", 0, NULL, \
	    "The client closed without LOGOUT.") \
	END(CLIENT_LOST, "client-lost", 1, NULL, \
	    "The connection to the client broke.") \
	END(CLIENT_STUCK, "client-stuck", 1, NULL, \
	    "The client did not take its data in time.") \
	END(BACKEND_CLOSED, "backend-closed", 1, "[UNAVAILABLE] Mail host closed the connection", \
	    "The mail host closed the connection.") \
	END(BACKEND_LOST, "backend-lost", 1, "[UNAVAILABLE] Connection to the mail host was lost", \
	    "The connection to the mail host broke or stalled.") \
	END(BACKEND_ODD, "backend-odd", 1, "[UNAVAILABLE] Mail host does not speak IMAP", \
	    "The mail host sent what is not IMAP.") \
	END(LOGIN_TIMEOUT, "login-timeout", 1, "Login took too long", \
	    "No login within login_timeout.") \
	END(IDLE_TIMEOUT, "idle-timeout", 1, "Idle for too long", \
	    "No traffic within idle_timeout.") \
	END(TOO_MANY_ERRORS, "too-many-errors", 1, "Too many errors", \
	    "max_errors wrong commands before login.") \
	END(TOO_MANY_LOGINS, "too-many-logins", 1, "Too many failed logins", \
	    "login_attempts failed logins.") \
	END(TOO_MANY_CLIENTS, "too-many-clients", 1, "[UNAVAILABLE] Too many connections", \
	    "max_clients was reached.") \
	END(NO_BROKER, "no-broker", 1, "[UNAVAILABLE] Service is not available", \
	    "The broker could not be reached.") \
	END(ENDED, "ended", 0, "Session was ended", \
	    "The broker ended the session.") \
	END(SHUTDOWN, "shutdown", 0, "[UNAVAILABLE] Service is stopping", \
	    "The service was stopped.") \
	END(INTERNAL, "internal", 1, "[SERVERBUG] Internal error", \
	    "This process could not go on.") \
	END(PASSWORD_REFUSED, "password-refused", 1, "Password is not accepted any more", \
	    "The mail host refused the password when it was proven again.") \
	END(ADDRESS_REFUSED, "address-refused", 0, NULL, \
	    "Clients from that address may not connect: allow_addresses, deny_addresses.") \
	END(TLS_FAILED, "tls-failed", 1, NULL, \
	    "The TLS handshake with the client failed or took too long.") \
	END(TLS_UNAVAILABLE, "tls-unavailable", 1, NULL, \
	    "TLS could not be begun: no tlsrelayd, no certificate, or no room.") \
	END(TLS_INJECTED, "tls-injected", 1, "Nothing may be sent behind STARTTLS", \
	    "The client sent something behind STARTTLS without waiting for its answer.") \
	END(TOO_MANY_PER_IP, "too-many-per-ip", 1, \
	    "[UNAVAILABLE] Too many connections from your address", \
	    "max_per_ip was reached.") \
	END(PROXY_HEADER, "proxy-header", 1, NULL, \
	    "No PROXY header came from proxy_protocol_addresses, or a bad one.") \
	END(KICKED, "kicked", 0, "Session was ended by the administrator", \
	    "An administrator ended the user's sessions (pimpstat --kick).")

#define NOT_CACHED_TABLE(NOT_CACHED) \
	NOT_CACHED(NOTHING, "cached", "It was cached, or there was none.") \
	NOT_CACHED(OFF, "caching-off", "Caching is off.") \
	NOT_CACHED(BUSY, "busy", "A command was not finished.") \
	NOT_CACHED(PARTIAL, "partial", "A command or literal was sent only in part.") \
	NOT_CACHED(VERB, "verb", "A command leaves state that cannot be undone.") \
	NOT_CACHED(FINGERPRINT, "fingerprint", "What was enabled on it cannot be told again.") \
	NOT_CACHED(ODD, "odd", "Something on it was not understood.") \
	NOT_CACHED(RESET_FAILED, "reset-failed", "It did not pass reset and barrier.") \
	NOT_CACHED(BACKEND_GONE, "backend-gone", "The mail host closed or broke it.") \
	NOT_CACHED(NO_LEASE, "no-lease", "The broker that leased it is gone.") \
	NOT_CACHED(REFUSED, "refused", "The mail host refused the login.") \
	NOT_CACHED(POP3, "pop3", "It was one of POP3, where a session ends with its connection.")

enum session_end {
#define END_ENUM(name, ...) END_##name,
	END_TABLE(END_ENUM)
#undef END_ENUM
	END_COUNT,
};

enum not_cached {
#define NOT_CACHED_ENUM(name, ...) NOT_CACHED_##name,
	NOT_CACHED_TABLE(NOT_CACHED_ENUM)
#undef NOT_CACHED_ENUM
	NOT_CACHED_COUNT,
};

/* The word for logs and statistics; "?" for numbers behind the table. */
const char *end_word(unsigned end);
const char *not_cached_word(unsigned reason);

/* Is this end an error? */
bool end_is_error(unsigned end);

/* The text of the BYE for the client, or NULL when none is sent. */
const char *end_bye(unsigned end);

#endif
