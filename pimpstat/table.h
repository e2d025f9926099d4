/* Tables: columns that fit the width, rows that are filtered and sorted. Pure. */
#ifndef PIMPSTAT_TABLE_H
#define PIMPSTAT_TABLE_H

#include "pimpstat/page.h"

#define TABLE_COLUMNS 12

struct view_input;

struct column {
	const char *title;
	uint8_t least; /* width */
	uint8_t most;
	uint8_t rank; /* the higher, the sooner it is left out; 0 never is */
	bool right;
	bool descending; /* it is of more use from the greatest on */
};

/* What stands in a cell; also what sorting and filtering look at. */
struct cell {
	struct span foreign; /* foreign text, or */
	char own[80];	     /* ours */
	bool is_number;	     /* sorted by `number` */
	uint64_t number;
	enum style style;
};

struct table {
	const struct column *columns;
	unsigned column_count;
	unsigned sort; /* at first */
	size_t (*rows)(const struct view_input *in);
	void (*cell)(const struct view_input *in, size_t row, unsigned column, struct cell *ret);
	const char *empty; /* what to say when there is no row */
};

/* The columns' widths within `width`, one blank column between two and at the edges; 0: left out.
 * Does not depend on the rows, so that a screen stays calm. */
void table_layout(const struct column *columns, unsigned count, unsigned width,
		  unsigned widths[TABLE_COLUMNS]);

/* The numbers of the rows that match the filter, sorted: *ret is the caller's to free, NULL without
 * memory. Returns how many there are. */
size_t table_select(const struct table *t, const struct view_input *in, size_t **ret);

/* The line of titles, with a mark at the sorted one. */
void table_head(struct page *p, const struct table *t, const struct view_input *in);

/* The rows. */
void table_body(struct page *p, const struct table *t, const struct view_input *in,
		const size_t *rows, size_t count);

#endif
