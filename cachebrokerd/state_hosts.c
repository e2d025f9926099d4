/* Mail hosts in the state file: there are few, and their figures change with every login. So those
 * who count write straight into the figures, and what has changed is found by comparing with what
 * the writer was given last.
 */
#include "cachebrokerd/state_hosts.h"

#include <stdlib.h>
#include <string.h>

struct state_host {
	struct state_host *next;
	struct statefile_host now;
	struct statefile_host given;
	bool is_given;
	size_t label_length;
	char label[];
};

struct statefile_host *state_hosts_find(struct state_host **list, struct span label)
{
	for (struct state_host *h = *list; h; h = h->next)
		if (span_eq(label, (struct span){ h->label, h->label_length }))
			return &h->now;
	struct state_host *h = calloc(1, sizeof(*h) + label.n);

	if (!h)
		return NULL;
	h->label_length = label.n;
	memcpy(h->label, label.p, label.n);
	h->next = *list;
	*list = h;
	return &h->now;
}

static bool has_changed(const struct state_host *h)
{
	return !h->is_given || memcmp(&h->now, &h->given, sizeof(h->now)) != 0;
}

void state_hosts_reset(struct state_host *list)
{
	for (; list; list = list->next)
		list->now = (struct statefile_host){ .state = list->now.state,
						     .active = list->now.active,
						     .cached = list->now.cached,
						     .failed_at = list->now.failed_at };
}

bool state_hosts_changed(const struct state_host *list)
{
	for (; list; list = list->next)
		if (has_changed(list))
			return true;
	return false;
}

void state_hosts_rows(struct state_host *list, struct state_row **rows)
{
	for (struct state_host *h = list; h; h = h->next) {
		size_t length = sizeof(h->now) + h->label_length;
		struct state_row *row = has_changed(h) ? malloc(sizeof(*row) + length) : NULL;

		if (!row)
			continue;
		*row = (struct state_row){ .next = *rows, .is_host = true, .length = length };
		memcpy(row->bytes, &h->now, sizeof(h->now));
		memcpy(row->bytes + sizeof(h->now), h->label, h->label_length);
		*rows = row;
		h->given = h->now;
		h->is_given = true;
	}
}

void state_hosts_free(struct state_host **list)
{
	while (*list) {
		struct state_host *h = *list;

		*list = h->next;
		free(h);
	}
}
