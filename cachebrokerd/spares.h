/* Spares: connections to a mail host that wait for a login (spare_backend_connections), TLS done
 * and greeting read, so that a fresh login takes one round trip.
 */
#ifndef CACHEBROKERD_SPARES_H
#define CACHEBROKERD_SPARES_H

#include <stdbool.h>
#include <stdint.h>

struct broker;
struct host;
struct spare;

/* A host's; zero to begin with. */
struct spares {
	struct spare *ready;  /* the oldest first */
	struct spare *making; /* at most one; it counts, too */
	unsigned ready_count;
	unsigned failures;   /* since one was of use */
	int64_t pause_until; /* monotonic ms: no further one before */
	int64_t used;	     /* the last LEASE for this host; 0: never */
};

/* Closes what is too old, and begins to make what is missing: for hosts that had a login in the
 * last minutes, one at a time, with room for logins left. Call it now and then. */
void spares_tick(struct broker *b);

/* Takes the newest usable one: *ret_fd and *ret_offered (the mail host's capability list before
 * login; free() it) are the caller's. False: there is none. */
bool spares_take(struct host *h, int *ret_fd, char **ret_offered);

/* One that was taken turned out to be dead: so are the others, most likely. */
void spares_died(struct host *h);

/* Closes one of the host, or with NULL of any, to make room. False: there is none. */
bool spares_drop(struct broker *b, const struct host *h);

/* Closes all. */
void spares_flush(struct host *h);
void spares_flush_all(struct broker *b);

/* How many count as connections to the host; and how many wait, of all hosts. */
unsigned spares_count(const struct host *h);
unsigned spares_ready(const struct broker *b);

#endif
