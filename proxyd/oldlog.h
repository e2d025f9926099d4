/* The old program's log lines (log_format imapproxy): what sites' own programs, fail2ban first of
 * all, look for. Where they are not wanted nothing here does anything.
 */
#ifndef PROXYD_OLDLOG_H
#define PROXYD_OLDLOG_H

#include "proxyd/session.h"

enum oldlog {
	OLDLOG_CREATING,     /* a login finds no connection to reuse */
	OLDLOG_NEW,	     /* it has gone well on a new one */
	OLDLOG_REUSED,	     /* or on one of before */
	OLDLOG_DEAD,	     /* the one of before turned out to be dead */
	OLDLOG_REFUSED,	     /* it failed: the mail host's words follow; */
	OLDLOG_REFUSED_HERE, /* the mail host has said so before, ours follow; */
	OLDLOG_NO_HOST,
	OLDLOG_NO_GREETING,
	OLDLOG_NO_PREAUTH,
	OLDLOG_NO_ANSWER,
	OLDLOG_NO_ROOM,
	OLDLOG_FAILED, /* why follows */
	OLDLOG_LOGOUT, /* a session is over */
	OLDLOG_CLOSED, /* a client has closed its connection without LOGOUT, */
	OLDLOG_DROPPED, /* and it was logged in */
	OLDLOG_BACKEND_CLOSED,
	OLDLOG_INVALIDATED, /* and its connection will not be reused */
};

/* Writes one line; `what` ends it, if the line has room for something foreign. */
void oldlog_write(struct session *s, enum oldlog which, struct span what);

/* Which line says that a login on this fresh connection failed. */
enum oldlog oldlog_failure(const struct backend *b);

/* Writes the lines of a session's end. */
void oldlog_end(struct session *s, enum session_end end);

#endif
