/* One client connection: the data that its steps share, and the steps.
 *
 * session.c leads: hello, greeting, login (prelogin.c, login.c), relay (relay.c), goodbye
 * (giveback.c). Each step returns the reason of the session's end, or END_NONE to go on.
 */
#ifndef PROXYD_SESSION_H
#define PROXYD_SESSION_H

#include "lib/buf.h"
#include "lib/ends.h"
#include "lib/msg.h"
#include "proxyd/caller.h"
#include "proxyd/link.h"
#include "proxyd/offer.h"
#include "proxyd/selectcache.h"

/* "Go on": no reason to end. */
#define END_NONE END_COUNT

#define SESSION_USER_MAX   255	/* of a user name, in bytes */
#define SESSION_SECRET_MAX 8191 /* of a password or a token */
#define BACKEND_USER_MAX   512	/* of a login name at the mail host */
#define SESSION_ID_MAX	   2048 /* of what ID said before login */
#define SESSION_LIST_MAX   4096 /* of a mail host's capability list */
#define SESSION_SASL_LINE  12288 /* of a line with a token in base64, whatever max_line_login is */
#define BACKEND_SAID_MAX   200	/* of a mail host's refusal */

/* What the client proved itself with; wiped as soon as the backend has judged it. */
struct credentials {
	size_t user_length, authzid_length, secret_length;
	size_t secret_touched; /* so many bytes of it have ever been written */
	enum msg_proof kind;   /* what the secret is */
	uint32_t refusal;      /* of enum msg_refusal: the client was challenged and not verified;
				* the secret is why, for the log. 0: not that */
	bool sasl;	       /* by AUTHENTICATE: decides the text of the answer */
	struct span mechanism; /* then: its name, static */
	char user[SESSION_USER_MAX];
	char authzid[SESSION_USER_MAX];
	char secret[SESSION_SECRET_MAX];
};

/* What the broker said with WELCOME, and its texts. */
struct session_settings {
	struct msg_WELCOME values;
	char hide_capabilities[1000];
	char safe_commands[1000];
	char allow_addresses[1000];
	char deny_addresses[1000];
	char proxy_protocol_addresses[1000];
	char trusted_addresses[1000];
	char plaintext_addresses[1000];
	char chroot_directory[256];
};

/* Which good answer the mail host owes a login that failed; the last two: to USER and PASS of POP3,
 * which it has refused. */
enum backend_unheard {
	HEARD_ALL,
	UNHEARD_GREETING,
	UNHEARD_PREAUTH,
	UNHEARD_LOGIN,
	UNHEARD_USER,
	UNHEARD_PASS,
};

/* The backend connection of this session. */
struct backend {
	int fd; /* -1: none */
	bool cached;
	bool made;		 /* for this client: no reuse, though it is cached */
	bool promise;		 /* the client may be told XPROXYREUSE */
	bool greeted;		 /* a fresh one whose greeting is gone, */
	bool spare;		 /* since it has waited for this login; */
	bool lost;		 /* it was closed before the mail host judged the login */
	bool leased;		 /* the broker that leased it still knows the lease */
	bool examined;		 /* a mailbox was left open on it: session_mailbox.kept */
	bool tells;		 /* a fresh one's mail host is told who is calling */
	bool capabilities_stale; /* they are those before login */
	uint32_t port;
	struct buf in; /* read and not yet dealt with */
	size_t taken;  /* of it: the response that is being dealt with */
	size_t user_length, capabilities_length, preauth_length;
	struct span challenge; /* its report why it refuses a token, base64; until the next login */
	struct span notices;   /* lines that it said to the user while he logged in, not told yet */
	char host[256];
	char user[BACKEND_USER_MAX];	     /* login name at the mail host */
	char capabilities[SESSION_LIST_MAX]; /* after login, as the mail host lists them */
	char preauth[1000];		     /* a command that comes before the login */
	enum backend_unheard unheard;
	size_t said_length;
	char said[BACKEND_SAID_MAX]; /* its refusal of a login, in its own words, for the log */
};

/* What is turned on on a connection that is given back, or that is not. */
struct session_marks {
	size_t fingerprint_length;
	struct span opening; /* in the relay's memory, which lives as long as the process */
	char fingerprint[FINGERPRINT_MAX];
};

/* The mailbox that is or shall be left open on the connection. Few sessions touch it. */
struct session_mailbox {
	struct select_text kept; /* over text */
	size_t wish_length;
	char wish[SELECT_NAME]; /* the name that the client's first command opened */
	char text[SELECT_TEXT];
};

/* What the client's stream is. */
enum session_stream {
	STREAM_CLEAR,	/* clear text over its connection, */
	STREAM_TLS_DUE, /* which is to begin with TLS: nothing may be said on it, */
	STREAM_TLS,	/* or what is inside of TLS */
};

/* What most sessions touch stands in front: each further page costs a fault and 4 KiB. */
struct session {
	int client; /* -1: handed over to tlsrelayd */
	enum session_stream stream;
	bool locked_up;	       /* in the jail: client bytes may be read */
	bool asked_capability; /* CAPABILITY was used before login */
	bool giving;	       /* the backend connection is ready to be given back */
	bool said_all;	       /* the client has our end of the stream */
	bool utf8;	       /* it has said UTF8 (POP3) */
	bool announced;	       /* its addresses are what a PROXY header says */
	bool implicit_tls;     /* it began with TLS */
	bool wishes;	       /* mailbox->wish is to be left open, */
	bool keeps;	       /* and mailbox->kept is what is kept of it */
	enum msg_select select_use;
	struct session_mailbox *mailbox;
	bool traced;	       /* see tracer.h */
	struct link link;
	struct msg_HELLO hello;
	const struct msg_WELCOME *settings;
	uint64_t id; /* the broker's number of this session; 0: not known */
	uint64_t apop; /* and of the challenge in its greeting; 0: there is none */

	struct buf in;			  /* from the client, not yet dealt with */
	size_t command_line, command_end; /* in it: the last line of the command before login */

	int64_t started;     /* monotonic ms */
	int64_t offer_until; /* so long may a connection be only offered */
	int64_t rejoin_at;   /* when to look for a broker again; 0: there is one, or never */
	uint64_t from_client, from_backend; /* behind the login */
	uint64_t heard, told;		    /* bytes of the client's and our own in front of it */
	enum not_cached not_cached;
	size_t user_length, id_length;
	char user[SESSION_USER_MAX]; /* logged in as */
	struct caller_said said;     /* whom it says it serves: nobody, if it is not trusted */
	struct session_marks marks;  /* when it is over */
	struct offer offer; /* if its connection is only offered; its credentials are kept then */
	struct backend backend;
	struct credentials credentials;
	char id_arguments[SESSION_ID_MAX]; /* of ID before login */
	struct session_settings own_settings;
};

/* What a session begins with. */
struct session_start {
	int client;		/* connected; taken over */
	struct link link;	/* with a door, or with nothing yet */
	const char *broker_path; /* where to connect to, where there is no door */
	struct msg_HELLO hello; /* where the client came in; its texts live as long */
	/* NULL: a process of its own for one connection. Else this is a listener's child, jailed,
	 * and meets the broker through the door. */
	const struct session_settings *settings;
	bool tls;     /* the client begins with TLS */
	bool crowded; /* the broker may have no room: ask before the client is greeted */
};

/* Serves a client until its end. Returns the process's exit status. */
int session_run(const struct session_start *start);

/* Copies settings and their texts. */
void session_copy_settings(struct session_settings *to, const struct msg_WELCOME *from);

/* Meets the broker, or a new one after the old one's death, where there is a door. END_NONE, or
 * END_NO_BROKER, also when there will never be one, or END_SHUTDOWN. */
enum session_end session_meet(struct session *s);

/* The same in the middle of a session: never waits. When there is no room in the door, s->rejoin_at
 * says when to call this again. Where there will never be a broker the session goes on without.
 * END_NONE or END_SHUTDOWN. */
enum session_end session_rejoin(struct session *s);

/* Overwrites what the client proved itself with. */
void session_wipe_credentials(struct session *s);

/* The reason of a session that the broker told to end. */
enum session_end session_told_to_end(const struct session *s);

/* Waits for the client, watching the link: fills s->in. END_NONE, or the reason to end. */
enum session_end session_read_client(struct session *s, int64_t deadline,
				     enum session_end on_timeout);

/* Tells the client with BYE why the session ends, if this end has a text. Never waits. */
void session_say_bye(struct session *s, enum session_end end);

/* Tells the client the last thing; its stream ends with it. */
void session_tell_last(struct session *s, struct span text);

/* Writes to the client. END_NONE, END_CLIENT_LOST or END_CLIENT_STUCK. */
enum session_end session_tell(struct session *s, struct span text);

/* The dialogue until a login succeeded: END_NONE, then s->backend is ready and the client has its
 * OK. */
enum session_end prelogin_run(struct session *s);

/* Greets the client. */
enum session_end prelogin_greet(struct session *s);

/* How one login went. */
enum login_result { LOGIN_OK, LOGIN_REFUSED, LOGIN_OVER };

/* Tries the credentials: a cached connection, or a new one. The client gets its tagged answer.
 * LOGIN_OVER: *ret_end says why the session ends. The credentials are wiped, unless a connection is
 * reused: then the relay does that at its first response (login_again()), or, when it is only
 * offered (s->offer), once that is decided. */
enum login_result login_try(struct session *s, struct span tag, enum session_end *ret_end);

/* Asks the broker for a lease with the credentials; meets a new broker when the old one died
 * meanwhile, as often as it takes. END_NONE, then the reply and its descriptor, the caller's; or
 * why the session ends. */
enum session_end login_request_lease(struct session *s, bool plain, struct msg *reply, int *ret_fd);

/* The connection of this lease is the session's, fd with it. */
void login_take_lease(struct session *s, const struct msg_LEASED *leased, int fd);

/* The reused connection, which is plain, died before its first response: takes another plain one,
 * cached or fresh, with the credentials, which are wiped in any case. The client hears nothing of
 * it. False: there is none.
 */
bool login_again(struct session *s);

/* The client has turned on what is turned on on the offered connection, or leaves: it is its own.
 * The credentials are wiped. */
void login_keep(struct session *s);

/* The offered connection goes back, if it is `untouched`, and a plain one takes its place, on which
 * the client's commands so far are repeated. The client hears nothing of it. The credentials are
 * wiped, unless that one is reused and nothing was said on it. END_NONE, or the session's end. */
enum session_end login_exchange(struct session *s, bool untouched);

/* Relays until the end; says goodbye and gives the backend connection back where that is allowed.
 */
enum session_end relay_run(struct session *s);

#endif
