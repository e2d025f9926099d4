/* A planned restart (SIGTERM): the cache, the sessions' sockets and what is known of both are left
 * with the supervisor, and our successor goes on with them (pack.h).
 */
#ifndef CACHEBROKERD_RESTART_H
#define CACHEBROKERD_RESTART_H

#include "cachebrokerd/broker.h"

/* The names of what is stored: the descriptors in flight, and the text with the key. */
#define RESTART_SOCKETS "pack"
#define RESTART_TEXT	"packkey"

/* Leaves all that with the supervisor and ends the loop, perhaps in a moment: when what cannot be
 * asked for twice is answered. Without a supervisor, or while the broker stops or retires, it just
 * ends the loop. */
void restart_begin(struct broker *b);

/* Something else is wanted than the restart that has begun (a stop; the supervisor is dead, and
 * with it the store): everybody is heard again. */
void restart_cancel(struct broker *b);

/* Goes on with what a broker before us has left in these two descriptors, which are taken over (-1:
 * there are none), and takes it out of the supervisor's store. What cannot be used is dropped, all
 * of it if it is of another version. Call it before the first client is heard. */
void restart_take(struct broker *b, int sockets, int text);

#endif
