/* The first view: what the old program's screen shows, under the same names, and the curves. What
 * matters most comes first, since on a low terminal the rest is behind a key.
 */
#include <inttypes.h>
#include <stdio.h>

#include "pimpstat/format.h"
#include "pimpstat/history.h"
#include "pimpstat/view.h"

#define WIDE	    76 /* columns for two columns of totals */
#define TALL	    34 /* lines for high curves */
#define LOW	    16 /* with fewer lines there are no blank ones */
#define OLD_END	    46 /* where the old program's figures end */
#define MORE_BEGIN  50
#define MORE_END    77
#define NARROW_END  39
#define CURVE_TITLE 8
#define FEW	    8

static void blank(struct page *p, const struct view_input *in)
{
	if (in->height >= LOW)
		page_line(p);
}

static void draw_gauges(struct page *p, const struct view_input *in)
{
	static const char *const labels[GAUGE_COUNT] = {
		[GAUGE_clients] = "client connections",
		[GAUGE_active] = "active server connections",
		[GAUGE_cached] = "cached server connections",
		[GAUGE_spares] = "spare server connections",
		[GAUGE_tls_workers] = "processes of tlsrelayd",
		[GAUGE_tls_connections] = "TLS connections",
	};
	bool wide = p->width >= WIDE;
	unsigned current = wide ? 34 : 32, peak = wide ? OLD_END : NARROW_END;
	char text[32];

	page_line(p);
	page_put_right(p, STYLE_TITLE, current, wide ? "current" : "now");
	page_put_right(p, STYLE_TITLE, peak, "peak");
	for (size_t i = 0; i < GAUGE_COUNT; i++) {
		if (i > GAUGE_cached && in->m->peaks[i].value == 0)
			continue; /* of what this site has not turned on */
		page_line(p);
		page_to(p, 1);
		page_put(p, STYLE_PLAIN, labels[i] ? labels[i] : model_gauge_names[i]);
		format_count(in->m->gauges[i], text, sizeof(text));
		page_put_right(p, STYLE_BOLD, current, text);
		format_count(in->m->peaks[i].value, text, sizeof(text));
		page_put_right(p, STYLE_PLAIN, peak, text);
		if (!wide || in->m->peaks[i].when <= 0)
			continue;
		format_time(in->m->peaks[i].when, text, sizeof(text));
		page_to(p, MORE_BEGIN);
		page_put(p, STYLE_DIM, text);
	}
}

/* A curve of one row behind its title, with a figure in front. */
static void draw_row(struct page *p, const struct curve *c, const char *title, enum style style,
		     uint32_t full, const char *figure)
{
	page_line(p);
	page_to(p, 1);
	page_put(p, STYLE_TITLE, title);
	page_to(p, 1 + CURVE_TITLE);
	history_draw(p, c, style, full, 1, 0);
	if (*figure && p->column + 1 + page_columns(figure) < p->width) {
		page_to(p, p->column + 1);
		page_put(p, STYLE_BOLD, figure);
	}
}

static void draw_high(struct page *p, const struct curve *c, unsigned rows)
{
	char most[32], right[80];

	page_line(p);
	page_to(p, 1);
	page_put(p, STYLE_TITLE, "logins");
	format_count(c->most, most, sizeof(most));
	(void)snprintf(right, sizeof(right), "at most %s in %d s", most, STATEFILE_STEP_SECONDS);
	page_to(p, 1 + CURVE_TITLE);
	page_put(p, STYLE_DIM, right);
	for (unsigned row = rows; row > 0; row--) {
		page_line(p);
		page_to(p, 1 + CURVE_TITLE);
		history_draw(p, c, STYLE_CURVE, c->most, rows, row - 1);
	}
}

static void draw_axis(struct page *p, unsigned steps)
{
	page_line(p);
	page_to(p, 1 + CURVE_TITLE);
	page_printf(p, STYLE_DIM, "%u min ago", steps * STATEFILE_STEP_SECONDS / 60);
	page_put_right(p, STYLE_DIM, 1 + CURVE_TITLE + steps, "now");
}

static void draw_curves(struct page *p, const struct view_input *in)
{
	unsigned room = p->width > CURVE_TITLE + 2 + 8 ? p->width - CURVE_TITLE - 2 - 8 : 1;
	/* whole minutes, where there is room for some */
	unsigned steps = room < STATEFILE_STEPS ? room : STATEFILE_STEPS;
	const struct statefile_history *h = &in->m->history;
	struct curve c;
	uint64_t logins, reused;
	char figure[32];

	if (steps > 12)
		steps -= steps % 6;
	history_curve(h, HISTORY_LOGINS, in->now, in->m->reset, steps, &c);
	(void)snprintf(figure, sizeof(figure), "%" PRIu32, c.last);
	if (in->height < LOW)
		draw_row(p, &c, "logins", STYLE_CURVE, c.most, figure);
	else
		draw_high(p, &c, in->height >= TALL ? 8 : 3);
	history_curve(h, HISTORY_REUSE, in->now, in->m->reset, steps, &c);
	history_sum(h, in->now, steps, &logins, &reused);
	format_share(reused, logins, figure, sizeof(figure));
	draw_row(p, &c, "reused", STYLE_GOOD, 1000, figure);
	history_curve(h, HISTORY_FAILED, in->now, in->m->reset, steps, &c);
	format_count(c.sum, figure, sizeof(figure));
	/* a few are shown as few, not as a mountain */
	draw_row(p, &c, "failed", STYLE_BAD, c.most > FEW ? c.most : FEW, figure);
	if (in->height >= LOW)
		draw_axis(p, steps);
}

struct total {
	const char *label;
	char text[32];
};

/* The column of the old program, with its words. */
static unsigned old_totals(const struct model *m, bool wide, struct total *ret)
{
	static const struct {
		const char *label;
		enum counter counter;
	} rows[] = {
		{"client connections accepted", COUNTER_clients},
		{"client logins", COUNTER_logins},
		{"server connections created", COUNTER_logins_fresh},
		{"server connection reuses", COUNTER_logins_reused},
	};
	uint64_t logins = m->counters[COUNTER_logins], made = m->counters[COUNTER_logins_fresh];
	unsigned n = 0;

	for (; n < sizeof(rows) / sizeof(rows[0]); n++) {
		ret[n].label = rows[n].label;
		format_count(m->counters[rows[n].counter], ret[n].text, sizeof(ret[n].text));
	}
	ret[n].label = wide ? "client login to server login ratio" : "client : server login ratio";
	if (made > 0)
		(void)snprintf(ret[n].text, sizeof(ret[n].text), "%.2f : 1",
			       (double)logins / (double)made);
	else
		(void)snprintf(ret[n].text, sizeof(ret[n].text), "N/A");
	n++;
	ret[n].label = "SELECT cache";
	(void)snprintf(ret[n].text, sizeof(ret[n].text), "%" PRIu64 " of %" PRIu64,
		       m->counters[COUNTER_select_hits],
		       m->counters[COUNTER_select_hits] + m->counters[COUNTER_select_misses]);
	return n + 1;
}

static unsigned more_totals(const struct model *m, struct total *ret)
{
	static const struct {
		const char *label;
		enum counter counter;
	} rows[] = {
		{"logins refused", COUNTER_logins_refused},
		{"logins failed", COUNTER_logins_failed},
		{"clients refused", COUNTER_clients_refused},
		{"mail host was down", COUNTER_dials_failed},
	};
	unsigned n = 0;

	for (; n < sizeof(rows) / sizeof(rows[0]); n++) {
		ret[n].label = rows[n].label;
		format_count(m->counters[rows[n].counter], ret[n].text, sizeof(ret[n].text));
	}
	ret[n].label = "from clients";
	format_bytes(m->counters[COUNTER_bytes_from_clients], ret[n].text, sizeof(ret[n].text));
	ret[++n].label = "from mail hosts";
	format_bytes(m->counters[COUNTER_bytes_from_backends], ret[n].text, sizeof(ret[n].text));
	return n + 1;
}

static void draw_total(struct page *p, const struct total *t, unsigned at, unsigned end)
{
	page_to(p, at);
	page_put(p, STYLE_PLAIN, t->label);
	page_put_right(p, STYLE_BOLD, end, t->text);
}

static void draw_totals(struct page *p, const struct view_input *in)
{
	struct total left[8], right[8];
	bool wide = p->width >= WIDE;
	unsigned lefts = old_totals(in->m, wide, left), rights = more_totals(in->m, right);
	unsigned end = wide ? OLD_END : NARROW_END;

	for (unsigned i = 0; i < lefts || (wide && i < rights); i++) {
		page_line(p);
		if (i < lefts)
			draw_total(p, &left[i], 1, end);
		if (wide && i < rights)
			draw_total(p, &right[i], MORE_BEGIN, MORE_END);
	}
	for (unsigned i = 0; !wide && i < rights; i++) {
		page_line(p);
		draw_total(p, &right[i], 1, end);
	}
}

static void draw_times(struct page *p, const struct view_input *in)
{
	const struct {
		const char *label;
		int64_t when;
	} rows[] = {
		{"Server Start Time:", in->m->started},
		{"Last Counter Reset Time:", in->m->reset},
	};
	char text[32];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		format_time(rows[i].when, text, sizeof(text));
		page_line(p);
		page_to(p, 1);
		page_put(p, STYLE_DIM, rows[i].label);
		/* The longest line in all: on a narrow terminal it takes two. */
		if (p->width < 50)
			page_line(p);
		page_to(p, p->width < 50 ? 3 : 26);
		page_put(p, STYLE_DIM, text);
	}
}

void view_overview(struct page *p, const struct view_input *in)
{
	draw_gauges(p, in);
	blank(p, in);
	draw_curves(p, in);
	blank(p, in);
	draw_totals(p, in);
	if (in->height >= TALL)
		page_line(p);
	draw_times(p, in);
}
