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
#include "proxyd/link.h"

/* "Go on": no reason to end. */
#define END_NONE END_COUNT

#define SESSION_USER_MAX   255	/* of a user name, in bytes */
#define SESSION_SECRET_MAX 8191 /* of a password */
#define BACKEND_USER_MAX   512	/* of a login name at the mail host */
#define SESSION_ID_MAX	   2048 /* of what ID said before login */
#define SESSION_LIST_MAX   4096 /* of a mail host's capability list */

/* What the client proved itself with; wiped as soon as the backend has judged it. */
struct credentials {
	char user[SESSION_USER_MAX];
	char authzid[SESSION_USER_MAX];
	char secret[SESSION_SECRET_MAX];
	size_t user_length, authzid_length, secret_length;
	bool sasl; /* by AUTHENTICATE: decides the text of the answer */
};

/* The backend connection of this session. */
struct backend {
	int fd; /* -1: none */
	bool cached;
	bool leased; /* the broker that leased it still knows the lease */
	uint32_t port;
	char host[256];
	char user[BACKEND_USER_MAX]; /* login name at the mail host */
	size_t user_length;
	char capabilities[SESSION_LIST_MAX]; /* after login, as the mail host lists them */
	size_t capabilities_length;
	bool capabilities_stale; /* they are those before login */
	struct buf in;		 /* read and not yet dealt with */
	size_t taken;		 /* of it: the response that is being dealt with */
};

struct session {
	int client;
	struct link link;
	struct msg_HELLO hello;
	struct msg_WELCOME settings; /* texts below */
	char hide_capabilities[1001];
	char safe_commands[1001];
	char chroot_directory[256];

	struct buf in;			  /* from the client, not yet dealt with */
	size_t command_line, command_end; /* in it: the last line of the command before login */
	char id[SESSION_ID_MAX];	  /* the arguments of ID before login */
	size_t id_length;
	bool locked_up;	       /* in the jail: client bytes may be read */
	bool asked_capability; /* CAPABILITY was used before login */
	struct credentials credentials;
	struct backend backend;

	int64_t started;   /* monotonic ms */
	int64_t rejoin_at; /* when to look for a broker again; 0: there is one, or never */
	char user[SESSION_USER_MAX]; /* logged in as */
	size_t user_length;
	uint64_t from_client, from_backend;
	enum not_cached not_cached;
};

/* Serves the connected client socket until its end: takes over fd. hello says where the client came
 * in; its texts must live as long. Returns the process's exit status. */
int session_run(int client, struct link *link, const struct msg_HELLO *hello);

/* Says HELLO and takes the settings. END_NONE or the reason to end. */
enum session_end session_hello(struct session *s);

/* Meets a new broker after the old one's death, where there is a door. END_NONE, or END_NO_BROKER,
 * also when there will never be one, or END_SHUTDOWN. */
enum session_end session_meet_again(struct session *s);

/* The same in the middle of a session: never waits. The broker's answer comes as a push; when there
 * is no room in the door, s->rejoin_at says when to call this again. Where there will never be a
 * broker the session goes on without. END_NONE or END_SHUTDOWN. */
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
 * LOGIN_OVER: *ret_end says why the session ends. The credentials are wiped in any case. */
enum login_result login_try(struct session *s, struct span tag, enum session_end *ret_end);

/* Relays until the end; says goodbye and gives the backend connection back where that is allowed.
 */
enum session_end relay_run(struct session *s);

#endif
