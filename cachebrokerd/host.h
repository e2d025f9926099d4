/* Mail hosts: addresses, whether they answer. */
#ifndef CACHEBROKERD_HOST_H
#define CACHEBROKERD_HOST_H

#include <sys/socket.h>

#include "cachebrokerd/broker.h"
#include "cachebrokerd/burst.h"
#include "cachebrokerd/spares.h"
#include "lib/config_tls.h"
#include "lib/route.h"

#define HOST_ADDRESSES 16

struct connection;

struct host {
	struct broker *broker;
	struct host *next;
	char name[256];
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
	unsigned connections;	 /* in use, being dialled, on their way back, cached, spares */
	struct connection *idle; /* the cached ones, the oldest first */
	unsigned idle_count;
	struct statefile_host *figures; /* the state's */
	struct burst ends;	 /* of idle ones, by the mail host */
	struct spares spares;
};

/* The host of this route, which is spoken to in this service's protocol; made when it is new. NULL:
 * no memory, or a name that is too long. */
struct host *host_find(struct broker *b, const struct route *route, enum msg_service service);

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
 * as it is. `by_tls`: it was there, but TLS was not made with it. */
void host_answered(struct host *h);
void host_failed(struct host *h, bool by_tls, const char *why);

/* A dial came to nothing for a reason that is ours. */
void host_not_dialled(struct host *h);

/* Dials the host in the background to find out whether it answers. */
void host_probe(struct host *h);

/* A login to it counts, or (good false) does not any more, since it was none. */
void host_count_login(struct host *h, bool reused, bool good);

/* Brings the hosts' figures up to date for the state file. */
void host_show_all(struct broker *b);

void host_free_all(struct broker *b);

#endif
