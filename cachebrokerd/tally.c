/* Counting what sessions tell, and logging in their place: one that is locked up keeps the socket
 * to the logger that it began with, which leads nowhere when the logger has been restarted.
 */
#include "cachebrokerd/tally.h"

#include <errno.h>

#include "cachebrokerd/client.h"
#include "lib/ends.h"
#include "lib/log.h"

#define LINES_MOST 100 /* no session fails to log in more often */

int tally_session(struct client *c, uint32_t reason, uint32_t use, uint64_t from_client,
		  uint64_t from_backend, struct span line)
{
	struct state *state = c->broker->state;

	if (c->counted || reason >= END_COUNT || use > SELECT_MISS)
		return -EPROTO;
	c->counted = true;
	if (use != SELECT_NONE)
		state_count(state, use == SELECT_HIT ? COUNTER_select_hits : COUNTER_select_misses,
			    1);
	state_count_end(state, reason);
	state_count(state, COUNTER_bytes_from_clients, from_client);
	state_count(state, COUNTER_bytes_from_backends, from_backend);
	if (line.n > 0)
		(void)log_write(LOG_INFO, line);
	return 0;
}

int tally_line(struct client *c, uint32_t name, struct span line)
{
	if (++c->lines > LINES_MOST || name >= LOG_NAME_COUNT)
		return -EPROTO;
	(void)log_write_as((enum log_name)name, name == LOG_NAME_OWN ? LOG_NOTICE : LOG_INFO, line);
	return 0;
}
