/* The mail hosts: do they answer, how many connections, how many logins. */
#include <inttypes.h>
#include <stdio.h>

#include "pimpstat/format.h"
#include "pimpstat/view.h"

enum {
	HOST,
	STATE,
	ACTIVE,
	CACHED,
	LOGINS,
	REUSE,
	REFUSED,
	FAILED,
	DIALS,
	LAST,
	TOOK,
	ERROR,
	COLUMNS
};

static const struct column columns[COLUMNS] = {
	[HOST] = {.title = "HOST", .least = 19, .most = 40, .rank = 0},
	[STATE] = {.title = "STATE", .least = 5, .most = 5, .rank = 1},
	[ACTIVE] = {"ACTIVE", 6, 8, 2, true, true},
	[CACHED] = {"CACHED", 6, 8, 3, true, true},
	[LOGINS] = {"LOGINS", 8, 11, 4, true, true},
	[REUSE] = {"REUSED", 7, 8, 5, true, true},
	[REFUSED] = {"REFUSED", 7, 9, 6, true, true},
	[FAILED] = {"FAILED", 6, 9, 7, true, true},
	[DIALS] = {"DOWN", 5, 9, 8, true, true},
	[LAST] = {"LAST DOWN", 11, 12, 9, true, false},
	[TOOK] = {"CONNECT", 9, 10, 10, true, true},
	[ERROR] = {.title = "LAST ERROR", .least = 36, .most = 80, .rank = 11},
};

static size_t count_rows(const struct view_input *in)
{
	return in->m->host_count;
}

static void set_count(struct cell *c, uint64_t count, enum style unless_zero)
{
	c->is_number = true;
	c->number = count;
	c->style = count == 0 ? STYLE_DIM : unless_zero;
	format_count(count, c->own, sizeof(c->own));
}

static void set_reuse(struct cell *c, const struct statefile_host *f)
{
	uint64_t logins = f->logins_fresh + f->logins_reused;

	format_share(f->logins_reused, logins, c->own, sizeof(c->own));
	if (logins == 0)
		return;
	c->is_number = true;
	c->number = (uint64_t)((double)f->logins_reused * 1e6 / (double)logins);
}

static void set_last(struct cell *c, const struct statefile_host *f, int64_t now)
{
	char age[32];

	(void)snprintf(c->own, sizeof(c->own), "-");
	if (f->failed_at <= 0)
		return;
	format_age(now - f->failed_at, age, sizeof(age));
	(void)snprintf(c->own, sizeof(c->own), "%s ago", age);
	c->is_number = true;
	c->number = now > f->failed_at ? (uint64_t)(now - f->failed_at) : 0;
}

/* How long it takes to connect to it. */
static void set_took(struct cell *c, const struct statefile_host *f)
{
	(void)snprintf(c->own, sizeof(c->own), "-");
	if (f->dials == 0)
		return;
	c->is_number = true;
	c->number = f->dial_average;
	(void)snprintf(c->own, sizeof(c->own), "%.1f ms", (double)f->dial_average / 1000);
}

static void get_cell(const struct view_input *in, size_t row, unsigned column, struct cell *c)
{
	const struct model_host *h = &in->m->hosts[row];
	const struct statefile_host *f = &h->figures;

	switch (column) {
	case HOST:
		c->foreign = h->name;
		break;
	case STATE:
		(void)snprintf(c->own, sizeof(c->own), "%s", model_host_word(f->state));
		c->style = f->state == STATEFILE_HOST_UP	? STYLE_GOOD
			   : f->state == STATEFILE_HOST_DOWN	? STYLE_BAD
			   : f->state == STATEFILE_HOST_UNKNOWN ? STYLE_DIM
								: STYLE_WARN;
		break;
	case ACTIVE:
		set_count(c, f->active, STYLE_PLAIN);
		break;
	case CACHED:
		set_count(c, f->cached, STYLE_PLAIN);
		break;
	case LOGINS:
		set_count(c, f->logins_fresh + f->logins_reused, STYLE_PLAIN);
		break;
	case REUSE:
		set_reuse(c, f);
		break;
	case REFUSED:
		set_count(c, f->logins_refused, STYLE_PLAIN);
		break;
	case FAILED:
		set_count(c, f->logins_failed, STYLE_WARN);
		break;
	case DIALS:
		set_count(c, f->dials_failed, STYLE_WARN);
		break;
	case LAST:
		set_last(c, f, in->now);
		break;
	case TOOK:
		set_took(c, f);
		break;
	case ERROR:
		c->foreign = (struct span){f->error, f->error_length};
		break;
	}
}

const struct table hosts_table = {
	.columns = columns,
	.column_count = COLUMNS,
	.sort = HOST,
	.rows = count_rows,
	.cell = get_cell,
	.empty = "  no mail host has been used yet",
};
