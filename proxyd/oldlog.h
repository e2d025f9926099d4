/* The log lines of the programs whose place we take (log_format): what sites' own programs,
 * fail2ban first of all, look for. Where they are not wanted nothing here does anything.
 */
#ifndef PROXYD_OLDLOG_H
#define PROXYD_OLDLOG_H

#include "proxyd/session.h"

/* What happens. Not every format has a line for each. */
enum oldlog {
	OLDLOG_CONNECTED,    /* a client is there */
	OLDLOG_CREATING,     /* a login finds no connection to reuse */
	OLDLOG_NEW,	     /* it has gone well on a new one */
	OLDLOG_REUSED,	     /* or on one of before */
	OLDLOG_DEAD,	     /* the one of before turned out to be dead */
	OLDLOG_REFUSED,	     /* it failed: the mail host's words follow; */
	OLDLOG_REFUSED_USER, /* the same with POP3's USER, */
	OLDLOG_REFUSED_PASS, /* and its PASS */
	OLDLOG_REFUSED_HERE, /* the mail host has said so before, ours follow; */
	OLDLOG_NO_HOST,
	OLDLOG_NO_GREETING,
	OLDLOG_NO_PREAUTH,
	OLDLOG_NO_ANSWER,
	OLDLOG_NO_ROOM,
	OLDLOG_FAILED, /* why follows */
	OLDLOG_DENIED, /* behind each of these: the client's credentials are wrong, */
	OLDLOG_TROUBLE, /* or nobody knows: why follows */
	OLDLOG_LOGOUT, /* a session is over */
	OLDLOG_CLOSED, /* a client has closed its connection without LOGOUT, */
	OLDLOG_DROPPED, /* and it was logged in */
	OLDLOG_BACKEND_CLOSED,
	OLDLOG_INVALIDATED, /* and its connection will not be reused */
	OLDLOG_LEFT,	    /* a session is over without LOGOUT, */
	OLDLOG_IDLE,	    /* by idle_timeout, */
	OLDLOG_STOPPED,	    /* or by the service's end */
	OLDLOG_QUIT_EARLY,  /* a client that was not logged in said LOGOUT, */
	OLDLOG_LEFT_EARLY,  /* or is gone */
	OLDLOG_COUNT,
};

/* Writes one line; `what` ends it, if the line has room for something foreign. */
void oldlog_write(struct session *s, enum oldlog which, struct span what);

/* Which line says that a login on this fresh connection failed. */
enum oldlog oldlog_failure(const struct backend *b);

/* A login failed: writes that line, with `what`, and whether the credentials are to blame, which
 * the response code says (of RFC 5530; empty: none). */
void oldlog_failed(struct session *s, enum oldlog which, const char *code, struct span what);

/* Writes the lines of a session's end. */
void oldlog_end(struct session *s, enum session_end end);

#endif
