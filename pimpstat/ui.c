/* Three lines frame a view: who we are, the views, and at the bottom the keys. The body between
 * them is drawn whole and shown from the line on that the person has scrolled to.
 */
#include "pimpstat/ui.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pimpstat/format.h"

#define HEADER_LEAST 8 /* lines on the screen for header and tabs to be shown */
#define ESCAPE	     27
#define CONTROL_L    12
#define CONTROL_U    21

const struct view views[VIEW_COUNT] = {
	{.title = "Overview", .short_title = "All", .draw = view_overview},
	{.title = "Sessions", .short_title = "Sess", .table = &sessions_table},
	{.title = "Hosts", .short_title = "Host", .table = &hosts_table},
	{.title = "Not reused", .short_title = "Why", .table = &reasons_table},
	{.title = "Ends", .short_title = "Ends", .table = &ends_table},
	{.title = "Counters", .short_title = "Cnt", .table = &counters_table},
};

static void choose_sort(struct view_state *s, const struct table *t, unsigned column)
{
	s->sort = column;
	s->reverse = t->columns[column].descending;
	s->offset = 0;
}

void ui_init(struct ui *ui, bool utf8)
{
	*ui = (struct ui){.utf8 = utf8, .width = 80, .height = 24};
	for (unsigned i = 0; i < VIEW_COUNT; i++)
		if (views[i].table)
			choose_sort(&ui->states[i], views[i].table, views[i].table->sort);
}

void ui_resize(struct ui *ui, unsigned width, unsigned height)
{
	ui->width = width;
	ui->height = height;
}

static struct view_state *state_of(struct ui *ui)
{
	return ui->help ? &ui->help_state : &ui->states[ui->view];
}

static const struct table *table_of(const struct ui *ui)
{
	return ui->help ? NULL : views[ui->view].table;
}

/* --- keys --- */

static void show(struct ui *ui, unsigned view)
{
	ui->view = view % VIEW_COUNT;
	ui->help = false;
}

static void type_filter(struct ui *ui, int key)
{
	struct view_state *s = state_of(ui);
	size_t n = strlen(s->filter);

	s->offset = 0;
	if (key == '\r' || key == '\n') {
		ui->typing = false;
	} else if (key == ESCAPE) {
		ui->typing = false;
		s->filter[0] = '\0';
	} else if (key == CONTROL_U) {
		s->filter[0] = '\0';
	} else if (key == UI_KEY_BACKSPACE || key == '\b' || key == 0x7f) {
		/* a whole character of UTF-8 */
		while (n > 0 && ui->utf8 && ((unsigned char)s->filter[n - 1] & 0xc0) == 0x80)
			n--;
		if (n > 0)
			n--;
		s->filter[n] = '\0';
	} else if (key >= ' ' && key <= 0xff && n + 1 < sizeof(s->filter)) {
		s->filter[n] = (char)key;
		s->filter[n + 1] = '\0';
	}
}

/* A view's sort column, by `step` columns further. */
static void move_sort(struct ui *ui, unsigned step)
{
	const struct table *t = table_of(ui);
	struct view_state *s = state_of(ui);
	unsigned widths[TABLE_COLUMNS];

	if (!t)
		return;
	table_layout(t->columns, t->column_count, ui->width, widths);
	do {
		choose_sort(s, t, (s->sort + step) % t->column_count);
	} while (widths[s->sort] == 0);
}

static void scroll(struct ui *ui, int key)
{
	struct view_state *s = state_of(ui);
	unsigned page = ui->seen > 1 ? ui->seen - 1 : 1;

	if (key == UI_KEY_DOWN || key == 'j')
		s->offset++;
	else if (key == UI_KEY_UP || key == 'k')
		s->offset -= s->offset > 0;
	else if (key == UI_KEY_PAGE_DOWN || key == ' ')
		s->offset += page;
	else if (key == UI_KEY_PAGE_UP || key == 'b')
		s->offset -= s->offset < page ? s->offset : page;
	else if (key == UI_KEY_HOME || key == 'g')
		s->offset = 0;
	else if (key == UI_KEY_END || key == 'G')
		s->offset = ui->lines;
}

void ui_press(struct ui *ui, int key)
{
	struct view_state *s = state_of(ui);

	if (ui->typing) {
		type_filter(ui, key);
		return;
	}
	if (key >= '1' && key < '1' + VIEW_COUNT) {
		show(ui, (unsigned)(key - '1'));
		return;
	}
	switch (key) {
	case 'q':
		ui->quit = true;
		return;
	case '?':
	case 'h':
		ui->help = !ui->help;
		return;
	case ESCAPE:
		ui->help = false;
		s->filter[0] = '\0';
		return;
	case '\t':
	case UI_KEY_RIGHT:
		show(ui, ui->view + 1);
		return;
	case UI_KEY_BACK_TAB:
	case UI_KEY_LEFT:
		show(ui, ui->view + VIEW_COUNT - 1);
		return;
	case '/':
		ui->typing = table_of(ui) != NULL;
		return;
	case 's':
		move_sort(ui, 1);
		return;
	case 'S':
		move_sort(ui, table_of(ui) ? table_of(ui)->column_count - 1 : 0);
		return;
	case 'r':
		s->reverse = !s->reverse;
		return;
	}
	scroll(ui, key);
}

/* --- the page --- */

static void draw_header(const struct ui *ui, struct page *p, const struct model *m, int64_t now)
{
	char uptime[32], clock[32], right[80];
	bool running = m && model_is_running(m, now);
	enum style style = running ? STYLE_GOOD : STYLE_BAD;

	page_line(p);
	page_to(p, 1);
	page_put(p, STYLE_BOLD, "Keepwarm ");
	if (m && (running || p->width >= 50)) /* else the time of the figures takes its place */
		page_put_foreign(p, STYLE_BOLD, span_str(m->version), 12);
	page_put(p, style, ui->utf8 ? (running ? "  ● " : "  ○ ") : running ? "  * " : "  o ");
	if (!m) {
		page_put(p, style, "no figures");
	} else if (running) {
		page_put(p, style, "running");
		format_duration(now - m->started, uptime, sizeof(uptime));
		if (p->width >= 50)
			page_printf(p, STYLE_PLAIN, "  up %s", uptime);
	} else {
		page_put(p, style, "no broker runs");
	}
	format_time(m && !running ? m->heartbeat : now, clock, sizeof(clock));
	(void)snprintf(right, sizeof(right), "%s%s", m && !running ? "figures of " : "", clock);
	page_put_right(p, m && !running ? STYLE_WARN : STYLE_DIM, ui->width - 1, right);
	/* Only the time of day where the date does not fit. */
	if (p->column < ui->width - 1 && strlen(clock) > 11)
		page_put_right(p, m && !running ? STYLE_WARN : STYLE_DIM, ui->width - 1,
			       clock + 11);
}

static void draw_tabs(const struct ui *ui, struct page *p)
{
	bool wide = ui->width >= 72;

	page_line(p);
	for (unsigned i = 0; i < VIEW_COUNT; i++) {
		bool current = i == ui->view && !ui->help;
		const char *title = wide ? views[i].title : views[i].short_title;

		if (wide && i > 0)
			page_put(p, STYLE_PLAIN, " ");
		if (wide || !current)
			page_printf(p, current ? STYLE_TAB : STYLE_KEY, wide ? " %u" : "%u", i + 1);
		page_printf(p, current ? STYLE_TAB : STYLE_PLAIN, wide || current ? " %s " : "%s ",
			    title);
	}
}

static void draw_keys(struct page *p, unsigned end, const struct ui *ui)
{
	/* the most important first; those that do not fit are left out */
	static const struct {
		const char *key;
		const char *what;
		bool table_only, more_only;
	} keys[] = {
		{"q", "quit", false, false},	{"?", "help", false, false},
		{"PgDn", "more", false, true},	{"/", "filter", true, false},
		{"s", "sort", true, false},	{"1-6", "view", false, false},
		{"r", "reverse", true, false},
	};

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		unsigned columns = page_columns(keys[i].key) + 1 + page_columns(keys[i].what) + 1;

		if ((keys[i].table_only && !table_of(ui)) ||
		    (keys[i].more_only && ui->lines <= ui->seen))
			continue;
		if (p->column + 1 + columns > end)
			break;
		page_to(p, p->column + 1);
		page_put(p, STYLE_KEY, keys[i].key);
		page_put(p, STYLE_DIM, " ");
		page_put(p, STYLE_DIM, keys[i].what);
		page_to(p, p->column + 1);
	}
}

/* "3 of 240": the rows of a table that match; "1-17/240": what is seen of what there is. */
static void say_place(const struct ui *ui, const struct view_state *s, char *text, size_t cap)
{
	unsigned last = s->offset + ui->seen < ui->lines ? s->offset + ui->seen : ui->lines;

	text[0] = '\0';
	if (ui->lines > ui->seen)
		(void)snprintf(text, cap, "%u-%u/%u", s->offset + 1, last, ui->lines);
}

static void draw_footer(struct ui *ui, struct page *p)
{
	const struct view_state *s = state_of(ui);
	char place[64], filter[4 * 24 + 8], text[256];

	page_line(p);
	if (ui->typing) {
		page_to(p, 1);
		page_put(p, STYLE_KEY, "/");
		page_put_foreign(p, STYLE_BOLD, span_str(s->filter),
				 ui->width > 32 ? ui->width - 32 : 8);
		page_put(p, STYLE_TAB, " ");
		page_put_right(p, STYLE_DIM, ui->width - 1, "Enter keeps it, Esc drops it");
		return;
	}
	say_place(ui, s, place, sizeof(place));
	(void)snprintf(text, sizeof(text), "%s", place);
	if (s->filter[0] && table_of(ui)) {
		(void)format_foreign(span_str(s->filter), ui->utf8, 24, filter, sizeof(filter));
		(void)snprintf(text, sizeof(text), "/%s %zu%s%s", filter, ui->all,
			       *place ? "  " : "", place);
	}
	unsigned end = ui->width - 1, columns = page_columns(text);

	draw_keys(p, columns > 0 && columns + 2 < end ? end - columns - 1 : end, ui);
	page_put_right(p, s->filter[0] ? STYLE_WARN : STYLE_DIM, end, text);
}

/* `trouble` names a file of the configuration's: bytes that were not looked at. */
static void draw_trouble(struct page *p, const char *trouble)
{
	char text[512];

	(void)format_foreign(span_str(trouble), false, sizeof(text) - 8, text, sizeof(text));
	page_line(p);
	page_line(p);
	page_to(p, 2);
	page_put_wrapped(p, STYLE_WARN, text);
	page_line(p);
	page_line(p);
	page_to(p, 2);
	page_put_wrapped(p, STYLE_DIM, "Looking again every second.");
}

/* Draws the body twice if it turns out to be scrolled too far. */
static void draw_body(struct ui *ui, struct page *p, const struct view_input *in, unsigned base)
{
	const struct table *t = table_of(ui);
	struct view_state *s = state_of(ui);
	size_t *rows = NULL, count = t ? table_select(t, in, &rows) : 0;
	size_t runs = p->run_count;

	for (int i = 0; i < 2; i++) {
		p->run_count = runs;
		page_region(p, base, s->offset, in->height);
		if (t)
			table_body(p, t, in, rows, rows ? count : 0);
		else if (ui->help)
			view_help(p, in);
		else
			views[ui->view].draw(p, in);
		unsigned most = p->lines > in->height ? p->lines - in->height : 0;

		if (s->offset <= most)
			break;
		s->offset = most;
	}
	ui->lines = p->lines;
	ui->seen = in->height;
	ui->all = count;
	free(rows);
}

void ui_draw(struct ui *ui, const struct model *m, const char *trouble, int64_t now, struct page *p)
{
	bool framed = ui->height >= HEADER_LEAST;
	unsigned base = framed ? 2 : 0;
	struct view_input in = {.m = m, .state = state_of(ui)};

	page_init(p, ui->width, ui->utf8);
	in.now = m && !model_is_running(m, now) ? m->heartbeat : now;
	page_region(p, 0, 0, base);
	draw_header(ui, p, m, now);
	draw_tabs(ui, p);
	if (m && table_of(ui)) {
		page_region(p, base++, 0, 1);
		table_head(p, table_of(ui), &in);
	}
	in.height = ui->height > base + 1 ? ui->height - base - 1 : 0;
	if (m || ui->help) {
		draw_body(ui, p, &in, base);
	} else {
		page_region(p, base, 0, in.height);
		draw_trouble(p, trouble ? trouble : "There are no figures yet.");
		ui->lines = ui->seen = 0;
	}
	page_region(p, ui->height - 1, 0, 1);
	draw_footer(ui, p);
}
