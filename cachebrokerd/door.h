/* Listeners and the doors through which their children's sockets come. */
#ifndef CACHEBROKERD_DOOR_H
#define CACHEBROKERD_DOOR_H

#include "cachebrokerd/peer.h"

/* The role of listeners, for peer_listen(). */
extern const struct peer_kind door_listener_kind;
void door_listener_new(struct peer *p);

/* Where a listener's sockets are (LISTENER): ADDRESS/PORT, with blanks between them. */
struct span door_places(const struct peer *listener);

/* Takes over the receiving end of a door that a broker before us stored under this name. 0 or
 * -errno. */
int door_adopt(struct broker *b, int fd, const char *name);

/* Is there a door whose sending end has this SO_COOKIE? */
bool door_leads_from(uint64_t sending_end);

/* Makes a door of our own: 0 with its sending end, the caller's, or -errno. */
int door_make(struct broker *b, int *ret_sending);

/* Leaves all listeners and doors to another broker, which they will look for. */
void door_leave_all(struct broker *b);

/* Has any door still a process behind it? */
bool door_is_open(void);

/* No knock is let in any more: what is brought waits for our successor. */
void door_hold(void);

/* That is over. */
void door_release(void);

/* A listener was here, or with the broker before us: it, or the next one, comes in a moment. */
void door_await_listener(struct broker *b);

/* If that moment is over, whoever waits for a listener hears of it. Call it now and then. */
void door_await_no_more(struct broker *b);

/* Lets sessions in again through doors that had been closed because the house was full. Call it now
 * and then. */
void door_reopen(void);

/* Tells every listener how many spare processes it shall keep, after a reload. */
void door_tell_pools(struct broker *b);

#endif
