/* Three tables of counts with their meanings: why connections were not reused, how sessions ended,
 * and all counters. Their rows are the tables of lib/, so that a new row appears here by itself.
 */
#include <stdio.h>

#include "pimpstat/format.h"
#include "pimpstat/view.h"

struct tally {
	const char *when;
	const char *name;
	const char *meaning;
	uint64_t count;
	uint64_t of; /* the whole it is a share of; 0: of nothing */
};

enum { NAME, COUNT, SHARE, WHEN, MEANING, COLUMNS };

static const struct column columns[COLUMNS] = {
	[NAME] = {.title = "REASON", .least = 14, .most = 16, .rank = 0},
	[COUNT] = {"COUNT", 9, 12, 1, true, true},
	[SHARE] = {"SHARE", 7, 8, 2, true, true},
	[WHEN] = {.title = "WHEN", .least = 11, .most = 12, .rank = 4},
	[MEANING] = {.title = "MEANING", .least = 40, .most = 80, .rank = 3},
};

static const struct column end_columns[COLUMNS] = {
	[NAME] = {.title = "END", .least = 16, .most = 18, .rank = 0},
	[COUNT] = {"COUNT", 9, 12, 1, true, true},
	[SHARE] = {"SHARE", 7, 8, 2, true, true},
	[WHEN] = {.title = "KIND", .least = 6, .most = 7, .rank = 4},
	[MEANING] = {.title = "MEANING", .least = 40, .most = 80, .rank = 3},
};

static const struct column counter_columns[] = {
	[NAME] = {.title = "COUNTER", .least = 19, .most = 24, .rank = 0},
	[COUNT] = {"COUNT", 15, 18, 1, true, true},
	[SHARE] = {.title = "MEANING", .least = 30, .most = 80, .rank = 2},
};

/* What was cached and yet not reused, and when that turned out. */
static const struct {
	enum counter counter;
	const char *when;
	const char *meaning;
} unused_rows[] = {
	{COUNTER_expired, "in cache", "It lay there for too long."},
	{COUNTER_evicted, "in cache", "It made room for another one."},
	{COUNTER_died, "in cache", "The mail host closed it."},
	{COUNTER_flushed, "in cache", "Its mail host closed several at once."},
	{COUNTER_superseded, "in cache", "Its password is not valid any more."},
	{COUNTER_stale, "at reuse", "It was found dead."},
	{COUNTER_offers_swapped, "at reuse", "Its next client wanted another one."},
};
#define UNUSED_ROWS (sizeof(unused_rows) / sizeof(unused_rows[0]))

/* Connections whose session was over: cached ones are counted as given. */
static uint64_t returned(const struct model *m)
{
	uint64_t sum = m->counters[COUNTER_given];

	for (unsigned i = NOT_CACHED_NOTHING + 1; i < NOT_CACHED_COUNT; i++)
		sum += m->not_cached[i];
	return sum;
}

static size_t count_reasons(const struct view_input *in)
{
	(void)in;
	return NOT_CACHED_COUNT + UNUSED_ROWS;
}

static struct tally reason_at(const struct model *m, size_t row)
{
	if (row == NOT_CACHED_NOTHING)
		return (struct tally){"session end", not_cached_word(NOT_CACHED_NOTHING),
				      "It can be reused.",
				      m->counters[COUNTER_given], returned(m)};
	if (row < NOT_CACHED_COUNT)
		return (struct tally){"session end", not_cached_word((unsigned)row),
				      model_not_cached_meanings[row], m->not_cached[row],
				      returned(m)};
	row -= NOT_CACHED_COUNT;
	enum counter c = unused_rows[row].counter;

	return (struct tally){unused_rows[row].when, model_counter_names[c],
			      unused_rows[row].meaning, m->counters[c],
			      m->counters[COUNTER_given]};
}

static size_t count_ends(const struct view_input *in)
{
	(void)in;
	return END_COUNT;
}

static struct tally end_at(const struct model *m, size_t row)
{
	struct tally t = {end_is_error((unsigned)row) ? "error" : "normal", end_word((unsigned)row),
			  model_end_meanings[row], m->ends[row], 0};

	for (size_t i = 0; i < END_COUNT; i++)
		t.of += m->ends[i];
	return t;
}

static size_t count_counters(const struct view_input *in)
{
	(void)in;
	return COUNTER_COUNT;
}

static void set_tally(const struct tally *t, unsigned column, struct cell *c)
{
	c->style = t->count == 0 ? STYLE_DIM : STYLE_PLAIN;
	switch (column) {
	case NAME:
		c->foreign = span_str(t->name);
		break;
	case COUNT:
		format_count(t->count, c->own, sizeof(c->own));
		c->is_number = true;
		c->number = t->count;
		break;
	case SHARE:
		format_share(t->count, t->of, c->own, sizeof(c->own));
		c->is_number = true;
		c->number = t->of > 0 ? (uint64_t)((double)t->count * 1e6 / (double)t->of) : 0;
		break;
	case WHEN:
		c->foreign = span_str(t->when);
		break;
	case MEANING:
		c->foreign = span_str(t->meaning);
		break;
	}
}

static void reason_cell(const struct view_input *in, size_t row, unsigned column, struct cell *c)
{
	struct tally t = reason_at(in->m, row);

	set_tally(&t, column, c);
	if (column == WHEN) { /* in the order of a connection's life */
		c->is_number = true;
		c->number = row;
	}
	if (row == NOT_CACHED_NOTHING && column == NAME && t.count > 0)
		c->style = STYLE_GOOD;
}

static void end_cell(const struct view_input *in, size_t row, unsigned column, struct cell *c)
{
	struct tally t = end_at(in->m, row);

	set_tally(&t, column, c);
	if (column == WHEN && t.count > 0)
		c->style = end_is_error((unsigned)row) ? STYLE_WARN : STYLE_GOOD;
}

static void counter_cell(const struct view_input *in, size_t row, unsigned column, struct cell *c)
{
	struct tally t = {.name = model_counter_names[row],
			  .meaning = model_counter_meanings[row],
			  .count = in->m->counters[row]};

	set_tally(&t, column == SHARE ? MEANING : column, c);
}

const struct table reasons_table = {.columns = columns,
				    .column_count = COLUMNS,
				    .sort = WHEN,
				    .rows = count_reasons,
				    .cell = reason_cell,
				    .empty = ""};
const struct table ends_table = {.columns = end_columns,
				 .column_count = COLUMNS,
				 .sort = COUNT,
				 .rows = count_ends,
				 .cell = end_cell,
				 .empty = ""};
const struct table counters_table = {.columns = counter_columns,
				     .column_count = sizeof(counter_columns) /
						     sizeof(counter_columns[0]),
				     .sort = NAME,
				     .rows = count_counters,
				     .cell = counter_cell,
				     .empty = ""};
