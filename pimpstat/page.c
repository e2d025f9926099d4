/* Runs of text in the order in which they were written; each knows its place. */
#include "pimpstat/page.h"

#include <stdarg.h>
#include <stdlib.h>

#include "pimpstat/format.h"

#define FOREIGN_COLUMNS 256

void page_init(struct page *p, unsigned width, bool utf8)
{
	*p = (struct page){.width = width, .utf8 = utf8};
}

void page_wipe(struct page *p)
{
	free(p->runs);
	free(p->bytes);
	*p = (struct page){0};
}

void page_region(struct page *p, unsigned base, unsigned skip, unsigned height)
{
	p->base = base;
	p->skip = skip;
	p->height = height;
	p->lines = 0;
	p->column = 0;
}

void page_line(struct page *p)
{
	p->lines++;
	p->column = 0;
}

bool page_is_seen(const struct page *p)
{
	return p->lines > p->skip && p->lines - p->skip <= p->height;
}

unsigned page_columns(const char *text)
{
	unsigned columns = 0;

	for (; *text; text++)
		columns += ((unsigned char)*text & 0xc0) != 0x80;
	return columns;
}

static int make_room(struct page *p, size_t bytes)
{
	if (p->run_count == p->run_cap) {
		size_t cap = p->run_cap * 2 + 64;
		struct run *runs = realloc(p->runs, cap * sizeof(*runs));

		if (!runs)
			return -1;
		p->runs = runs;
		p->run_cap = cap;
	}
	if (bytes > p->cap - p->used) {
		size_t cap = p->cap * 2 + bytes + 1024;
		char *grown = realloc(p->bytes, cap);

		if (!grown)
			return -1;
		p->bytes = grown;
		p->cap = cap;
	}
	return 0;
}

static void add_run(struct page *p, enum style style, const char *text, size_t length,
		    unsigned columns)
{
	if (!page_is_seen(p) || length == 0) {
		p->column += columns;
		return;
	}
	if (make_room(p, length) < 0) {
		p->failed = true;
		return;
	}
	memcpy(p->bytes + p->used, text, length);
	p->runs[p->run_count++] = (struct run){
		.line = p->base + p->lines - p->skip - 1,
		.column = p->column,
		.offset = p->used,
		.length = length,
		.style = style,
	};
	p->used += length;
	p->column += columns;
}

void page_put(struct page *p, enum style style, const char *text)
{
	unsigned room = p->column < p->width ? p->width - p->column : 0, columns = 0;
	size_t length = 0;

	for (; text[length]; length++) {
		unsigned begins = ((unsigned char)text[length] & 0xc0) != 0x80;

		if (columns + begins > room)
			break;
		columns += begins;
	}
	add_run(p, style, text, length, columns);
}

void page_printf(struct page *p, enum style style, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	page_put(p, style, text);
}

void page_put_wrapped(struct page *p, enum style style, const char *text)
{
	struct span rest = span_str(text);
	unsigned begin = p->column;

	while (rest.n > 0) {
		struct span word = span_word(&rest, ' ');

		if (p->column > begin && p->column + 1 + word.n > p->width) {
			page_line(p);
			page_to(p, begin);
		} else if (p->column > begin) {
			page_put(p, style, " ");
		}
		page_printf(p, style, "%.*s", (int)word.n, word.p);
	}
}

void page_to(struct page *p, unsigned column)
{
	if (p->column < column)
		p->column = column;
}

void page_put_right(struct page *p, enum style style, unsigned end, const char *text)
{
	unsigned columns = page_columns(text);

	if (end > p->width)
		end = p->width;
	if (p->column + columns > end)
		return;
	page_to(p, end - columns);
	page_put(p, style, text);
}

void page_put_foreign(struct page *p, enum style style, struct span bytes, unsigned columns)
{
	char text[4 * FOREIGN_COLUMNS + 8];
	unsigned room = p->column < p->width ? p->width - p->column : 0;

	if (columns > room)
		columns = room;
	if (columns > FOREIGN_COLUMNS)
		columns = FOREIGN_COLUMNS;
	if (!page_is_seen(p))
		return;
	columns = format_foreign(bytes, p->utf8, columns, text, sizeof(text));
	add_run(p, style, text, strlen(text), columns);
}

void page_dump(const struct page *p, FILE *out)
{
	unsigned line = 0, column = 0;

	for (size_t i = 0; i < p->run_count; i++) {
		const struct run *r = &p->runs[i];

		for (; line < r->line; line++, column = 0)
			(void)fputc('\n', out);
		if (r->column > column)
			(void)fprintf(out, "%*s", (int)(r->column - column), "");
		(void)fwrite(p->bytes + r->offset, 1, r->length, out);
		column = r->column;
		for (size_t j = 0; j < r->length; j++)
			column += ((unsigned char)p->bytes[r->offset + j] & 0xc0) != 0x80;
	}
	(void)fputc('\n', out);
}
