/* The master's parts and what they share: it loads certificates, meets the broker, and keeps the
 * workers. */
#ifndef TLSRELAYD_MASTER_H
#define TLSRELAYD_MASTER_H

#include <signal.h>

#include "lib/msg.h"
#include "tlsrelayd/contexts.h"
#include "tlsrelayd/tickets.h"

struct sd_event;
struct sd_event_source;
struct worker_proc;
struct seat;

/* What a connection's way goes through: accepting clients, or dialling mail hosts. */
enum kind { KIND_CLIENTS, KIND_HOSTS, KINDS };

/* Of the configuration, which is not kept: there are passwords in it. */
struct settings {
	uint32_t sessions_per_worker;
	uint32_t handshakes;
	uint32_t handshake_seconds;
	uid_t uid;
	gid_t gid;
	uint64_t generation; /* differs after each reload */
};

struct master {
	const char *config_path;
	int config_fd; /* or -1: read the path */
	int bundle_fd; /* the archive of root's files, or -1 */
	const char *run_directory; /* from -r, or NULL */
	char socket_path[128];
	struct settings settings;
	struct contexts *contexts;
	struct sd_event *event;
	struct sd_event_source *tick;
	int64_t leave_by_ms;
	sigset_t before; /* what was blocked when we started */
	/* broker.c */
	int broker; /* or -1 */
	struct sd_event_source *broker_source, *retry_source;
	int pause_ms;
	bool missed_broker;
	bool has_all; /* while leaving: the broker's last request was read */
	struct msg_TLS_STATE told;
	/* crew.c, seats.c */
	struct worker_proc *workers;
	struct seat *seats;    /* by id */
	struct seat *unsent;   /* of which the broker did not take all yet */
	uint32_t last_id;
	struct seat *shaking[KINDS]; /* the oldest first */
	uint32_t shaking_count[KINDS];
	struct tickets *tickets;
	uint32_t truncated, workers_lost; /* since the last TLS_STATE */
	/* for good: */
	bool leaving; /* takes no more requests, and ends when those that it has are answered */
	bool orphaned; /* the supervisor is gone: serves the broker that is there, and no other */
};

/* --- master.c --- */

/* Loads the configuration and what it names; an old one is replaced only by a good one. Returns 0
 * or -EINVAL, with lines that say why. */
int master_load(struct master *m);

/* Serves until it is told to end. Returns the exit status. */
int master_run(struct master *m);

/* --- broker.c --- */

/* Begins to look for the broker. */
int broker_begin(struct master *m);
void broker_end(struct master *m);

/* Tells it whether there is a certificate. */
void broker_introduce(struct master *m);

/* From now on it sends us nothing more, and keeps its requests for the next tlsrelayd; what it has
 * sent already is read, and answered. */
void broker_leave(struct master *m);

/* Sends m; -EAGAIN: later, broker_wait() says when; any other error has ended the connection. */
int broker_send(struct master *m, const struct msg *message, int fd);

/* Has seats_send_unsent() called when the broker takes something again. */
void broker_wait(struct master *m);

/* --- seats.c --- */

/* A request of the broker's with the TCP connection, which is taken over. */
void seats_take(struct master *m, const struct msg *request, int tcp);

/* The broker is gone: what it waited for is given up. Open connections go on. */
void seats_forget_requests(struct master *m);

void seats_send_unsent(struct master *m);

/* Does the broker still wait for an answer? */
bool seats_are_awaited(const struct master *m);

/* --- crew.c --- */

/* Reaps what has ended. */
void crew_reap(struct master *m);

/* New connections go to new workers; the old ones leave with their last connection. */
void crew_renew(struct master *m);

/* Once a second: idle workers, requests whose worker says nothing. */
void crew_tick(struct master *m);

/* How many there are. */
void crew_count(const struct master *m, uint32_t *workers, uint32_t *connections);

/* Has all of them finish what they have, for a few seconds; then they are killed. */
void crew_end(struct master *m);

#endif
