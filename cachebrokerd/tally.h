/* What a session says of itself: its last word, and the log lines that it cannot write. */
#ifndef CACHEBROKERD_TALLY_H
#define CACHEBROKERD_TALLY_H

#include "lib/span.h"

struct client;

/* The session's last word: why it ended (enum session_end), what use a mailbox left open was (enum
 * msg_select), what it moved, and its log line if it could not log. 0; -EPROTO for a second one, or
 * a reason or use that there is not. */
int tally_session(struct client *c, uint32_t reason, uint32_t use, uint64_t from_client,
		  uint64_t from_backend, struct span line);

/* A log line of the session's, under this name (of enum log_name). 0, or -EPROTO after too many of
 * them. */
int tally_line(struct client *c, uint32_t name, struct span line);

#endif
