/* The login attempts that a process has used, whatever the number of sockets it came in by. Pure:
 * the time and the look at a process's age are arguments.
 *
 * Each socket has its count (client.h). But a child of the listener that has been taken over can
 * put one socket after the other through the door; the kernel says which process made each
 * (SO_PEERCRED), and that cannot be forged in the jail.
 */
#ifndef CACHEBROKERD_TRIES_H
#define CACHEBROKERD_TRIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define TRIES_SLOTS	 4096	/* processes remembered; a newer one takes the place of an older */
#define TRIES_ALL	 65535u /* used up, whatever login_attempts is */
#define TRIES_BELIEVE_MS 600000 /* for so long a pid is taken for the same process unseen */
#define TRIES_TICK_MS	 10	/* so exact is a process's start known */

struct tries;

/* When did this process start, in ms since the machine did? Negative: that cannot be seen. */
typedef int64_t tries_started_fn(pid_t pid);

/* What is remembered besides: it asked for TLS with its client, and once more; a spare connection
 * of its was dead. */
enum tries_deed { TRIES_TLS = 1, TRIES_DEAD_SPARE = 2, TRIES_TLS_AGAIN = 4 };

/* One socket of a process. All zero: it is not counted (it did not come through a door). */
struct tries_visit {
	pid_t pid;
	uint64_t number;
};

/* NULL: no memory. now: ms since the machine started. */
struct tries *tries_new(tries_started_fn *started, int64_t now);
void tries_free(struct tries *t);

/* A process brings a socket, now (ms since the machine started). Returns how many attempts it has
 * used before and sets *ret, or -EBUSY: an earlier socket of it is still there. The process's age
 * is looked at only if its pid is remembered. */
int tries_knock(struct tries *t, pid_t pid, int64_t now, struct tries_visit *ret);

/* The same for one that connected before it heard a client (HELLO): it begins anew, and only what
 * it brings through a door later is counted together with it. */
void tries_meet(struct tries *t, pid_t pid, int64_t now, struct tries_visit *ret);

/* It has used so many now. */
void tries_set(struct tries *t, const struct tries_visit *visit, unsigned used);

/* It does what is allowed or free of charge once. Returns whether its process has done that before,
 * over whatever socket. */
bool tries_did(struct tries *t, const struct tries_visit *visit, enum tries_deed deed);

/* What is remembered of a process, for the table of a broker that goes on with ours. */
struct tries_row {
	pid_t pid;
	int64_t since; /* it came */
	int64_t gone;  /* the latest that one came whose place it has taken */
	unsigned used;
	unsigned deeds; /* bits of enum tries_deed */
	bool again;	/* it has brought more than one socket */
};

/* The next row from place *at on, which is 0 at first. False: that was all. */
bool tries_next(const struct tries *t, size_t *at, struct tries_row *ret);

/* Since when the table knows of all processes; the same told to the successor's. */
int64_t tries_born(const struct tries *t);
void tries_set_born(struct tries *t, int64_t born);

/* Remembers a row; its process has no socket. Then for each socket that is gone on with: whose it
 * is, *ret is all zero if nothing was remembered of it. */
void tries_restore(struct tries *t, const struct tries_row *row);
void tries_resume(struct tries *t, pid_t pid, struct tries_visit *ret);

/* Is this socket the one that its process's place in the table is about? It is not if another
 * process has that place, which may have the same pid by now. */
bool tries_counts(const struct tries *t, const struct tries_visit *visit);

/* The socket is gone. */
void tries_leave(struct tries *t, const struct tries_visit *visit);

/* Is this surely the first socket of a process that has not been here before, nor with a broker
 * before us? Then what came with it was said before any client was heard. Looks at the process. */
bool tries_is_first(struct tries *t, const struct tries_visit *visit);

#endif
