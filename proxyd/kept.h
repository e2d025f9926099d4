/* A mailbox that is left open on an idle connection: what is said to the mail host about it
 * (selectcache.h has the rules of what is kept). */
#ifndef PROXYD_KEPT_H
#define PROXYD_KEPT_H

#include "proxyd/session.h"

/* The session's connection may be given back with the mailbox open that its client's first command
 * opened. */
bool kept_is_wanted(const struct session *s);

/* Opens that mailbox anew, as a fresh session would, and keeps the answer for the next one. All of
 * the barrier is in it. *ret_kept: it can be told again; else the mailbox must be closed.
 * `selected`: one is or may be open. 0 or -errno: the connection cannot be given back. */
int kept_open(struct session *s, bool selected, bool *ret_kept);

/* Is everything in the leased connection's mailbox as it was when the answer was kept? 0 and
 * *ret_same, or -errno: the connection is of no use. */
int kept_ask(struct session *s, bool *ret_same);

/* Closes the leased connection's mailbox: it is as after a login. 0 or -errno. */
int kept_close(struct session *s);

/* Proves the leased connection like backend_prove(), and closes its mailbox if there was news. 0 or
 * -errno. */
int kept_prove(struct session *s);

#endif
