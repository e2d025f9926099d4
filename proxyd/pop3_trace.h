/* What of a session of POP3 may stand in a protocol log: all that both sides say but passwords,
 * what is no command of POP3, and messages. Pure.
 *
 * Of the mail host's bytes is known by the client's commands which belong to a message, and how
 * many answers are due. In doubt they are left out.
 */
#ifndef PROXYD_POP3_TRACE_H
#define PROXYD_POP3_TRACE_H

#include "lib/buf.h"

#define POP3_TRACE_DUE 64 /* answers that can be due; of further commands nothing is known */

/* One side's line, up to where it can be judged. */
struct pop3_trace_line {
	char head[5];
	uint8_t length; /* of it */
	bool judged, shown, more;
};

struct pop3_trace {
	struct pop3_trace_line client, server;
	uint8_t verb;	  /* of the client's line */
	uint8_t body;	  /* what the mail host's lines are now */
	bool deaf;	  /* the client must say a line before the mail host is understood */
	bool unsure;	  /* it may be in the middle of a message, from before we listened */
	uint64_t left_out; /* bytes of the mail host's, not told yet */
	size_t due_first, due_count;
	uint8_t due[POP3_TRACE_DUE];
};

/* Takes what may be seen, in pieces. */
typedef void pop3_trace_fn(struct span shown);

/* `fresh`: nothing was said behind the login. Else it is the middle of a session; `in_line`: of a
 * line of the client's, too. */
void pop3_trace_begin(struct pop3_trace *t, bool fresh, bool in_line);

/* Shows what may be seen of what the client, or the mail host, has said. */
void pop3_trace_client(struct pop3_trace *t, struct span bytes, pop3_trace_fn *show);
void pop3_trace_server(struct pop3_trace *t, struct span bytes, pop3_trace_fn *show);

/* Nothing more comes from the mail host: tells what was left out of its last words. */
void pop3_trace_end(struct pop3_trace *t, pop3_trace_fn *show);

#endif
