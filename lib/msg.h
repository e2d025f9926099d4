/* The codec of the local messages: SOCK_SEQPACKET datagrams between our own programs.
 *
 * One message is one datagram: 8 bytes of header (version, type, 2 zero bytes, serial), then the
 * fields of its row in msg_table.h, each number 4 or 8 bytes and each text a 2-byte length and
 * its bytes, in the machine's own byte order, since both ends are on one machine. Pure: no
 * sockets here.
 */
#ifndef LIB_MSG_H
#define LIB_MSG_H

#include "lib/msg_table.h"
#include "lib/span.h"

/* Raised with every change of msg_table.h: both ends must be of one build. */
#define MSG_VERSION 18

/* No message is longer. */
#define MSG_MAX 12800

/* A peer's role is the socket it came in by, nothing it says. */
enum msg_role {
	ROLE_BROKER = 1,
	ROLE_SESSION = 2,
	ROLE_LISTENER = 4,
	ROLE_DOOR = 8,
	ROLE_LOOKUP = 16,
	ROLE_ERRAND = 32,
	ROLE_ADMIN = 64,
	ROLE_TLS = 128,
};

/* What a client speaks, and so what is spoken with the mail host. */
enum msg_service { SERVICE_IMAP = 1, SERVICE_POP3 };

/* What a client proves itself with. The kind is part of the proof: the same bytes as a password and
 * as a token, or by another mechanism, are another proof. */
enum msg_proof {
	PROOF_PASSWORD = 1,
	PROOF_XOAUTH2,
	PROOF_OAUTHBEARER,
	PROOF_VERIFIED, /* nothing: lookupd has verified the client (AUTH_STEP) */
	PROOF_EXTERNAL, /* nothing: tlsrelayd has, by its certificate */
};

enum msg_refusal {
	REFUSAL_UNAVAILABLE = 1, /* no mail host, no directory: try again later */
	REFUSAL_UNKNOWN,	 /* the directory does not know this account */
	REFUSAL_LIMIT,		 /* too many connections */
	REFUSAL_ATTEMPTS,	 /* too many logins on one client connection */
	REFUSAL_SHUTDOWN,
	REFUSAL_PASSWORD, /* the directory, or the mail host when it was proven again, refused it */
	REFUSAL_ADDRESS,  /* who comes from there may not connect */
	REFUSAL_SECRET,	  /* the client's password is not auth_shared_secret */
	REFUSAL_ROOM,	  /* cache_size connections are in use */
	REFUSAL_PER_IP,	  /* the client's address has max_per_ip connections */
	REFUSAL_AGAIN,	  /* none: the broker is restarted; the same request once more */
};

enum msg_outcome {
	OUTCOME_ACCEPTED = 1, /* the backend accepted the login */
	OUTCOME_REFUSED,      /* the backend refused it */
	OUTCOME_FAILED,	      /* no verdict: it was silent, broken or not available */
	OUTCOME_STALE,	      /* a cached connection turned out to be dead */
	OUTCOME_LIMIT,	      /* the backend has too many connections of this user */
};

/* What a mailbox that was left open on a reused connection was good for. */
enum msg_select {
	SELECT_NONE, /* there was none, or the client said nothing */
	SELECT_HIT,  /* the client opened it in the same way and was answered with what was kept */
	SELECT_MISS, /* there was news, or the client wanted something else */
};

enum msg_account {
	ACCOUNT_FOUND = 1,
	ACCOUNT_UNKNOWN,
	ACCOUNT_UNAVAILABLE,
	ACCOUNT_REFUSED, /* it is known, and `secret` is not its password */
};

/* What is asked about an account besides where it is. */
enum msg_check {
	CHECK_NOTHING,
	CHECK_PASSWORD, /* is `secret` its password? */
	CHECK_VERIFIED, /* its client is verified: its clear password is wanted */
};

/* How a challenged client stands. */
enum msg_auth {
	AUTH_CONTINUES = 1, /* `data` is for the other side, which answers */
	AUTH_ACCEPTED,	    /* verified; `data` (it may be empty) is the last the client is told */
	AUTH_REFUSED,
	AUTH_UNAVAILABLE, /* it cannot be judged now */
};

enum msg_job { JOB_LOGOUT = 1, JOB_LOGIN, JOB_GREET };

enum msg_done {
	DONE_WELL = 1,
	DONE_BADLY,   /* the mail host was silent, broke off or said something else */
	DONE_REFUSED, /* it says that this password is wrong, or not allowed any more */
};

/* Which program's log lines are wanted beside our own (log_format). */
enum msg_old_log { OLD_LOG_NONE, OLD_LOG_IMAPPROXY, OLD_LOG_COURIER };

enum msg_tls_failure {
	TLS_UNAVAILABLE = 1, /* no tlsrelayd, or it has no room */
	TLS_HANDSHAKE,	     /* the other end did not agree, or broke off */
	TLS_CERTIFICATE,     /* it could not be verified */
	TLS_REFUSED,	     /* the mail host did not say OK to STARTTLS */
	TLS_INJECTED,	     /* plain text behind that OK: somebody is in between */
	TLS_TIMEOUT,
	TLS_LOST,      /* the process that carried it has died */
	TLS_UNWATCHED, /* tlsrelayd has died: what TLS_BEGUN brought may go on by itself */
};

enum msg_admin {
	ADMIN_VERSION = 1, /* nothing but whether this session may ask */
	ADMIN_DUMP,	   /* lines of sessions and cached connections */
	ADMIN_NEWLOG,	   /* empty the protocol log */
	ADMIN_RESET,	   /* counters and peaks */
	ADMIN_TRACE,	   /* the one user of XPROXY_TRACE; an empty argument: none */
	/* over the admin socket only, for any number of users: */
	ADMIN_TRACE_USER,
	ADMIN_UNTRACE_USER,
	ADMIN_TRACED, /* lines of them */
	ADMIN_DRAIN, /* a mail host: no new sessions, its cached connections are closed, others stay
		      */
	ADMIN_PAUSE, /* a mail host: logins are refused until RESUME; nothing is closed */
	ADMIN_RESUME,
	ADMIN_FLUSH_HOST, /* closes a mail host's cached connections */
	ADMIN_FLUSH_USER, /* a user's, and forgets what is known of the account */
	ADMIN_KICK_USER,  /* the same, and ends his sessions */
};

enum msg_report {
	REPORT_DONE = 1,
	REPORT_DENIED, /* not from there */
	REPORT_TAKEN,  /* another user is traced by XPROXY_TRACE: `text` */
	REPORT_FAILED, /* `text` says why, for people */
};

enum msg_type {
#define MSG_ENUM(name, number, ...) MSG_##name = number,
	MSG_TABLE(MSG_ENUM)
#undef MSG_ENUM
};

/* struct msg_HELLO and so on: a text is a span that borrows the datagram's bytes. */
#define MSG_MEMBER_U32(N, name)		  uint32_t name;
#define MSG_MEMBER_U64(N, name)		  uint64_t name;
#define MSG_MEMBER_TEXT(N, name, longest) struct span name;
#define MSG_STRUCT(name, number, senders, descriptors, FIELDS) \
	struct msg_##name { \
		FIELDS(name, MSG_MEMBER_U32, MSG_MEMBER_U64, MSG_MEMBER_TEXT) \
	};
MSG_TABLE(MSG_STRUCT)
#undef MSG_STRUCT

/* One decoded message. */
struct msg {
	enum msg_type type;
	uint32_t serial; /* a reply repeats its request's; 0 is a push */
	union {
#define MSG_UNION(name, ...) struct msg_##name name;
		MSG_TABLE(MSG_UNION)
#undef MSG_UNION
	};
};

/* Encodes m into data (MSG_MAX bytes are enough for any). Returns the length, -ENOBUFS for a text
 * longer than its row allows or without room (then data has a part of it), -EINVAL for an unknown
 * type. */
int msg_encode(const struct msg *m, char *data, size_t cap);

/* Decodes a datagram from a peer of this role that came with so many descriptors. m's texts borrow
 * data. Returns 0; -EPROTONOSUPPORT for another version; -EPERM for a type that this role may not
 * send; -EBADMSG for anything else that is not exactly one well-formed message. */
int msg_decode(struct span data, enum msg_role sender, unsigned descriptors, struct msg *m);

/* How many descriptors a message of this type carries. */
unsigned msg_descriptors(enum msg_type type);

/* The service's name, as directories know it: "imap" or "pop3"; NULL for none of ours. */
const char *msg_service_name(uint32_t service);

/* The type's name, for logs; "?" for none of ours. */
const char *msg_name(enum msg_type type);

#endif
