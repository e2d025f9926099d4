/* What the broker's parts share, and the parts' order: main → peer (sockets, messages) → client,
 * door, lookup, tls, errand, admin (who sent it) → lease, recheck (which connection, is the
 * password still good) → connection, host, dial (backend connections) → cache, keys, proofs, burst
 * (pure). Those that ask lookupd or send an errand call lookup.h and errand.h; tracing.h joins
 * sessions to the protocol log.
 */
#ifndef CACHEBROKERD_BROKER_H
#define CACHEBROKERD_BROKER_H

#include <sys/types.h>

#include "cachebrokerd/cache.h"
#include "cachebrokerd/keys.h"
#include "cachebrokerd/loop.h"
#include "cachebrokerd/state.h"
#include "lib/config.h"

struct accounts;
struct client;
struct habits;
struct host;
struct lists;
struct lookup;
struct peer;
struct perip;
struct proofs;
struct tls;
struct tracing;
struct tries;

struct broker {
	struct loop *loop;
	struct config config;
	const char *config_path;
	int config_fd; /* a readable copy of that file, or -1 */
	char run_directory[108];
	uid_t uid; /* what a session that was started by root becomes; 0: it cannot */
	gid_t gid;
	char chroot_directory[256]; /* where it is shut in first; "": nowhere */

	struct keys *keys;
	struct cache *cache;
	struct accounts *accounts;
	struct proofs *proofs;
	struct tries *tries;
	struct habits *habits;
	struct lists *lists;
	struct perip *perip;
	struct tracing *tracing;
	struct state *state;
	struct lookup *lookup;
	struct tls *tls;
	struct host *hosts;	 /* the one that was used last first, */
	struct host *host_table; /* and by what they are */
	struct client *clients; /* all sessions */
	struct client *silent;	/* those that have not introduced themselves, the first first */
	struct peer *listeners;
	int64_t listeners_by; /* monotonic ms: those that were here have come again by then */
	struct timer *tick;

	int64_t settled_at; /* monotonic ms: what lookupd says before may be of other settings */
	uint64_t settings; /* a random name of the configuration in force */
	uint64_t tls_policy;   /* what TLS with mail hosts shall be made with: tls_policy.h */
	uint64_t tls_settings; /* and a name for what it is made with, by tlsrelayd */
	uint64_t tls_clients;  /* what clients' certificates are verified with: tls_policy.h */
	bool tls_unsettled;    /* tlsrelayd may not have read what we have */
	bool clients_unsettled; /* the same, of tls_clients */
	uint64_t next_id;  /* of sessions and connections: never used twice */
	unsigned client_count;
	unsigned silent_count;
	unsigned leased;  /* connections in use, being dialled or on their way back */
	unsigned spares;  /* connections without a login that wait for one, or are made for that */
	unsigned orphans; /* sessions whose connection a broker before us leased */
	unsigned clients_most;
	unsigned connections_most; /* leased and cached */
	bool stopping;
	bool restarting; /* a successor will go on: restart.h */
	bool retiring; /* our supervisor is gone: no new ones, and the end with the last session */
};

/* Gives the configuration in force a new random name: what a session knows of an older one is not
 * valid any more. */
void broker_name_settings(struct broker *b);

/* A config_report_fn; the context is the broker. Under in.imapproxyd, which has warned already,
 * only errors are said. */
void broker_report_config(void *context, bool is_error, const char *line);

/* Reads the configuration again. Errors are logged and leave everything as it is. */
void broker_reload(struct broker *b);

/* The digest of the configuration in force, and of what it names: another one than that of the
 * broker before us is as good as a reload (restart_take.c). 0 or -errno. */
int broker_digest_settings(const struct broker *b, struct key *ret);

/* lookupd's workers may still answer by settings of before: for a while nothing that they say is
 * remembered. */
void broker_unsettle(struct broker *b);

/* tlsrelayd has read the configuration. What it made since we have may have been made with what was
 * in force before: that is ended. */
void broker_settle_tls(struct broker *b);

/* Derives the bounds on descriptors from the configuration and the process's limit, and says so
 * when they do not fit. */
void broker_set_bounds(struct broker *b);

/* Writes the gauges. */
void broker_count(struct broker *b);

/* Tells every session to end, and ends the loop when none is left. */
void broker_stop(struct broker *b);

/* The supervisor is gone, and the run directory, the state file and its address for notifications
 * may be another one's by now: leaves them, and serves what sessions there are to their end. */
void broker_retire(struct broker *b);

/* A session or a door is gone: if the broker is stopping or retiring and it was the last, the loop
 * ends. */
void broker_client_gone(struct broker *b);

#endif
