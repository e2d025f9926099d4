/* What clients were seen to turn on.
 *
 * The keys are HMACs, so their first bytes may choose the set: nobody can aim at another one's.
 */
#include "cachebrokerd/habits.h"

#include <stdlib.h>

struct habit {
	struct key who;
	int64_t seen; /* 0: an empty place */
	bool enables; /* it has turned something on, ever */
	unsigned char plain_turns;
	unsigned char length;
	char text[HABITS_TEXT];
};

_Static_assert(HABITS_TEXT <= 255, "the length is one byte");

struct habits {
	struct habit sets[HABITS_SETS][HABITS_WAYS];
};

struct habits *habits_new(void)
{
	return calloc(1, sizeof(struct habits));
}

void habits_free(struct habits *h)
{
	free(h);
}

static size_t set_of(const struct key *who)
{
	uint32_t n;

	memcpy(&n, who->bytes, sizeof(n));
	return n % HABITS_SETS;
}

static bool is_of(const struct habit *h, const struct key *who, int64_t now)
{
	return h->seen > 0 && now - h->seen < HABITS_MEMORY && key_same(&h->who, who);
}

/* The one of this client, or the place that one would get: an empty one or the one not seen for
 * longest. Which of both, is_of() says. */
static size_t way_of(const struct habit *set, const struct key *who)
{
	size_t oldest = 0;

	for (size_t i = 0; i < HABITS_WAYS; i++) {
		if (set[i].seen > 0 && key_same(&set[i].who, who))
			return i;
		if (set[i].seen < set[oldest].seen)
			oldest = i;
	}
	return oldest;
}

static struct habit *place_of(struct habits *h, const struct key *who)
{
	struct habit *set = h->sets[set_of(who)];

	return &set[way_of(set, who)];
}

struct span habits_find(const struct habits *h, const struct key *who, int64_t now,
			bool *ret_promise)
{
	const struct habit *set = h->sets[set_of(who)];
	const struct habit *one = &set[way_of(set, who)];

	*ret_promise = is_of(one, who, now) && !one->enables;
	return is_of(one, who, now) ? (struct span){ one->text, one->length } : SPAN_NONE;
}

void habits_note(struct habits *h, const struct key *who, struct span fingerprint, int64_t now)
{
	struct habit *one = place_of(h, who);

	if (!is_of(one, who, now))
		*one = (struct habit){ .who = *who };
	one->seen = now > 0 ? now : 1;
	if (fingerprint.n == 0) {
		/* Two programs on one machine may take turns: the one that turns something on finds
		 * its connection, the other one gets a plain one instead. */
		if (one->length > 0 && ++one->plain_turns >= HABITS_TURNS)
			one->length = 0;
		return;
	}
	one->enables = true;
	one->plain_turns = 0;
	one->length = 0;
	if (fingerprint.n <= sizeof(one->text)) {
		memcpy(one->text, fingerprint.p, fingerprint.n);
		one->length = (unsigned char)fingerprint.n;
	}
}

void habits_forget(struct habits *h, const struct key *who)
{
	struct habit *one = place_of(h, who);

	if (one->seen > 0 && key_same(&one->who, who))
		one->seen = 0;
}

bool habits_next(const struct habits *h, size_t *at, struct habits_row *ret)
{
	while (*at < HABITS_SETS * HABITS_WAYS) {
		const struct habit *one = &h->sets[*at / HABITS_WAYS][*at % HABITS_WAYS];

		(*at)++;

		if (one->seen == 0)
			continue;
		*ret = (struct habits_row){ .who = one->who,
					    .seen = one->seen,
					    .enables = one->enables,
					    .plain_turns = one->plain_turns,
					    .fingerprint = { one->text, one->length } };
		return true;
	}
	return false;
}

void habits_restore(struct habits *h, const struct habits_row *row)
{
	struct habit *one = place_of(h, &row->who);

	if (row->seen <= 0 || row->fingerprint.n > HABITS_TEXT)
		return;
	*one = (struct habit){ .who = row->who,
			       .seen = row->seen,
			       .enables = row->enables,
			       .plain_turns = (unsigned char)(row->plain_turns % HABITS_TURNS),
			       .length = (unsigned char)row->fingerprint.n };
	memcpy(one->text, row->fingerprint.p, row->fingerprint.n);
}
