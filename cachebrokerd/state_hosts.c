/* Mail hosts in the state file: their figures change with every login. So those who count write
 * straight into the figures, and what has changed is found by comparing with what the writer was
 * given last.
 *
 * A host that the broker has forgotten leaves the file, too; those that the broker before us had
 * known stay, with what they had counted, as long as there is room.
 */
#include "cachebrokerd/state_hosts.h"

#include <stdlib.h>
#include <string.h>
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct state_host {
	struct statefile_host now;
	struct statefile_host given;
	bool is_given;
	bool is_gone;
	unsigned users;
	size_t label_length;
	UT_hash_handle hh;
	char label[];
};

static struct state_host *find(struct state_host *list, struct span label)
{
	struct state_host *h = NULL;

	HASH_FIND(hh, list, label.p, label.n, h);
	return h;
}

static void drop(struct state_host **list, struct state_host *h)
{
	HASH_DEL(*list, h);
	free(h);
}

/* Room for another one, if need be in the place of one that nobody uses. */
static bool has_room(struct state_host *list)
{
	size_t count = 0;
	struct state_host *unused = NULL;

	if (HASH_COUNT(list) < STATE_HOSTS_MOST)
		return true;
	for (struct state_host *h = list; h; h = h->hh.next) {
		count += !h->is_gone;
		if (!h->is_gone && h->users == 0 && !unused)
			unused = h;
	}
	if (unused)
		unused->is_gone = true;
	/* those that wait for the writer are few, unless the disk is stuck */
	return (unused || count < STATE_HOSTS_MOST) && HASH_COUNT(list) < 2 * STATE_HOSTS_MOST;
}

static struct state_host *add(struct state_host **list, struct span label)
{
	struct state_host *h = has_room(*list) ? calloc(1, sizeof(*h) + label.n) : NULL;

	if (!h)
		return NULL;
	h->label_length = label.n;
	memcpy(h->label, label.p, label.n);
	HASH_ADD_KEYPTR(hh, *list, h->label, h->label_length, h);
	if (!h->hh.tbl) { /* no memory */
		free(h);
		return NULL;
	}
	return h;
}

struct statefile_host *state_hosts_find(struct state_host **list, struct span label)
{
	struct state_host *h = find(*list, label);

	if (!h && !(h = add(list, label)))
		return NULL;
	if (h->is_gone)
		h->now = (struct statefile_host){ 0 };
	h->is_gone = false;
	return &h->now;
}

void state_hosts_hold(struct state_host *list, struct span label)
{
	struct state_host *h = find(list, label);

	if (h)
		h->users++;
}

void state_hosts_release(struct state_host *list, struct span label)
{
	struct state_host *h = find(list, label);

	if (h && h->users > 0 && --h->users == 0)
		h->is_gone = true;
}

unsigned state_hosts_count(struct state_host *list,
			   bool (*is_one)(const void *context, struct span label),
			   const void *context)
{
	unsigned count = 0;

	for (const struct state_host *h = list; h; h = h->hh.next)
		count += !h->is_gone && is_one(context, (struct span){ h->label, h->label_length });
	return count;
}

static bool has_changed(const struct state_host *h)
{
	return h->is_gone || !h->is_given || memcmp(&h->now, &h->given, sizeof(h->now)) != 0;
}

void state_hosts_reset(struct state_host *list)
{
	for (struct state_host *h = list; h; h = h->hh.next) {
		const struct statefile_host was = h->now;

		h->now = (struct statefile_host){ .state = was.state,
						  .active = was.active,
						  .cached = was.cached,
						  .dial_average = was.dial_average,
						  .failed_at = was.failed_at,
						  .error_length = was.error_length };
		memcpy(h->now.error, was.error, sizeof(was.error));
	}
}

bool state_hosts_changed(const struct state_host *list)
{
	for (; list; list = list->hh.next)
		if (has_changed(list))
			return true;
	return false;
}

void state_hosts_rows(struct state_host **list, struct state_row **rows)
{
	for (struct state_host *h = *list, *next; h; h = next) {
		size_t length = sizeof(h->now) + h->label_length;
		struct state_row *row = has_changed(h) ? malloc(sizeof(*row) + length) : NULL;

		next = h->hh.next;
		if (!row)
			continue;
		*row = (struct state_row){
			.next = *rows, .is_host = true, .is_gone = h->is_gone, .length = length
		};
		memcpy(row->bytes, &h->now, sizeof(h->now));
		memcpy(row->bytes + sizeof(h->now), h->label, h->label_length);
		*rows = row;
		h->given = h->now;
		h->is_given = true;
		if (h->is_gone)
			drop(list, h);
	}
}

void state_hosts_free(struct state_host **list)
{
	while (*list)
		drop(list, *list);
}
