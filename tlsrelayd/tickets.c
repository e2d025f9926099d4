/* Sessions to resume, by host, port and the settings' generation: what was made without looking at
 * the certificate is never used where it must be looked at. uthash keeps the order of insertion: a
 * host that is used moves to the end, the first is the one to forget. */
#include "tlsrelayd/tickets.h"

#include <stdlib.h>
#include <uthash.h>

struct ticket {
	char *bytes;
	size_t length;
};

struct key {
	uint64_t generation;
	uint64_t port;
	char host[256];
};

struct shelf {
	UT_hash_handle hh;
	struct key key;
	size_t count;
	struct ticket tickets[TICKETS_PER_HOST]; /* the oldest first */
};

struct tickets {
	struct shelf *shelves;
};

struct tickets *tickets_new(void)
{
	return calloc(1, sizeof(struct tickets));
}

static void wipe_first(struct shelf *s)
{
	explicit_bzero(s->tickets[0].bytes, s->tickets[0].length);
	free(s->tickets[0].bytes);
	s->count--;
	memmove(s->tickets, s->tickets + 1, s->count * sizeof(s->tickets[0]));
}

static void drop_shelf(struct tickets *t, struct shelf *s)
{
	while (s->count > 0)
		wipe_first(s);
	HASH_DEL(t->shelves, s);
	free(s);
}

void tickets_free(struct tickets *t)
{
	while (t && t->shelves)
		drop_shelf(t, t->shelves);
	free(t);
}

static bool make_key(struct key *key, const char *host, uint32_t port, uint64_t generation)
{
	size_t length = strlen(host);

	*key = (struct key){ .generation = generation, .port = port };
	if (length >= sizeof(key->host))
		return false;
	memcpy(key->host, host, length);
	return true;
}

static struct shelf *find(const struct tickets *t, const struct key *key)
{
	struct shelf *s = NULL;

	HASH_FIND(hh, t->shelves, key, sizeof(*key), s);
	return s;
}

void tickets_put(struct tickets *t, const char *host, uint32_t port, uint64_t generation,
		 struct span ticket)
{
	struct key key;

	if (ticket.n == 0 || ticket.n > TICKET_MAX || !make_key(&key, host, port, generation))
		return;
	struct shelf *s = find(t, &key);
	char *bytes = malloc(ticket.n);

	if (s) {
		HASH_DEL(t->shelves, s);
	} else {
		if (HASH_COUNT(t->shelves) >= TICKETS_HOSTS)
			drop_shelf(t, t->shelves);
		s = calloc(1, sizeof(*s));
	}
	if (!s || !bytes) {
		free(bytes);
		while (s && s->count > 0)
			wipe_first(s);
		free(s);
		return;
	}
	s->key = key;
	if (s->count == TICKETS_PER_HOST)
		wipe_first(s);
	memcpy(bytes, ticket.p, ticket.n);
	s->tickets[s->count++] = (struct ticket){ bytes, ticket.n };
	HASH_ADD(hh, t->shelves, key, sizeof(s->key), s);
}

size_t tickets_take(struct tickets *t, const char *host, uint32_t port, uint64_t generation,
		    char *ticket)
{
	struct key key;
	struct shelf *s = make_key(&key, host, port, generation) ? find(t, &key) : NULL;

	if (!s)
		return 0;
	struct ticket *last = &s->tickets[--s->count];
	size_t length = last->length;

	memcpy(ticket, last->bytes, length);
	explicit_bzero(last->bytes, length);
	free(last->bytes);
	if (s->count == 0)
		drop_shelf(t, s);
	return length;
}
