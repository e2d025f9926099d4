/* Tables. A row is sorted by the cell that is seen; equal ones stay in the order of the model, so
 * that nothing jumps between two looks.
 */
#include "pimpstat/table.h"

#include <stdlib.h>
#include <string.h>

#include "pimpstat/format.h"
#include "pimpstat/view.h"

void table_layout(const struct column *columns, unsigned count, unsigned width,
		  unsigned widths[TABLE_COLUMNS])
{
	unsigned used = 0;

	memset(widths, 0, TABLE_COLUMNS * sizeof(*widths));
	for (unsigned rank = 0; rank < count; rank++) {
		for (unsigned i = 0; i < count; i++) {
			if (columns[i].rank != rank)
				continue;
			if (rank > 0 && used + 1 + columns[i].least + 1 > width)
				continue;
			widths[i] = columns[i].least;
			used += 1 + columns[i].least;
		}
	}
	/* What is left over goes to the important ones first. */
	for (unsigned rank = 0; rank < count; rank++)
		for (unsigned i = 0; i < count; i++)
			while (columns[i].rank == rank && widths[i] > 0 &&
			       widths[i] < columns[i].most && used + 1 < width) {
				widths[i]++;
				used++;
			}
}

static struct span text_of(const struct cell *c)
{
	return c->own[0] != '\0' ? span_str(c->own) : c->foreign;
}

static bool matches(const struct table *t, const struct view_input *in, size_t row)
{
	struct span needle = span_str(in->state->filter);

	if (needle.n == 0)
		return true;
	for (unsigned i = 0; i < t->column_count; i++) {
		struct cell c = {0};

		t->cell(in, row, i, &c);
		if (span_ihas(text_of(&c), needle))
			return true;
	}
	return false;
}

struct keyed {
	size_t row;
	struct cell cell;
};

static int compare_text(struct span a, struct span b)
{
	int r = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);

	return r != 0 ? r : (a.n > b.n) - (a.n < b.n);
}

static int compare(const void *first, const void *second, void *context)
{
	const struct keyed *a = first, *b = second;
	const struct view_state *state = context;
	int r = a->cell.is_number && b->cell.is_number
			? (a->cell.number > b->cell.number) - (a->cell.number < b->cell.number)
			: compare_text(text_of(&a->cell), text_of(&b->cell));

	/* A cell without a number is the least. */
	if (a->cell.is_number != b->cell.is_number)
		r = a->cell.is_number ? 1 : -1;
	if (r != 0)
		return state->reverse ? -r : r;
	return (a->row > b->row) - (a->row < b->row);
}

size_t table_select(const struct table *t, const struct view_input *in, size_t **ret)
{
	size_t rows = t->rows(in), count = 0;
	struct keyed *keyed = calloc(rows + 1, sizeof(*keyed));
	struct view_state state = *in->state;
	size_t *order = calloc(rows + 1, sizeof(*order));

	*ret = order;
	for (size_t row = 0; keyed && order && row < rows; row++) {
		if (!matches(t, in, row))
			continue;
		keyed[count].row = row;
		keyed[count].cell.foreign = SPAN_NONE;
		t->cell(in, row, state.sort, &keyed[count].cell);
		count++;
	}
	if (count > 0)
		qsort_r(keyed, count, sizeof(*keyed), compare, &state);
	for (size_t i = 0; i < count; i++)
		order[i] = keyed[i].row;
	free(keyed);
	return count;
}

void table_head(struct page *p, const struct table *t, const struct view_input *in)
{
	unsigned widths[TABLE_COLUMNS], at = 1;
	const char *mark = in->state->reverse ? (p->utf8 ? "▼" : "v") : p->utf8 ? "▲" : "^";

	table_layout(t->columns, t->column_count, p->width, widths);
	page_line(p);
	for (unsigned i = 0; i < t->column_count; i++) {
		const struct column *c = &t->columns[i];
		bool sorted = i == in->state->sort;
		unsigned room = widths[i], length = page_columns(c->title) + sorted;

		if (room == 0)
			continue;
		/* The mark may stand in the blank between two columns. */
		page_to(p, c->right && length < room ? at + room - length : at);
		page_put(p, sorted ? STYLE_BOLD : STYLE_TITLE, c->title);
		if (sorted)
			page_put(p, STYLE_BOLD, mark);
		at += room + 1;
	}
}

/* A large number in a small column does without its blanks. */
static void squeeze(char *text, unsigned width)
{
	char *to = text;

	if (page_columns(text) <= width)
		return;
	for (; *text; text++)
		if (*text != ' ')
			*to++ = *text;
	*to = '\0';
}

static void draw_cell(struct page *p, const struct column *c, struct cell *cell, unsigned at,
		      unsigned width)
{
	if (cell->is_number)
		squeeze(cell->own, width);
	page_to(p, at);
	if (cell->own[0] == '\0')
		page_put_foreign(p, cell->style, cell->foreign, width);
	else if (c->right && page_columns(cell->own) <= width)
		page_put_right(p, cell->style, at + width, cell->own);
	else
		page_put_foreign(p, cell->style, span_str(cell->own), width);
}

void table_body(struct page *p, const struct table *t, const struct view_input *in,
		const size_t *rows, size_t count)
{
	unsigned widths[TABLE_COLUMNS];

	table_layout(t->columns, t->column_count, p->width, widths);
	for (size_t i = 0; i < count; i++) {
		unsigned at = 1;

		page_line(p);
		for (unsigned j = 0; page_is_seen(p) && j < t->column_count; j++) {
			struct cell cell = {.foreign = SPAN_NONE};

			if (widths[j] == 0)
				continue;
			t->cell(in, rows[i], j, &cell);
			draw_cell(p, &t->columns[j], &cell, at, widths[j]);
			at += widths[j] + 1;
		}
	}
	if (count > 0)
		return;
	page_line(p);
	page_line(p);
	page_put(p, STYLE_DIM, in->state->filter[0] ? "  nothing matches the filter" : t->empty);
}
