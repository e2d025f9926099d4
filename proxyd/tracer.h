/* A traced session's side of the protocol log: what client and mail host say goes to the log's
 * writer in whole lines (lib/trace.h).
 *
 * Nothing of this is called in a session that is not traced: the caller asks its own flag first,
 * which tracer_begin() sets and the end clears.
 */
#ifndef PROXYD_TRACER_H
#define PROXYD_TRACER_H

#include "proxyd/elide.h"

/* From now on *traced, and to this socket, which is taken over; an earlier one is closed. */
void tracer_begin(int sock, bool *traced);

/* The client's piece that the follower has taken (elide.h). tracer_flush() sends it. */
void tracer_client(const struct elide_point *before, const struct follow *f, struct span piece);

/* What of the client's bytes may be seen, where somebody else has judged that (POP3). */
void tracer_said(struct span shown);

/* What the mail host has sent, as it came. */
void tracer_server(struct span bytes);

/* What the proxy itself has answered: told behind the client's line, which may be shown later, with
 * the tracer_flush() that leaves none of it, before the mail host's words, or at the end. */
void tracer_proxy(struct span bytes);

/* The client's LOGOUT, which is not passed on. */
void tracer_logout(struct span line);

/* Sends what there is of whole lines, or all. */
void tracer_flush(bool all);

/* Nothing has come for a while: sends all there is, and gives memory back. */
void tracer_rest(void);

/* Sends what is left and closes the socket. */
void tracer_end(void);

#endif
