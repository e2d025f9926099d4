/* Attempts per process: a table of fixed size, a process's place is its pid's remainder.
 *
 * So nothing grows, nothing is searched, and who wants another's entry gone must make the listener
 * start TRIES_SLOTS processes: by then each of them could have had attempts of its own. An entry
 * outlives its socket, else the count would begin again with the next one; whether its pid means
 * another process by now is told by that one's start, which comes behind the entry's time. By its
 * start, too, a process is known that may have been here in an entry that is gone, or before us.
 */
#include "cachebrokerd/tries.h"

#include <errno.h>
#include <stdlib.h>

struct slot {
	struct tries_visit visit; /* the latest */
	int64_t since;		  /* the first socket came */
	int64_t gone;		  /* the latest `since` of other processes that had this place */
	uint16_t used;
	bool open;	/* the visit goes on */
	bool again;	/* it is not the first one */
	unsigned deeds; /* bits of enum tries_deed */
};

struct tries {
	tries_started_fn *started;
	int64_t born;
	uint64_t visits;
	struct slot slots[TRIES_SLOTS];
};

struct tries *tries_new(tries_started_fn *started, int64_t now)
{
	struct tries *t = calloc(1, sizeof(*t)); /* pages of slots that nobody uses cost nothing */

	if (!t)
		return NULL;
	t->started = started;
	t->born = now;
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

static int64_t later_of(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static void settle(struct tries *t, struct slot *s, pid_t pid, struct tries_visit *ret)
{
	s->visit = (struct tries_visit){ pid, ++t->visits };
	s->open = true;
	*ret = s->visit;
}

static void take_place(struct slot *s, int64_t now)
{
	*s = (struct slot){ .since = now, .gone = later_of(s->gone, s->since) };
}

void tries_meet(struct tries *t, pid_t pid, int64_t now, struct tries_visit *ret)
{
	*ret = (struct tries_visit){ 0 };
	if (pid <= 0)
		return;
	struct slot *s = place_of(t, pid);

	take_place(s, now);
	settle(t, s, pid, ret);
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
		take_place(s, now);
	else
		s->again = true;
	settle(t, s, pid, ret);
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

bool tries_did(struct tries *t, const struct tries_visit *visit, enum tries_deed deed)
{
	struct slot *s = find(t, visit);
	bool before = s && s->deeds & deed;

	if (s)
		s->deeds |= deed;
	return before;
}

bool tries_next(const struct tries *t, size_t *at, struct tries_row *ret)
{
	while (*at < TRIES_SLOTS) {
		const struct slot *s = &t->slots[(*at)++];

		if (s->visit.pid == 0)
			continue;
		*ret = (struct tries_row){ .pid = s->visit.pid,
					   .since = s->since,
					   .gone = s->gone,
					   .used = s->used,
					   .deeds = s->deeds,
					   .again = s->again };
		return true;
	}
	return false;
}

int64_t tries_born(const struct tries *t)
{
	return t->born;
}

void tries_set_born(struct tries *t, int64_t born)
{
	t->born = born;
}

void tries_restore(struct tries *t, const struct tries_row *row)
{
	if (row->pid > 0)
		*place_of(t, row->pid) = (struct slot){
			.visit = { row->pid, ++t->visits },
			.since = row->since,
			.gone = row->gone,
			.used = (uint16_t)(row->used < TRIES_ALL ? row->used : TRIES_ALL),
			.deeds = row->deeds,
			.again = row->again
		};
}

bool tries_counts(const struct tries *t, const struct tries_visit *visit)
{
	const struct slot *s = &t->slots[(unsigned)visit->pid % TRIES_SLOTS];

	return visit->number != 0 && s->visit.number == visit->number;
}

void tries_resume(struct tries *t, pid_t pid, struct tries_visit *ret)
{
	struct slot *s = place_of(t, pid);

	*ret = (struct tries_visit){ 0 };
	if (pid <= 0 || s->visit.pid != pid || s->open)
		return;
	s->open = true;
	*ret = s->visit;
}

void tries_leave(struct tries *t, const struct tries_visit *visit)
{
	struct slot *s = find(t, visit);

	if (s)
		s->open = false;
}

bool tries_is_first(struct tries *t, const struct tries_visit *visit)
{
	const struct slot *s = find(t, visit);
	int64_t started = s && !s->again ? t->started(visit->pid) : -ESRCH;

	return started >= 0 && started + TRIES_TICK_MS > later_of(t->born, s->gone);
}
