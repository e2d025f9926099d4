/* Mail hosts: addresses, whether they answer. */
#ifndef CACHEBROKERD_HOST_H
#define CACHEBROKERD_HOST_H

#include <sys/socket.h>
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "cachebrokerd/broker.h"
#include "cachebrokerd/burst.h"
#include "cachebrokerd/spares.h"
#include "lib/config_tls.h"
#include "lib/route.h"
#include "lib/statefile.h"

#define HOST_ADDRESSES 16
#define HOSTS_MOST     4096	  /* in the table */
#define HOSTS_FEW      64	  /* so many are never forgotten for their age */
#define HOST_KEEP_MS   3600000 /* others when they were not used for so long */

struct connection;
struct dial;

struct host {
	struct broker *broker;
	struct host *prev, *next; /* all, the one that was used last first */
	UT_hash_handle hh;
	char id[300];	   /* service, TLS, port and name: the hash table's key */
	unsigned holds;	   /* those that may come back to it (host_hold()) */
	int64_t used_at;   /* monotonic ms */
	uint64_t dial_turn; /* number of the last login that was sent there: host_order */
	enum statefile_order_kind order; /* an administrator's */
	char name[256];	   /* in small letters */
	char label[264]; /* "name:port", for people */
	uint32_t port;	 /* 0: the name is a path (lib/place.h) */
	bool local;	 /* it is this host's own server, as far as the configuration knew then */
	enum msg_service service;
	enum tls_mode tls;
	struct sockaddr_storage addresses[HOST_ADDRESSES];
	int64_t failed_until[HOST_ADDRESSES]; /* each address: tried behind the others */
	size_t address_count;
	size_t turn;		/* dials so far, for dns_rr */
	int64_t resolved_until; /* monotonic ms */
	int64_t own_until;	/* and so long `own` is believed */
	bool own;		/* its addresses lead to us: own.h */
	int64_t down_until;	/* not dialled before: it failed */
	unsigned retries_left;	/* of those in the background */
	struct timer *retry;
	struct dial *probe; /* in the background */
	unsigned connections;	 /* in use, being dialled, on their way back, cached, spares */
	unsigned by_errand;	 /* logins there that have an errand, or one kept for them */
	struct connection *idle; /* the cached ones, the oldest first */
	unsigned idle_count;
	struct statefile_host *figures; /* the state's, or, when there is no room for them there, */
	struct statefile_host uncounted;
	struct burst ends;	 /* of idle ones, by the mail host */
	struct spares spares;
};

/* The host of this route, which is spoken to in this service's protocol; made when it is new, if
 * need be in the place of the one that was not used for the longest time. It lives until another
 * one is made or host_forget_old() comes, unless somebody holds it or there is a connection to it.
 * NULL: all are in use, no memory, or a name that is too long. */
struct host *host_find(struct broker *b, const struct route *route, enum msg_service service);

/* Keeps it: a lease or an errand may come back to it. */
void host_hold(struct host *h);
void host_release(struct host *h);

/* Forgets some of the hosts that nobody has used for long. Call it now and then. */
void host_forget_old(struct broker *b);

/* What was ordered of it may have changed. */
void host_take_order(struct host *h);

/* May a session be sent there? Not while it is drained or paused. Why not, for people. */
static inline bool host_is_open(const struct host *h)
{
	return h->order == STATEFILE_ORDER_NONE;
}
const char *host_why_closed(const struct host *h);

/* Nothing is known against it any more: the next login dials it. */
void host_give_chance(struct host *h);

/* For host_order round_robin: the hosts in the order of their last logins, the longest ago first;
 * and a login is sent to this one now. */
void host_sort(struct host **hosts, size_t count);
void host_takes_turn(struct host *h);

/* Is it spoken to as the configuration of now says? With directories it is they that say it, but of
 * this host's own server. */
bool host_is_current(const struct host *h);

/* How TLS is made with it, as a number (keys.h): another one after a reload that changed that. */
uint64_t host_tls(const struct host *h);

/* Do connections to it begin with a PROXY header (proxy_protocol_hosts)? */
bool host_wants_header(const struct host *h);

/* Are its addresses known and fresh? */
bool host_is_resolved(const struct host *h);

/* Takes the addresses of an ADDRESSES answer ("192.0.2.1 2001:db8::1"). 0, or -ENOENT when there is
 * none. */
int host_set_addresses(struct host *h, struct span addresses);

/* The same for a host that is a path: it is its own address. 0, or -ENOENT for another one. */
int host_set_path(struct host *h);

/* Which address a dial begins with: the first, or with dns_rr the next in turn. */
size_t host_first_address(struct host *h);

/* An address of it failed, and for host_retry seconds it is tried only behind the others; did it?
 */
void host_address_failed(struct host *h, size_t address);
bool host_address_has_failed(const struct host *h, size_t address);

/* May it be dialled? Not within host_retry seconds of a failure. */
bool host_is_up(const struct host *h);

/* A dial went well, or failed on all addresses. After a failure it is tried again in the
 * background, connect_retries times, connect_delay seconds apart, so that it counts as up as soon
 * as it is. `by_tls`: it was there, but TLS was not made with it. dial_us: how long it took, in
 * microseconds. */
void host_answered(struct host *h, int64_t dial_us);
void host_failed(struct host *h, bool by_tls, const char *why);

/* A dial came to nothing, for a reason that is ours. */
void host_not_dialled(struct host *h, const char *why);

/* Dials the host in the background to find out whether it answers. */
void host_probe(struct host *h);

/* A login to it counts, or (good false) does not any more, since it was none. */
void host_count_login(struct host *h, bool reused, bool good);

/* Brings the hosts' figures up to date for the state file. */
void host_show_all(struct broker *b);

void host_free_all(struct broker *b);

#endif
