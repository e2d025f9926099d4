/* Which sessions are bringing their connections back: a login that wants one of them, or the room
 * that it makes, had better wait for a moment. A list, since they are few at any time. */
#include "cachebrokerd/client.h"
#include "cachebrokerd/lease.h"

static struct client *returning;

void lease_set_returning(struct client *c)
{
	c->lease.returning = true;
	c->lease.returning_previous = NULL;
	c->lease.returning_next = returning;
	if (returning)
		returning->lease.returning_previous = c;
	returning = c;
}

void lease_unset_returning(struct client *c)
{
	struct lease *l = &c->lease;

	if (!l->returning)
		return;
	l->returning = false;
	if (l->returning_previous)
		l->returning_previous->lease.returning_next = l->returning_next;
	else
		returning = l->returning_next;
	if (l->returning_next)
		l->returning_next->lease.returning_previous = l->returning_previous;
}

bool lease_is_returning(const struct key *key)
{
	for (const struct client *c = returning; c; c = c->lease.returning_next)
		if (key_same(&c->connection->entry.key, key))
			return true;
	return false;
}

bool lease_room_is_coming(const struct broker *b, const struct host *host)
{
	bool of_host = connection_fills_host(b, host);

	for (const struct client *c = returning; c; c = c->lease.returning_next)
		if (!of_host || c->connection->host == host)
			return true;
	return false;
}
