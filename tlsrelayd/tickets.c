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

#define SEQUENCE 0x30
#define PEER	 0xa3 /* [3] of OpenSSL's SSL_SESSION_ASN1 */

/* The element of DER (X.690 section 8.1) that s begins with: of its head, and of all of it, how
 * many bytes. Those of a session have tags of one byte, and no more than 64 KiB. */
static bool measure(struct span s, size_t *head, size_t *whole)
{
	const unsigned char *p = (const unsigned char *)s.p;
	size_t more = s.n >= 2 && p[1] >= 0x80 ? p[1] & 0x7fu : 0;

	if (s.n < 2 || p[1] == 0x80 || more > 2 || s.n < 2 + more)
		return false;
	size_t length = more == 0 ? p[1] : 0;

	for (size_t i = 0; i < more; i++)
		length = length << 8 | p[2 + i];
	*head = 2 + more;
	*whole = *head + length;
	return *whole <= s.n;
}

static size_t write_head(char *to, size_t length)
{
	size_t n = 0;

	to[n++] = SEQUENCE;
	if (length >= 0x100)
		to[n++] = (char)0x82;
	else if (length >= 0x80)
		to[n++] = (char)0x81;
	if (length >= 0x100)
		to[n++] = (char)(length >> 8);
	to[n++] = (char)(length & 0xff);
	return n;
}

size_t tickets_drop_peer(char *session, size_t n)
{
	size_t head, whole, part_head, part = 0, at;

	if (!measure((struct span){ session, n }, &head, &whole) || whole != n ||
	    (unsigned char)session[0] != SEQUENCE)
		return 0;
	for (at = head; at < n; at += part) {
		if (!measure((struct span){ session + at, n - at }, &part_head, &part))
			return 0;
		if ((unsigned char)session[at] == PEER)
			break;
	}
	if (at == n)
		return n;
	size_t left = n - head - part;
	char fresh[4];
	size_t fresh_head = write_head(fresh, left); /* never longer than the one that was there */

	memmove(session + at, session + at + part, n - at - part);
	memmove(session + fresh_head, session + head, left);
	memcpy(session, fresh, fresh_head);
	return fresh_head + left;
}

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
