/* A screen as text with styles, before it is painted: views write it, screen.c paints it, tests
 * read it. No terminal in here. */
#ifndef PIMPSTAT_PAGE_H
#define PIMPSTAT_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "lib/span.h"

enum style {
	STYLE_PLAIN,
	STYLE_DIM,
	STYLE_BOLD,
	STYLE_TITLE, /* of a column or a curve */
	STYLE_TAB,   /* the view that is shown */
	STYLE_KEY,
	STYLE_GOOD,
	STYLE_WARN,
	STYLE_BAD,
	STYLE_CURVE,
	STYLE_COUNT,
};

/* Text in one style on one line of the screen. */
struct run {
	unsigned line;
	unsigned column;
	size_t offset; /* in the page's bytes */
	size_t length;
	enum style style;
};

struct page {
	unsigned width;
	bool utf8;
	bool failed; /* no memory: what is missing is missing */
	struct run *runs;
	size_t run_count, run_cap;
	char *bytes;
	size_t used, cap;
	/* where text goes: the lines from `base` on show `height` lines of a region, behind
	 * `skip` ones */
	unsigned base, skip, height;
	unsigned lines;	 /* begun in the region, those that are not seen included */
	unsigned column; /* in the current line */
};

void page_init(struct page *p, unsigned width, bool utf8);
void page_wipe(struct page *p);

/* From now on lines go to a part of the screen that begins at line `base` and shows `height`
 * lines behind the first `skip` ones. */
void page_region(struct page *p, unsigned base, unsigned skip, unsigned height);

/* Begins a line of the region; nothing is written before that. */
void page_line(struct page *p);

/* Is the current line on the screen? What is written elsewhere is dropped. */
bool page_is_seen(const struct page *p);

/* Text of ours, ASCII or glyphs one column wide each; cut at the right edge. */
void page_put(struct page *p, enum style style, const char *text);
void page_printf(struct page *p, enum style style, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The same, right-aligned so that it ends before column `end`; not over what is there. */
void page_put_right(struct page *p, enum style style, unsigned end, const char *text);

/* Foreign bytes, made harmless, at most `columns`. */
void page_put_foreign(struct page *p, enum style style, struct span bytes, unsigned columns);

/* Text of ours, broken at blanks; further lines begin in the column where it begins. */
void page_put_wrapped(struct page *p, enum style style, const char *text);

/* Goes on at this column of the line, if it is not behind it already. */
void page_to(struct page *p, unsigned column);

/* How many columns a text of ours takes. */
unsigned page_columns(const char *text);

/* Writes the page as text without styles, blanks at the lines' ends left out. */
void page_dump(const struct page *p, FILE *out);

#endif
