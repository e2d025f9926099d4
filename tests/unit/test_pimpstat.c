/* pimpstat's model and its two outputs. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "pimpstat/classic.h"
#include "pimpstat/json.h"
#include "pimpstat/model.h"
#include "pimpstat/text.h"

#define NOW 1700000000

static char *page;
static size_t page_length;
static struct model_session sessions[2];
static struct model_host hosts[1];

/* A model with something in every part. */
static struct model some_model(void)
{
	struct model m = {
		.version = "0.1.0",
		.started = NOW - 90061,
		.heartbeat = NOW - 1,
		.sessions = sessions,
		.session_count = 2,
		.hosts = hosts,
		.host_count = 1,
		.reset = NOW - 100,
	};

	m.counters[COUNTER_logins] = 8;
	m.counters[COUNTER_logins_reused] = 5;
	m.counters[COUNTER_logins_fresh] = 3;
	m.counters[COUNTER_evicted] = 77;
	m.gauges[GAUGE_active] = 2;
	m.peaks[GAUGE_active] = (struct statefile_peak){12, NOW - 3600};
	m.ends[END_LOGOUT] = 6;
	m.not_cached[NOT_CACHED_VERB] = 4;
	sessions[0] = (struct model_session){.id = 1,
					     .state = STATEFILE_ACTIVE,
					     .service = 1,
					     .since = NOW - 65,
					     .user = SPAN("alice"),
					     .client = SPAN("192.0.2.1:4711"),
					     .host = SPAN("mail.example:143")};
	sessions[1] = (struct model_session){.id = 2,
					     .state = STATEFILE_CACHED,
					     .service = 1,
					     .since = NOW - 5,
					     .user = SPAN("b\x1b]0;x\x07\\\xff\n"),
					     .client = SPAN(""),
					     .host = SPAN("mail.example:143"),
					     .has_bytes = true,
					     .from_client = 1000,
					     .from_backend = 2345};
	hosts[0] = (struct model_host){.name = SPAN("mail.example:143"),
				       .figures = {.state = STATEFILE_HOST_DOWN,
						   .active = 2,
						   .logins_fresh = 31,
						   .failed_at = NOW - 10}};
	m.history.newest = NOW / STATEFILE_STEP_SECONDS;
	m.history.steps[m.history.newest % STATEFILE_STEPS].reused = 4;
	return m;
}

static const char *print_text(const struct model *m)
{
	free(page);
	page = NULL;
	FILE *out = open_memstream(&page, &page_length);

	assert_non_null(out);
	text_print(out, m, NOW);
	assert_int_equal(fclose(out), 0);
	return page;
}

static json_t *print_json(const struct model *m)
{
	json_error_t error;

	free(page);
	page = NULL;
	FILE *out = open_memstream(&page, &page_length);

	assert_non_null(out);
	assert_int_equal(json_print(out, m, NOW), 0);
	assert_int_equal(fclose(out), 0);
	json_t *json = json_loads(page, JSON_REJECT_DUPLICATES, &error);

	if (!json)
		fail_msg("%s", error.text);
	return json;
}

#define assert_has(text, part)                                                                     \
	do {                                                                                       \
		if (!strstr(text, part))                                                           \
			fail_msg("'%s' is missing in:\n%s", part, text);                           \
	} while (0)

static void the_page_says_what_runs_and_since_when(void **unused)
{
	struct model m = some_model();
	const char *text = print_text(&m);

	(void)unused;
	assert_has(text, "Keepwarm 0.1.0, running\n");
	assert_has(text, "started  2023-11-13 21:12:19\n");
	assert_has(text, "uptime   1 d 01:01:01\n");
}

static void a_heartbeat_six_seconds_old_is_alive_and_seven_is_not(void **unused)
{
	struct model m = some_model();

	(void)unused;
	m.heartbeat = NOW - 3 * STATEFILE_HEARTBEAT;
	assert_has(print_text(&m), ", running\n");
	m.heartbeat--;
	assert_has(print_text(&m), "no broker runs; figures as of 2023-11-14 22:13:13\n");
	assert_null(strstr(page, ", running"));
}

static void gauges_stand_with_their_peaks_and_times(void **unused)
{
	struct model m = some_model();

	(void)unused;
	assert_has(print_text(&m),
		   "active backend connections            2         12  2023-11-14 21:13:20\n");
	assert_has(page, "cached backend connections            0          0  -\n");
}

static void the_reuse_ratio_is_in_percent_of_the_logins(void **unused)
{
	struct model m = some_model();

	(void)unused;
	assert_has(print_text(&m), "reuse ratio                       62.5%\n");
	m.counters[COUNTER_logins] = 0;
	assert_has(print_text(&m), "reuse ratio                         N/A\n");
	m.counters[COUNTER_logins] = 3;
	m.counters[COUNTER_logins_reused] = 4;
	assert_has(print_text(&m), "100.0%\n");
	m.counters[COUNTER_logins] = UINT64_MAX;
	m.counters[COUNTER_logins_reused] = UINT64_MAX;
	assert_int_equal(model_reuse_per_mille(&m), 1000);
}

static void every_counter_stands_on_the_page(void **unused)
{
	static const enum counter by_label[] = {COUNTER_logins, COUNTER_logins_reused,
						COUNTER_logins_fresh, COUNTER_logins_refused,
						COUNTER_logins_failed};
	struct model m = some_model();

	(void)unused;
	for (size_t i = 0; i < COUNTER_COUNT; i++)
		m.counters[i] = 7000000 + i;
	print_text(&m);
	for (size_t i = 0; i < COUNTER_COUNT; i++) {
		char number[32];

		(void)snprintf(number, sizeof(number), " %zu", 7000000 + i);
		assert_has(page, number);
	}
	for (size_t i = 0; i < sizeof(by_label) / sizeof(by_label[0]); i++)
		assert_null(strstr(page, model_counter_meanings[by_label[i]]));
}

static void only_reasons_that_happened_are_listed(void **unused)
{
	struct model m = some_model();

	(void)unused;
	print_text(&m);
	assert_has(page, "  verb                                4\n");
	assert_has(page, "  logout                              6\n");
	assert_null(strstr(page, "idle-timeout"));
}

static void a_terminal_is_never_sent_foreign_control_bytes(void **unused)
{
	struct model m = some_model();

	(void)unused;
	(void)snprintf(m.version, sizeof(m.version), "\x1b[2J");
	print_text(&m);
	assert_has(page, "b\\x1b]0;x\\x07\\\\\\xff\\x0a");
	assert_has(page, "Keepwarm \\x1b[2J");
	for (size_t i = 0; i < page_length; i++)
		assert_true(page[i] == '\n' || (page[i] >= ' ' && page[i] <= '~'));
}

static void sessions_stand_in_columns_with_their_age(void **unused)
{
	struct model m = some_model();

	(void)unused;
	print_text(&m);
	assert_has(page, "active alice                    192.0.2.1:4711           "
			 "mail.example:143                    - 00:01:05\n");
	assert_has(page, "cached b");
	assert_has(page, "3345 00:00:05\n");
	m.session_count = 0;
	print_text(&m);
	assert_null(strstr(page, "client   "));
}

static void hosts_stand_in_columns(void **unused)
{
	struct model m = some_model();

	(void)unused;
	assert_has(print_text(&m), "mail.example:143         down         2        0         31");
	m.host_count = 0;
	assert_null(strstr(print_text(&m), "refused  failed"));
}

static void the_old_programs_lines_are_the_old_ones(void **unused)
{
	struct model m = some_model();

	(void)unused;
	m.gauges[GAUGE_clients] = 1;
	m.peaks[GAUGE_clients].value = 3;
	m.gauges[GAUGE_active] = 0;
	m.peaks[GAUGE_active].value = 2;
	m.gauges[GAUGE_cached] = 3;
	m.peaks[GAUGE_cached].value = 4;
	m.counters[COUNTER_clients] = 9;
	free(page);
	page = NULL;
	FILE *out = open_memstream(&page, &page_length);

	classic_print(out, &m);
	assert_int_equal(fclose(out), 0);
	assert_string_equal(page, " 1 Current Client Connections\n"
				  " 3 Peak Client Connections\n"
				  " 0 In Use Connections\n"
				  " 2 Peak In Use Connections\n"
				  " 3 Retained Server Connections\n"
				  " 4 Peak Retained Server Connections\n"
				  " 9 Total Client Connections\n"
				  " 8 Total Client Logins\n"
				  " 5 Total Reused Connections\n"
				  " 3 Total Created Connections\n"
				  " 0 Cache Hits\n"
				  " 0 Cache Misses\n");
}

static void the_json_has_hosts_and_the_last_minutes(void **unused)
{
	struct model m = some_model();
	json_t *json = print_json(&m);
	json_t *host = json_array_get(json_object_get(json, "hosts"), 0);
	json_t *history = json_object_get(json, "history"),
	       *steps = json_object_get(history, "steps");
	json_t *last = json_array_get(steps, json_array_size(steps) - 1);
	json_t *rows = json_object_get(json, "sessions");

	(void)unused;
	assert_string_equal(json_string_value(json_object_get(host, "state")), "down");
	assert_int_equal(json_integer_value(json_object_get(host, "logins_fresh")), 31);
	assert_int_equal(json_integer_value(json_object_get(host, "failed_at")), NOW - 10);
	/* steps begin with the one of the reset */
	assert_int_equal(json_array_size(steps), 11);
	assert_int_equal(json_integer_value(json_object_get(last, "when")), NOW);
	assert_int_equal(json_integer_value(json_object_get(last, "reused")), 4);
	assert_true(json_is_null(json_object_get(json_array_get(rows, 0), "bytes_from_client")));
	assert_int_equal(json_integer_value(
				 json_object_get(json_array_get(rows, 1), "bytes_from_backend")),
			 2345);
	json_decref(json);
}

static void the_json_has_the_files_names(void **unused)
{
	struct model m = some_model();
	json_t *json = print_json(&m);
	json_t *counters = json_object_get(json, "counters");
	json_t *peak = json_object_get(json_object_get(json, "peaks"), "active");

	(void)unused;
	assert_int_equal(json_integer_value(json_object_get(json, "schema")), STATEFILE_SCHEMA);
	assert_true(json_is_true(json_object_get(json, "running")));
	assert_int_equal(json_integer_value(json_object_get(json, "uptime")), 90061);
	assert_true(json_real_value(json_object_get(json, "reuse_ratio")) == 62.5);
	assert_int_equal(json_object_size(counters), COUNTER_COUNT);
	assert_int_equal(json_integer_value(json_object_get(counters, "evicted")), 77);
	assert_int_equal(json_integer_value(json_object_get(peak, "value")), 12);
	assert_int_equal(json_integer_value(json_object_get(peak, "when")), NOW - 3600);
	peak = json_object_get(json_object_get(json, "peaks"), "cached");
	assert_true(json_is_null(json_object_get(peak, "when")));
	assert_int_equal(json_object_size(json_object_get(json, "ends")), END_COUNT);
	assert_int_equal(json_object_size(json_object_get(json, "not_cached")), NOT_CACHED_COUNT);
	json_decref(json);
}

static void the_json_shows_sessions_and_stays_ascii(void **unused)
{
	struct model m = some_model();

	(void)unused;
	sessions[0].user = SPAN("j\xc3\xb6rg");
	json_t *json = print_json(&m);
	json_t *rows = json_object_get(json, "sessions");

	assert_int_equal(json_array_size(rows), 2);
	assert_string_equal(json_string_value(json_object_get(json_array_get(rows, 0), "user")),
			    "j\xc3\xb6rg");
	assert_string_equal(json_string_value(json_object_get(json_array_get(rows, 0), "state")),
			    "active");
	assert_int_equal(json_integer_value(json_object_get(json_array_get(rows, 0), "age")), 65);
	assert_string_equal(json_string_value(json_object_get(json_array_get(rows, 1), "user")),
			    "b\\x1b]0;x\\x07\\\\\\xff\\x0a");
	for (size_t i = 0; i < page_length; i++)
		assert_true(page[i] == '\n' || (page[i] >= ' ' && page[i] <= '~'));
	json_decref(json);
}

static void without_logins_the_json_ratio_is_null(void **unused)
{
	struct model m = some_model();

	(void)unused;
	m.counters[COUNTER_logins] = 0;
	m.heartbeat = NOW - 100;
	json_t *json = print_json(&m);

	assert_true(json_is_null(json_object_get(json, "reuse_ratio")));
	assert_true(json_is_false(json_object_get(json, "running")));
	json_decref(json);
}

/* --- a file that is not there or is something else --- */

static char folder[64];
static char path[128];

static int make_folder(void **unused)
{
	(void)unused;
	(void)snprintf(folder, sizeof(folder), "/tmp/keepwarm-pimpstat-XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	(void)snprintf(path, sizeof(path), "%s/stats", folder);
	return 0;
}

static int remove_folder(void **unused)
{
	(void)unused;
	if (unlink(path) < 0)
		(void)rmdir(path);
	return rmdir(folder);
}

static void assert_refused(const char *reason)
{
	struct model m;
	char why[512] = "";

	assert_int_equal(model_read(path, &m, why, sizeof(why)), -1);
	assert_int_equal(strncmp(why, path, strlen(path)), 0);
	assert_has(why, reason);
	assert_null(strchr(why, '\n'));
}

static void write_bytes(char byte, size_t n)
{
	FILE *out = fopen(path, "we");

	assert_non_null(out);
	for (size_t i = 0; i < n; i++)
		assert_true(fputc(byte, out) != EOF);
	assert_int_equal(fclose(out), 0);
}

static void a_missing_file_is_named(void **unused)
{
	(void)unused;
	assert_refused("there is no state file: start the service");
}

static void an_empty_file_is_named(void **unused)
{
	(void)unused;
	write_bytes('x', 0);
	assert_refused("is empty: no broker has written it yet");
}

static void the_old_programs_file_is_named(void **unused)
{
	(void)unused;
	write_bytes('\0', 72);
	assert_refused("the old imapproxyd");
}

static void garbage_is_named(void **unused)
{
	(void)unused;
	write_bytes('\xa5', 20000);
	assert_refused("this is no state file: check stat_filename");
	write_bytes('x', 10);
	assert_refused("this is no state file: check stat_filename");
}

static void a_directory_is_named(void **unused)
{
	(void)unused;
	assert_int_equal(mkdir(path, 0700), 0);
	assert_refused("this is no state file: check stat_filename");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define FILE_TEST(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)
		cmocka_unit_test(the_page_says_what_runs_and_since_when),
		cmocka_unit_test(a_heartbeat_six_seconds_old_is_alive_and_seven_is_not),
		cmocka_unit_test(gauges_stand_with_their_peaks_and_times),
		cmocka_unit_test(the_reuse_ratio_is_in_percent_of_the_logins),
		cmocka_unit_test(every_counter_stands_on_the_page),
		cmocka_unit_test(only_reasons_that_happened_are_listed),
		cmocka_unit_test(a_terminal_is_never_sent_foreign_control_bytes),
		cmocka_unit_test(sessions_stand_in_columns_with_their_age),
		cmocka_unit_test(hosts_stand_in_columns),
		cmocka_unit_test(the_old_programs_lines_are_the_old_ones),
		cmocka_unit_test(the_json_has_hosts_and_the_last_minutes),
		cmocka_unit_test(the_json_has_the_files_names),
		cmocka_unit_test(the_json_shows_sessions_and_stays_ascii),
		cmocka_unit_test(without_logins_the_json_ratio_is_null),
		FILE_TEST(a_missing_file_is_named),
		FILE_TEST(an_empty_file_is_named),
		FILE_TEST(the_old_programs_file_is_named),
		FILE_TEST(garbage_is_named),
		FILE_TEST(a_directory_is_named),
	};

	(void)setenv("TZ", "UTC", 1);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	free(page);
	return failed;
}
