/* The views and what they are drawn from. */
#ifndef PIMPSTAT_VIEW_H
#define PIMPSTAT_VIEW_H

#include "pimpstat/model.h"
#include "pimpstat/page.h"
#include "pimpstat/table.h"

#define VIEW_FILTER_MAX 64

/* What the person at the keyboard has chosen for a view. */
struct view_state {
	unsigned sort; /* a column */
	bool reverse;
	unsigned offset;
	char filter[VIEW_FILTER_MAX];
};

struct view_input {
	const struct model *m;
	int64_t now; /* seconds since 1970: of the figures, if no broker runs */
	unsigned height;
	const struct view_state *state;
};

struct view {
	const char *title;
	const char *short_title;
	/* a view is either a table or a text */
	const struct table *table;
	void (*draw)(struct page *p, const struct view_input *in);
};

enum { VIEW_COUNT = 6 };
extern const struct view views[VIEW_COUNT];

extern const struct table sessions_table, hosts_table, reasons_table, ends_table, counters_table;

/* The first view: gauges, curves and totals. */
void view_overview(struct page *p, const struct view_input *in);

/* What the keys do. */
void view_help(struct page *p, const struct view_input *in);

#endif
