/* pimpstat's screen without a terminal: formats, curves, columns, tables, and what keys do. */
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "pimpstat/format.h"
#include "pimpstat/history.h"
#include "pimpstat/ui.h"

#define NOW 1700000005

static char *dump;
static size_t dump_length;
static struct model_session sessions[3];
static struct model_host hosts[2];

static struct model some_model(void)
{
	struct model m = {
		.version = "0.1.0",
		.started = NOW - 90061,
		.reset = NOW - 300,
		.heartbeat = NOW - 1,
		.sessions = sessions,
		.session_count = 3,
		.hosts = hosts,
		.host_count = 2,
	};

	m.counters[COUNTER_logins] = 8;
	m.counters[COUNTER_logins_reused] = 5;
	m.counters[COUNTER_logins_fresh] = 3;
	m.counters[COUNTER_given] = 4;
	m.gauges[GAUGE_active] = 2;
	m.peaks[GAUGE_active] = (struct statefile_peak){12, NOW - 3600};
	m.not_cached[NOT_CACHED_VERB] = 4;
	m.ends[END_LOGOUT] = 6;
	m.history.newest = NOW / STATEFILE_STEP_SECONDS;
	sessions[0] = (struct model_session){.id = 1,
					     .state = STATEFILE_ACTIVE,
					     .since = NOW - 65,
					     .user = SPAN("carol"),
					     .client = SPAN("192.0.2.1:4711"),
					     .host = SPAN("mail.example:143")};
	sessions[1] = (struct model_session){.id = 2,
					     .state = STATEFILE_CACHED,
					     .since = NOW - 5,
					     .user = SPAN("alice"),
					     .client = SPAN(""),
					     .host = SPAN("mail.example:143"),
					     .has_bytes = true,
					     .from_backend = 1500};
	sessions[2] = (struct model_session){.id = 3,
					     .state = STATEFILE_ACTIVE,
					     .since = NOW - 4000,
					     .user = SPAN("b\x1b]0;x\x07\xff\xe2\x80\xae"),
					     .client = SPAN("[2001:db8::1]:4711"),
					     .host = SPAN("other.example:143")};
	hosts[0] = (struct model_host){.name = SPAN("mail.example:143"),
				       .figures = {.state = STATEFILE_HOST_UP}};
	hosts[1] = (struct model_host){.name = SPAN("other.example:143"),
				       .figures = {.state = STATEFILE_HOST_DOWN,
						   .failed_at = NOW - 61}};
	return m;
}

/* What the screen shows; each line within its width. */
static const char *draw(struct ui *ui, const struct model *m, const char *trouble)
{
	struct page p;

	free(dump);
	dump = NULL;
	FILE *out = open_memstream(&dump, &dump_length);

	assert_non_null(out);
	ui_draw(ui, m, trouble, NOW, &p);
	for (size_t i = 0; i < p.run_count; i++) {
		const struct run *r = &p.runs[i];

		assert_true(r->line < ui->height);
		assert_true(r->column < ui->width);
		for (size_t j = 0; j < r->length; j++) {
			unsigned char c = (unsigned char)p.bytes[r->offset + j];

			assert_true(c >= ' ' && c != 0x7f && (ui->utf8 || c < 0x7f));
		}
	}
	page_dump(&p, out);
	page_wipe(&p);
	assert_int_equal(fclose(out), 0);
	return dump;
}

static struct ui some_ui(unsigned width, unsigned height)
{
	struct ui ui;

	ui_init(&ui, true);
	ui_resize(&ui, width, height);
	return ui;
}

static void press(struct ui *ui, const char *text)
{
	for (; *text; text++)
		ui_press(ui, (unsigned char)*text);
}

#define assert_has(text, part)                                                                     \
	do {                                                                                       \
		if (!strstr(text, part))                                                           \
			fail_msg("'%s' is missing in:\n%s", part, text);                           \
	} while (0)

#define assert_order(text, first, second)                                                          \
	do {                                                                                       \
		assert_has(text, first);                                                           \
		assert_has(text, second);                                                          \
		if (strstr(text, first) > strstr(text, second))                                    \
			fail_msg("'%s' is behind '%s' in:\n%s", first, second, text);              \
	} while (0)

/* --- formats --- */

static const char *bytes_text(uint64_t bytes)
{
	static char text[32];

	format_bytes(bytes, text, sizeof(text));
	return text;
}

static const char *age_text(int64_t seconds)
{
	static char text[32];

	format_age(seconds, text, sizeof(text));
	return text;
}

static void numbers_are_short_and_times_too(void **unused)
{
	char text[32];

	(void)unused;
	assert_string_equal(bytes_text(0), "0 B");
	assert_string_equal(bytes_text(999), "999 B");
	assert_string_equal(bytes_text(1000), "1.0 kB");
	assert_string_equal(bytes_text(9960), "10 kB");
	assert_string_equal(bytes_text(999600), "1.0 MB");
	assert_string_equal(bytes_text(UINT64_MAX), "18 EB");
	assert_string_equal(age_text(-5), "0 s");
	assert_string_equal(age_text(59), "59 s");
	assert_string_equal(age_text(65), "1m 05s");
	assert_string_equal(age_text(3600), "1h 00m");
	assert_string_equal(age_text(90000), "1d 01h");
	assert_string_equal(age_text(200 * 86400), "200 d");
	format_count(1234567, text, sizeof(text));
	assert_string_equal(text, "1 234 567");
	format_count(123, text, sizeof(text));
	assert_string_equal(text, "123");
	format_count(UINT64_MAX, text, sizeof(text));
	assert_string_equal(text, "18 446 744 073 709 551 615");
	format_share(1, 3, text, sizeof(text));
	assert_string_equal(text, "33.3 %");
	format_share(1, 0, text, sizeof(text));
	assert_string_equal(text, "-");
}

static void assert_shown(struct span bytes, bool utf8, unsigned columns, const char *expected,
			 unsigned width)
{
	char text[4 * 40 + 8];

	assert_int_equal(format_foreign(bytes, utf8, columns, text, sizeof(text)), width);
	assert_string_equal(text, expected);
}

static void foreign_text_is_harmless_and_fits(void **unused)
{
	(void)unused;
	assert_shown(SPAN("anna"), true, 10, "anna", 4);
	assert_shown(SPAN("a\x1b[2J\n\\"), true, 40, "a\\x1b[2J\\x0a\\\\", 14);
	assert_shown(SPAN("j\xc3\xb6rg"), true, 10, "j\xc3\xb6rg", 4);
	assert_shown(SPAN("j\xc3\xb6rg"), false, 20, "j\\xc3\\xb6rg", 11);
	/* not UTF-8: cut off, overlong, a surrogate; C1 controls are UTF-8 and controls */
	assert_shown(SPAN("\xc3"), true, 20, "\\xc3", 4);
	assert_shown(SPAN("\xc0\xaf"), true, 20, "\\xc0\\xaf", 8);
	assert_shown(SPAN("\xed\xa0\x80"), true, 20, "\\xed\\xa0\\x80", 12);
	assert_shown(SPAN("\xc2\x9b"), true, 20, "\\xc2\\x9b", 8);
	/* what takes no column: turns the direction, joins, combines */
	assert_shown(SPAN("\xe2\x80\xae"), true, 20, "\\xe2\\x80\\xae", 12);
	assert_shown(SPAN("\xe2\x80\x8b"), true, 20, "\\xe2\\x80\\x8b", 12);
	assert_shown(SPAN("e\xcc\x81"), true, 20, "e\\xcc\\x81", 9);
	/* wide ones take two */
	assert_shown(SPAN("\xe6\xbc\xa2\xe5\xad\x97"), true, 4, "\xe6\xbc\xa2\xe5\xad\x97", 4);
	assert_shown(SPAN("\xe6\xbc\xa2\xe5\xad\x97"), true, 3, "\xe6\xbc\xa2\xe2\x80\xa6", 3);
	/* cut with a mark */
	assert_shown(SPAN("abcdef"), true, 6, "abcdef", 6);
	assert_shown(SPAN("abcdefg"), true, 6, "abcde\xe2\x80\xa6", 6);
	assert_shown(SPAN("abcdefg"), false, 6, "abcde~", 6);
	assert_shown(SPAN("ab\x01"), false, 4, "ab~", 3);
	assert_shown(SPAN("abc"), true, 1, "\xe2\x80\xa6", 1);
	assert_shown(SPAN("abc"), true, 0, "", 0);
}

/* --- curves --- */

static const char *draw_curve(const struct curve *c, bool utf8, uint32_t full, unsigned rows)
{
	struct page p;

	free(dump);
	dump = NULL;
	FILE *out = open_memstream(&dump, &dump_length);

	page_init(&p, 80, utf8);
	page_region(&p, 0, 0, rows);
	for (unsigned row = rows; row > 0; row--) {
		page_line(&p);
		history_draw(&p, c, STYLE_CURVE, full, rows, row - 1);
	}
	page_dump(&p, out);
	page_wipe(&p);
	assert_int_equal(fclose(out), 0);
	return dump;
}

static void a_curve_has_eight_steps_a_row(void **unused)
{
	struct curve c = {.count = 6, .values = {0, 1, 4, 8, 9, 16}, .most = 16};

	(void)unused;
	for (unsigned i = 0; i < c.count; i++)
		c.known[i] = true;
	assert_string_equal(draw_curve(&c, true, 8, 1), "·▁▄███\n");
	assert_string_equal(draw_curve(&c, true, 16, 2), "    ▁█\n·▁▄███\n");
	assert_string_equal(draw_curve(&c, false, 8, 1), "_.=###\n");
	/* little beside much is seen, and nothing at all is no division by zero */
	assert_string_equal(draw_curve(&c, true, 1000, 1), "·▁▁▁▁▁\n");
	assert_string_equal(draw_curve(&c, true, 0, 1), "······\n");
	c.known[0] = false;
	assert_string_equal(draw_curve(&c, true, 8, 1), " ▁▄███\n");
}

static void a_curve_ends_now_and_begins_with_what_is_known(void **unused)
{
	struct statefile_history h = {.newest = NOW / 10 - 2};
	struct curve c;
	uint64_t logins, reused;

	(void)unused;
	h.steps[h.newest % STATEFILE_STEPS] = (struct statefile_step){1, 3, 2};
	h.steps[(h.newest - 1) % STATEFILE_STEPS] = (struct statefile_step){4, 0, 0};
	history_curve(&h, HISTORY_LOGINS, NOW, NOW - 40, 6, &c);
	assert_int_equal(c.count, 6);
	assert_int_equal(c.most, 4);
	assert_int_equal(c.values[5], 0);
	assert_int_equal(c.values[3], 4);
	assert_int_equal(c.values[2], 4);
	assert_true(c.known[5] && c.known[1]);
	assert_false(c.known[0]);
	history_curve(&h, HISTORY_REUSE, NOW, 0, 6, &c);
	assert_int_equal(c.values[3], 750);
	assert_int_equal(c.values[2], 0);
	assert_true(c.known[2]);
	assert_false(c.known[5]);
	history_curve(&h, HISTORY_FAILED, NOW, 0, 1000, &c);
	assert_int_equal(c.count, STATEFILE_STEPS);
	assert_int_equal(c.most, 2);
	history_sum(&h, NOW, 6, &logins, &reused);
	assert_int_equal(logins, 8);
	assert_int_equal(reused, 3);
	/* long after the last step nothing of it is shown, and a clock behind does no harm */
	history_curve(&h, HISTORY_LOGINS, NOW + 100000, 0, 120, &c);
	assert_int_equal(c.most, 0);
	history_curve(&h, HISTORY_LOGINS, 0, 0, 120, &c);
	assert_int_equal(c.most, 4);
}

/* --- columns --- */

static void columns_leave_by_rank_and_grow_by_rank(void **unused)
{
	static const struct column columns[] = {
		{.title = "A", .least = 10, .most = 20, .rank = 0},
		{.title = "B", .least = 10, .most = 12, .rank = 2},
		{.title = "C", .least = 5, .most = 5, .rank = 1},
		{.title = "D", .least = 2, .most = 2, .rank = 3},
	};
	unsigned widths[TABLE_COLUMNS];

	(void)unused;
	table_layout(columns, 4, 100, widths);
	assert_int_equal(widths[0], 20);
	assert_int_equal(widths[1], 12);
	assert_int_equal(widths[2], 5);
	assert_int_equal(widths[3], 2);
	table_layout(columns, 4, 34, widths); /* 1 + 12 + 1 + 10 + 1 + 5 + 1 + 2 + 1 */
	assert_int_equal(widths[0], 12);
	assert_int_equal(widths[1], 10);
	table_layout(columns, 4, 24, widths); /* B does not fit, D does */
	assert_int_equal(widths[1], 0);
	assert_int_equal(widths[2], 5);
	assert_int_equal(widths[3], 2);
	table_layout(columns, 4, 3, widths);
	assert_int_equal(widths[0], 10);
	assert_int_equal(widths[2], 0);
}

/* --- the screen --- */

static void the_first_view_has_the_old_names(void **unused)
{
	static const char *const parts[] = {
		"Keepwarm 0.1.0  ● running  up 1 d 01:01:01",
		"2023-11-14 22:13:25",
		"current        peak\n",
		"client connections              0           0\n",
		"active server connections       2          12    2023-11-14 21:13:25",
		"cached server connections ",
		"client connections accepted                 0",
		"client logins                               8",
		"server connections created                  3",
		"server connection reuses                    5",
		"client login to server login ratio   2.67 : 1",
		"SELECT cache                           0 of 0",
		"Server Start Time:       2023-11-13 21:12:24",
		"Last Counter Reset Time: 2023-11-14 22:08:25",
	};
	struct model m = some_model();
	struct ui ui = some_ui(80, 24);

	(void)unused;
	draw(&ui, &m, NULL);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		assert_has(dump, parts[i]);
	m.counters[COUNTER_logins_fresh] = 0;
	assert_has(draw(&ui, &m, NULL), "N/A");
}

static void every_size_is_drawn_within_its_edges(void **unused)
{
	struct model m = some_model();

	(void)unused;
	for (unsigned width = 1; width < 140; width += width < 50 ? 1 : 13)
		for (unsigned height = 1; height < 50; height += height < 12 ? 1 : 7)
			for (char view = '1'; view <= '7'; view++) {
				struct ui ui = some_ui(width, height);

				ui_press(&ui, view == '7' ? '?' : view);
				draw(&ui, &m, NULL);
				draw(&ui, NULL, "there is no state file: start the service");
			}
}

static void a_dead_broker_and_missing_figures_are_said(void **unused)
{
	struct model m = some_model();
	struct ui ui = some_ui(80, 24);

	(void)unused;
	m.heartbeat = NOW - 60;
	draw(&ui, &m, NULL);
	assert_has(dump, "○ no broker runs");
	assert_has(dump, "figures of 2023-11-14 22:12:25");
	ui_resize(&ui, 40, 10);
	assert_has(draw(&ui, &m, NULL), "○ no broker runs   22:12:25");
	ui_resize(&ui, 80, 24);
	m.heartbeat = 0;
	draw(&ui, &m, NULL);
	draw(&ui, NULL, "/run/x\x1b: the state file is empty");
	assert_has(dump, "○ no figures");
	assert_has(dump, "/run/x\\x1b: the state file is empty");
	assert_has(dump, "Looking again every second.");
}

static void sessions_are_sorted_by_the_chosen_column(void **unused)
{
	struct model m = some_model();
	struct ui ui = some_ui(100, 24);

	(void)unused;
	press(&ui, "2");
	draw(&ui, &m, NULL);
	assert_has(dump, "USER▲");
	assert_order(dump, "alice", "b\\x1b");
	assert_order(dump, "b\\x1b", "carol");
	press(&ui, "r");
	draw(&ui, &m, NULL);
	assert_has(dump, "USER▼");
	assert_order(dump, "carol", "alice");
	press(&ui, "ss");
	draw(&ui, &m, NULL);
	assert_has(dump, "AGE▲");
	assert_order(dump, "5 s", "1m 05s");
	assert_order(dump, "1m 05s", "1h 06m");
	press(&ui, "S");
	assert_has(draw(&ui, &m, NULL), "STATE▲");
	press(&ui, "Ss");
	press(&ui, "sssss"); /* bytes: the greatest first, "-" last */
	draw(&ui, &m, NULL);
	assert_has(dump, "BYTES▼");
	assert_order(dump, "1.5 kB", "carol");
}

static void a_column_that_is_left_out_is_not_sorted_by(void **unused)
{
	struct model m = some_model();
	struct ui ui = some_ui(40, 10);

	(void)unused;
	press(&ui, "2");
	for (int i = 0; i < 5; i++) {
		press(&ui, "s");
		assert_has(draw(&ui, &m, NULL), "\n"); /* and it ends */
		assert_true(strstr(dump, "▲") || strstr(dump, "▼"));
	}
}

static void a_filter_is_typed_shown_and_dropped(void **unused)
{
	struct model m = some_model();
	struct ui ui = some_ui(80, 24);

	(void)unused;
	press(&ui, "2/AL");
	draw(&ui, &m, NULL);
	assert_has(dump, "/AL");
	assert_has(dump, "Enter keeps it");
	assert_has(dump, "alice");
	assert_null(strstr(dump, "carol"));
	press(&ui, "q\x7f\r");
	assert_false(ui.quit);
	assert_has(draw(&ui, &m, NULL), "/AL 1\n");
	press(&ui, "3");
	assert_has(draw(&ui, &m, NULL), "other.example:143"); /* each view has its own */
	press(&ui, "2/zz\n");
	assert_has(draw(&ui, &m, NULL), "nothing matches the filter");
	press(&ui, "\x1b");
	assert_has(draw(&ui, &m, NULL), "carol");
	for (int i = 0; i < 1000; i++)
		press(&ui, i == 0 ? "/" : "x");
	draw(&ui, &m, NULL);
	press(&ui, "\x15" "carol\r");
	assert_has(draw(&ui, &m, NULL), "carol");
}

static void scrolling_ends_at_the_last_line(void **unused)
{
	struct model m = some_model();
	struct ui ui = some_ui(40, 10);

	(void)unused;
	assert_has(draw(&ui, &m, NULL), "1-7/");
	ui_press(&ui, UI_KEY_PAGE_DOWN);
	assert_has(draw(&ui, &m, NULL), "7-13/");
	ui_press(&ui, UI_KEY_END);
	assert_has(draw(&ui, &m, NULL), "2023-11-14 22:08:25");
	unsigned last = ui.states[0].offset;

	ui_press(&ui, UI_KEY_DOWN);
	draw(&ui, &m, NULL);
	assert_int_equal(ui.states[0].offset, last);
	ui_resize(&ui, 80, 60); /* all of it fits now */
	draw(&ui, &m, NULL);
	assert_int_equal(ui.states[0].offset, 0);
	assert_null(strstr(dump, "more"));
	ui_press(&ui, UI_KEY_UP);
	draw(&ui, &m, NULL);
	assert_int_equal(ui.states[0].offset, 0);
}

static void reasons_have_their_shares(void **unused)
{
	struct model m = some_model();
	struct ui ui = some_ui(132, 60);

	(void)unused;
	press(&ui, "4");
	draw(&ui, &m, NULL);
	assert_has(dump, "cached                      4   50.0 % session end It can be reused.");
	assert_has(dump, "verb                        4   50.0 % session end A command leaves");
	assert_has(dump, "stale                       0    0.0 % at reuse    It was found dead.");
	assert_order(dump, "It can be reused", "It was found dead");
	press(&ui, "5");
	assert_has(draw(&ui, &m, NULL), "logout                        6  100.0 % normal");
	press(&ui, "6");
	for (unsigned i = 0; i < COUNTER_COUNT; i++)
		assert_has(draw(&ui, &m, NULL), model_counter_names[i]);
}

static void hosts_show_what_is_wrong_and_large_numbers_fit(void **unused)
{
	struct model m = some_model();
	struct ui ui = some_ui(132, 43);

	(void)unused;
	hosts[1].figures.logins_refused = 7654321;
	hosts[1].figures.logins_failed = 1234567;
	press(&ui, "3");
	assert_has(draw(&ui, &m, NULL), "other.example:143                        down ");
	assert_has(dump, "1m 01s ago");
	assert_has(dump, "7 654 321");
	ui_resize(&ui, 80, 24);
	assert_has(draw(&ui, &m, NULL), "7654321");
	assert_has(dump, "12345…");
}

static void without_utf8_the_screen_is_ascii(void **unused)
{
	struct model m = some_model();
	struct ui ui;

	(void)unused;
	ui_init(&ui, false);
	m.history.steps[m.history.newest % STATEFILE_STEPS].fresh = 3;
	assert_has(draw(&ui, &m, NULL), "* running"); /* draw() looks at every byte */
	press(&ui, "2");
	assert_has(draw(&ui, &m, NULL), "USER^");
	press(&ui, "/\xc3\xb6");
	assert_has(draw(&ui, &m, NULL), "/\\xc3\\xb6");
}

static void help_comes_and_goes_and_q_quits(void **unused)
{
	struct model m = some_model();
	struct ui ui = some_ui(80, 24);

	(void)unused;
	press(&ui, "?");
	assert_has(draw(&ui, &m, NULL), "filter: rows that contain the text");
	press(&ui, "?");
	assert_has(draw(&ui, &m, NULL), "client logins");
	press(&ui, "?\x1b");
	assert_has(draw(&ui, &m, NULL), "client logins");
	press(&ui, "?\t"); /* leaves help for a view */
	assert_has(draw(&ui, &m, NULL), "USER▲");
	ui_press(&ui, UI_KEY_LEFT);
	ui_press(&ui, UI_KEY_BACK_TAB);
	assert_has(draw(&ui, &m, NULL), "COUNTER▲");
	press(&ui, "/q\x1b");
	assert_false(ui.quit);
	press(&ui, "q");
	assert_true(ui.quit);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_are_short_and_times_too),
		cmocka_unit_test(foreign_text_is_harmless_and_fits),
		cmocka_unit_test(a_curve_has_eight_steps_a_row),
		cmocka_unit_test(a_curve_ends_now_and_begins_with_what_is_known),
		cmocka_unit_test(columns_leave_by_rank_and_grow_by_rank),
		cmocka_unit_test(the_first_view_has_the_old_names),
		cmocka_unit_test(every_size_is_drawn_within_its_edges),
		cmocka_unit_test(a_dead_broker_and_missing_figures_are_said),
		cmocka_unit_test(sessions_are_sorted_by_the_chosen_column),
		cmocka_unit_test(a_column_that_is_left_out_is_not_sorted_by),
		cmocka_unit_test(a_filter_is_typed_shown_and_dropped),
		cmocka_unit_test(scrolling_ends_at_the_last_line),
		cmocka_unit_test(reasons_have_their_shares),
		cmocka_unit_test(hosts_show_what_is_wrong_and_large_numbers_fit),
		cmocka_unit_test(without_utf8_the_screen_is_ascii),
		cmocka_unit_test(help_comes_and_goes_and_q_quits),
	};

	(void)setenv("TZ", "UTC", 1);
	if (!setlocale(LC_CTYPE, "C.UTF-8"))
		return 1;
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	free(dump);
	return failed;
}
