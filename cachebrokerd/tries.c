/* Attempts per process: a table of fixed size, a process's place is its pid's remainder.
 *
 * So nothing grows, nothing is searched, and who wants another's entry gone must make the listener
 * start TRIES_SLOTS processes: by then each of them could have had attempts of its own. An entry
 * outlives its socket, else the count would begin again with the next one; whether its pid means
 * another process by now is told by that one's start, which comes behind the entry's time.
 */
#include "cachebrokerd/tries.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

struct slot {
	struct tries_visit visit; /* the latest */
	int64_t since;		  /* the first socket came */
	uint16_t used;
	bool open; /* the visit goes on */
};

struct tries {
	tries_started_fn *started;
	uint64_t visits;
	struct slot slots[TRIES_SLOTS];
};

struct tries *tries_new(tries_started_fn *started)
{
	struct tries *t = calloc(1, sizeof(*t)); /* pages of slots that nobody uses cost nothing */

	if (t)
		t->started = started;
	return t;
}

void tries_free(struct tries *t)
{
	free(t);
}

static struct slot *place_of(struct tries *t, pid_t pid)
{
	return &t->slots[(unsigned)pid % TRIES_SLOTS];
}

static bool is_same_process(const struct tries *t, const struct slot *s, pid_t pid, int64_t now)
{
	if (s->visit.pid != pid)
		return false;
	int64_t started = t->started(pid);

	return started < 0 ? now - s->since < TRIES_BELIEVE_MS : started <= s->since;
}

int tries_knock(struct tries *t, pid_t pid, int64_t now, struct tries_visit *ret)
{
	*ret = (struct tries_visit){ 0 };
	if (pid <= 0)
		return 0; /* of another pid namespace */
	struct slot *s = place_of(t, pid);
	bool same = is_same_process(t, s, pid, now);

	if (same && s->open)
		return -EBUSY;
	if (!same)
		*s = (struct slot){ .since = now };
	s->visit = (struct tries_visit){ pid, ++t->visits };
	s->open = true;
	*ret = s->visit;
	return s->used;
}

/* NULL: it is not counted, or another process has taken its place. */
static struct slot *find(struct tries *t, const struct tries_visit *visit)
{
	struct slot *s = place_of(t, visit->pid);

	return visit->number != 0 && s->visit.number == visit->number ? s : NULL;
}

void tries_set(struct tries *t, const struct tries_visit *visit, unsigned used)
{
	struct slot *s = find(t, visit);

	if (s)
		s->used = (uint16_t)(used < TRIES_ALL ? used : TRIES_ALL);
}

void tries_leave(struct tries *t, const struct tries_visit *visit)
{
	struct slot *s = find(t, visit);

	if (!s)
		return;
	s->open = false;
	if (s->used == 0)
		*s = (struct slot){ 0 };
}
