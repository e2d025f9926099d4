/* The broker's own door, for sessions that have no listener. */
#ifndef CACHEBROKERD_DOORWAY_H
#define CACHEBROKERD_DOORWAY_H

#include "cachebrokerd/peer.h"

/* The name of its sending end in the supervisor's store. */
#define DOORWAY_NAME "doorway"

/* Goes on with the sending end that a broker before us stored (fd is taken over), or makes a door
 * if that is -1 or leads nowhere. There is none where nobody would keep it over our death. Behind
 * door_adopt() for all that were stored. */
void doorway_open(struct broker *b, int fd);

/* Gives a session that has just said HELLO the sending end (DOOR). */
void doorway_show(struct peer *session);

/* Lets go of the sending end: the door lasts as long as the sessions that have it. */
void doorway_leave(void);

#endif
