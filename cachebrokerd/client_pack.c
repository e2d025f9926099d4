/* Sessions in a pack. What goes on for a session stays behind: its LEASE it makes again, for what
 * cannot be made again the restart waits a moment (restart.c).
 *
 * Its socket is the same one afterwards, with whatever it has said meanwhile; so it must be in the
 * very state in which that is expected, and may not have gained a try.
 */
#include "cachebrokerd/client_pack.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "cachebrokerd/admit.h"
#include "cachebrokerd/client_challenge.h"
#include "cachebrokerd/client_lease.h"
#include "cachebrokerd/host.h"
#include "cachebrokerd/tracing.h"
#include "lib/fd.h"

/* The flags, and what they stand for. */
static const struct {
	unsigned flag;
	size_t offset; /* of a bool in struct client */
} flags[] = {
	{ PACK_BOUND, offsetof(struct client, bound) },
	{ PACK_ACCEPTED, offsetof(struct client, accepted) },
	{ PACK_SWAPPED, offsetof(struct client, swapped) },
	{ PACK_LIMITED, offsetof(struct client, limited) },
	{ PACK_MADE_ROOM, offsetof(struct client, made_room) },
	{ PACK_SPARE_DIED, offsetof(struct client, spare_died) },
	{ PACK_MUST_REPEAT, offsetof(struct client, must_repeat) },
	{ PACK_ORPHAN, offsetof(struct client, orphan) },
	{ PACK_KNOCKED, offsetof(struct client, knocked) },
	{ PACK_COUNTED, offsetof(struct client, counted) },
	{ PACK_JOINED, offsetof(struct client, joined) },
	{ PACK_TLS_ASKED, offsetof(struct client, tls_asked) },
};

#define FLAGS (sizeof(flags) / sizeof(flags[0]))

static bool *flag_of(struct client *c, size_t i)
{
	return (bool *)((char *)c + flags[i].offset);
}

static uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t n = sizeof(cookie);

	return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &n) < 0 ? 0 : cookie;
}

bool client_is_busy(const struct client *c)
{
	return c->state == CLIENT_SECURING || c->state == CLIENT_CHALLENGED || c->admin.request;
}

void client_hold(struct client *c)
{
	watch_end(&c->peer->watch);
	if (c->state == CLIENT_WAITING)
		client_ask_again(c);
}

static void pack_ends(const struct client *c, struct pack_CLIENT *to)
{
	to->connected_client = span_str(c->connected.client);
	to->connected_local = span_str(c->connected.local);
	to->connected_client_port = c->connected.client_port;
	to->connected_local_port = c->connected.local_port;
	to->connected_hops = c->connected.hops;
	to->caller_client = span_str(c->caller.client);
	to->caller_local = span_str(c->caller.local);
	to->caller_client_port = c->caller.client_port;
	to->caller_local_port = c->caller.local_port;
	to->caller_hops = c->caller.hops;
}

/* Is what it was verified by of before a reload? */
static unsigned proofs_of(const struct client *c)
{
	unsigned set = c->identity_of == c->broker->settled_at ? 0 : PACK_OLD_IDENTITY;

	if (client_challenge_is_old(c))
		set |= PACK_OLD_CHALLENGE;
	return set;
}

bool client_pack(struct client *c, struct pack_CLIENT *ret)
{
	struct span verified = SPAN_NONE;
	unsigned set = proofs_of(c);

	if (c->refused || c->peer->ended || client_is_busy(c) || client_in_challenge(c) ||
	    c->state == CLIENT_WAITING)
		return false;
	for (size_t i = 0; i < FLAGS; i++)
		if (*flag_of(c, i))
			set |= flags[i].flag;
	if (client_verified(c, &verified) && client_challenge_paid(c))
		set |= PACK_PAID;
	*ret = (struct pack_CLIENT){
		.id = c->id,
		.socket = cookie_of(c->peer->fd),
		.since = (uint64_t)c->since,
		.state = c->state,
		.service = c->service,
		.flags = set,
		.pid = tries_counts(c->broker->tries, &c->visit) ? (uint32_t)c->visit.pid : 0,
		.leases = c->leases,
		.lines = c->lines,
		.tls_serial = c->tls_serial,
		.bound_to = c->bound_to,
		.repeated = c->repeated,
		.habit = c->lease.habit,
		.user = { c->lease.user, c->lease.user_length },
		.address = span_str(c->address),
		.origin = span_str(c->origin),
		.tls = span_str(c->tls ? c->tls : ""),
		.identity = span_str(c->identity ? c->identity : ""),
		.verified = verified,
	};
	pack_ends(c, ret);
	return true;
}

/* --- and back ---------------------------------------------------------- */

static void copy(char *to, size_t cap, struct span from)
{
	(void)snprintf(to, cap, "%.*s", (int)from.n, from.p);
}

static void unpack_ends(struct client *c, const struct pack_CLIENT *from)
{
	copy(c->connected.client, sizeof(c->connected.client), from->connected_client);
	copy(c->connected.local, sizeof(c->connected.local), from->connected_local);
	c->connected.client_port = from->connected_client_port;
	c->connected.local_port = from->connected_local_port;
	c->connected.hops = from->connected_hops;
	copy(c->caller.client, sizeof(c->caller.client), from->caller_client);
	copy(c->caller.local, sizeof(c->caller.local), from->caller_local);
	c->caller.client_port = from->caller_client_port;
	c->caller.local_port = from->caller_local_port;
	c->caller.hops = from->caller_hops;
}

static void unpack_facts(struct client *c, const struct pack_CLIENT *from)
{
	for (size_t i = 0; i < FLAGS; i++)
		*flag_of(c, i) = from->flags & flags[i].flag;
	c->id = from->id;
	c->since = (int64_t)from->since;
	c->service = from->service;
	c->leases = from->leases;
	c->lines = from->lines;
	c->tls_serial = from->tls_serial;
	c->bound_to = from->bound_to;
	c->repeated = from->repeated;
	c->lease.habit = from->habit;
	c->lease.user_length = from->user.n;
	memcpy(c->lease.user, from->user.p, from->user.n);
	copy(c->address, sizeof(c->address), from->address);
	copy(c->origin, sizeof(c->origin), from->origin);
	unpack_ends(c, from);
	if (from->tls.n > 0)
		c->tls = strndup(from->tls.p, from->tls.n);
	if (from->identity.n > 0)
		c->identity = strndup(from->identity.p, from->identity.n);
}

/* By whom it was verified; that is good for a login as long as the configuration is the same. */
static void unpack_proofs(struct client *c, const struct pack_CLIENT *from, bool reloaded)
{
	bool old_identity = reloaded || from->flags & PACK_OLD_IDENTITY,
	     old_challenge = reloaded || from->flags & PACK_OLD_CHALLENGE;

	c->identity_of = c->broker->settled_at - (old_identity ? 1 : 0);
	if (from->verified.n > 0)
		client_challenge_restore(c, from->verified, from->flags & PACK_PAID, old_challenge);
}

/* The counts that it is part of, and its process's place among the tries. */
static void count(struct client *c, const struct pack_CLIENT *from)
{
	struct broker *b = c->broker;

	if (c->orphan)
		b->orphans++;
	if (c->joined)
		c->joined = admit_one_more(b, c->service, c->origin, true, c->address);
	tries_resume(b->tries, (pid_t)from->pid, &c->visit);
}

/* It has its connection: the state file and the protocol log hear of it. */
static void show(struct client *c)
{
	struct span user = { c->lease.user, c->lease.user_length };

	if (c->state == CLIENT_RETURNING)
		lease_set_returning(c);
	if (c->connection && (c->accepted || connection_is_marked(c->connection)))
		client_show_active(c, user, c->connection->host->label);
	else if (c->orphan)
		client_show_active(c, user, "");
	if (c->connection || c->orphan)
		tracing_join(c);
}

/* States in which a client has a connection, and those in which it has none. */
#define WITH	(CLIENT_LEASED | CLIENT_RETURNING)
#define WITHOUT (CLIENT_NEW | CLIENT_ANNOUNCING | CLIENT_READY | CLIENT_DONE)

static bool makes_sense(const struct pack_CLIENT *from, bool has_connection)
{
	unsigned state = from->state, allowed = has_connection ? WITH : WITHOUT;

	return state != 0 && (state & (state - 1)) == 0 && (state & allowed) &&
	       (state == CLIENT_NEW || msg_service_name(from->service));
}

int client_unpack(struct broker *b, const struct pack_CLIENT *from, int fd,
		  struct connection *connection, bool reloaded)
{
	AUTO_FD owned = fd;
	struct peer *p;

	if (!makes_sense(from, connection != NULL))
		return -EBADMSG;
	if (from->socket == 0 || cookie_of(owned) != from->socket)
		return -EBADF;
	int r = peer_new(b, take_fd(&owned), &client_peer_kind, &p);

	if (r < 0)
		return r;
	client_peer_new(p);
	struct client *c = p->owner;

	if (!c)
		return -ENOMEM;
	if (from->state != CLIENT_NEW)
		client_introduced(c);
	c->state = (enum client_state)from->state;
	unpack_facts(c, from);
	unpack_proofs(c, from, reloaded);
	count(c, from);
	c->connection = connection;
	show(c);
	return 0;
}
