/* Who is traced, and his sessions: joins them to the protocol log, at their login or in their
 * middle. */
#ifndef CACHEBROKERD_TRACING_H
#define CACHEBROKERD_TRACING_H

#include "cachebrokerd/client.h"
#include "lib/buf.h"
#include "lib/statefile.h"

struct tracing;

/* Takes over whom the state file names. NULL: no memory. */
struct tracing *tracing_new(struct broker *b);

/* NULL is allowed. What the sessions have said so far is written. */
void tracing_free(struct tracing *t);

/* A session has its connection, or goes on with one of before: if its user is traced, it is sent
 * the socket for that. Call it right before LEASED. */
void tracing_join(struct client *c);

/* Its login failed, or it is gone. */
void tracing_leave(struct client *c);

/* What became of a request: 0 or -errno. */
typedef void tracing_done_fn(void *context, int result);

/* Traces the user from now on, for XPROXY_TRACE or for the admin socket. Returns 0, and done() is
 * called later; 1: done already, he was traced; or -errno (-ENOSPC: too many users), and done() is
 * not called. */
int tracing_start(struct tracing *t, struct span user, enum statefile_trace_by by,
		  tracing_done_fn *done, void *context);

/* Ends it: what XPROXY_TRACE began only, or all of it. An empty user is the one of XPROXY_TRACE.
 * Returns as tracing_start(); -ENOENT: he is not traced. */
int tracing_stop(struct tracing *t, struct span user, enum statefile_trace_by by,
		 tracing_done_fn *done, void *context);

/* The user of XPROXY_TRACE; empty: none. Valid until the next call. */
struct span tracing_user(struct tracing *t);

/* Empties the log. Returns as tracing_start(). */
int tracing_clear(struct tracing *t, tracing_done_fn *done, void *context);

/* Appends "user since by" lines, in buf's bounds, from row number `from` on. Returns the number of
 * the row to go on with, 0 at the end. */
size_t tracing_list(struct tracing *t, size_t from, struct buf *out);

#endif
