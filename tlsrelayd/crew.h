/* Between crew.c, which has the workers, and seats.c, which has their connections. */
#ifndef TLSRELAYD_CREW_H
#define TLSRELAYD_CREW_H

#include "tlsrelayd/link.h"
#include "tlsrelayd/master.h"

struct worker_proc {
	struct worker_proc *prev, *next;
	pid_t pid;
	int link;
	struct sd_event_source *source;
	enum kind kind;
	uint32_t connections;
	uint32_t lines; /* for the log, since the last tick */
	int64_t idle_since_ms;
	bool leaving;
	bool served; /* at least one connection */
	struct master *master;
};

/* The worker for the next connection of this kind, started if need be; NULL: there is none. */
struct worker_proc *crew_choose(struct master *m, enum kind kind);

/* This worker does not answer: it gets no more connections, and leaves if it ever goes on. */
void crew_shun(struct worker_proc *w);

/* Acts on a report of this worker's. */
void seats_take_report(struct master *m, const struct worker_proc *w,
		       const struct link_report *report);

/* The worker is dead: what it had is lost, and who waits for it is told. */
void seats_lose(struct master *m, const struct worker_proc *w);

/* Answers those whose worker is long overdue. */
void seats_give_up_late(struct master *m, int64_t now_ms);

#endif
