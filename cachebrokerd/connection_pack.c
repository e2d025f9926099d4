/* Backend connections in a pack.
 *
 * The socket's cookie (SO_COOKIE) is of the socket, not of the process: what belongs together is
 * seen from it after the restart as before. The successor's configuration may be another one, so a
 * connection is judged by that before it lies in the cache again.
 */
#include "cachebrokerd/connection_pack.h"

#include <errno.h>

#include "cachebrokerd/host.h"
#include "cachebrokerd/lists.h"
#include "cachebrokerd/proofs.h"
#include "lib/fd.h"

static struct span text_of(const char *text)
{
	return span_str(text ? text : "");
}

void connection_pack(const struct connection *c, struct pack_CONNECTION *ret)
{
	const struct host *h = c->host;
	unsigned flags = (c->proven ? PACK_PROVEN : 0u) | (c->cached ? PACK_CACHED : 0u) |
			 (c->spare ? PACK_SPARE : 0u) | (c->unwanted ? PACK_UNWANTED : 0u) |
			 (c->made ? PACK_MADE : 0u) | (c->capabilities ? PACK_LISTED : 0u);

	*ret = (struct pack_CONNECTION){
		.host = span_str(h->name),
		.port = h->port,
		.tls_mode = h->tls,
		.local = h->local,
		.service = h->service,
		.flags = flags,
		.id = c->id,
		.cookie = c->cookie,
		.born = (uint64_t)c->born,
		.tls = c->tls,
		.from_client = c->from_client,
		.from_backend = c->from_backend,
		.accepted = (uint64_t)proofs_when(c->broker->proofs, &c->record, &c->plain),
		.plain = c->plain,
		.account = c->entry.account,
		.record = c->record,
		.user = text_of(c->user),
		.backend_user = text_of(c->backend_user),
		.capabilities = text_of(c->capabilities),
		.fingerprint = text_of(c->fingerprint),
		.opening = text_of(c->opening),
		.examined = text_of(c->examined),
	};
}

static int set_texts(struct connection *c, const struct pack_CONNECTION *from)
{
	int r = connection_mark(c, from->fingerprint);

	if (r == 0 && from->flags & PACK_LISTED)
		r = connection_describe(c, from->capabilities, from->opening, from->examined);
	return r;
}

struct connection *connection_unpack(struct broker *b, const struct pack_CONNECTION *from)
{
	const struct route route = { .host = from->host,
				     .port = from->port,
				     .tls = (enum tls_mode)from->tls_mode,
				     .local = from->local != 0 };
	struct host *h = msg_service_name(from->service)
				 ? host_find(b, &route, (enum msg_service)from->service)
				 : NULL;
	struct connection *c = h ? connection_new(b, h, &from->plain, &from->account, from->user,
						  from->backend_user, -1)
				 : NULL;

	if (!c)
		return NULL;
	c->id = from->id;
	c->cookie = from->cookie;
	c->born = (int64_t)from->born;
	c->tls = from->tls;
	c->from_client = from->from_client;
	c->from_backend = from->from_backend;
	c->record = from->record;
	c->proven = from->flags & PACK_PROVEN;
	c->cached = from->flags & PACK_CACHED;
	c->spare = from->flags & PACK_SPARE;
	c->unwanted = from->flags & PACK_UNWANTED;
	c->made = from->flags & PACK_MADE;
	if (set_texts(c, from) < 0) {
		connection_lost(c);
		return NULL;
	}
	if (from->accepted > 0)
		proofs_accept(b->proofs, &c->record, &c->plain, (int64_t)from->accepted);
	return c;
}

/* Has it a place in the cache, by the configuration of now? */
static bool is_wanted(const struct connection *c)
{
	const struct broker *b = c->broker;

	return b->config.cache_expiration_time > 0 && !c->unwanted &&
	       c->host->service == SERVICE_IMAP && !connection_is_outdated(c) &&
	       c->host->order != STATEFILE_ORDER_DRAIN && c->capabilities &&
	       proofs_current(b->proofs, &c->record, &c->plain);
}

int connection_unpack_idle(struct connection *c, int64_t since, int *fd)
{
	AUTO_FD given = take_fd(fd);
	int r = -ESTALE;

	if (!connection_is(c, given))
		r = -EBADF;
	else if (!connection_is_silent(given))
		r = -ECONNRESET;
	else if (is_wanted(c))
		r = connection_shelve(c, since, &given);
	if (r == 0)
		lists_note(c->broker->lists, &c->plain, span_str(c->capabilities));
	else
		connection_lost(c);
	return r;
}
