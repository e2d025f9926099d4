/* Who is traced outlives every start but that of the machine; counters can begin anew. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "cachebrokerd/state.h"
#include "cachebrokerd/state_names.h"
#include "lib/clock.h"
#include "pimpstat/model.h"

static char folder[] = "/tmp/keepwarm-traces-XXXXXX";
static char path[64], lock[64];

static int make_folder(void **unused)
{
	(void)unused;
	if (!mkdtemp(folder))
		return -1;
	(void)snprintf(path, sizeof(path), "%s/state", folder);
	(void)snprintf(lock, sizeof(lock), "%s/state-lock", folder);
	return 0;
}

static int remove_folder(void **unused)
{
	(void)unused;
	(void)unlink(path);
	(void)unlink(lock);
	return rmdir(folder);
}

static void set(struct state *s, const char *user, uint32_t by)
{
	struct state_name *row = state_names_add(state_traces_of(s), span_str(user));

	assert_non_null(row);
	row->trace = (struct statefile_trace){ .since = 1000, .by = by };
	state_traces_changed(s);
}

static const struct state_name *row_of(struct state *s, const char *user)
{
	return state_names_find(state_traces_of(s), span_str(user));
}

static void who_is_traced_outlives_every_start(void **unused)
{
	struct state *s = state_open(path, true);

	(void)unused;
	set(s, "anna", STATEFILE_TRACE_COMMAND);
	set(s, "bert\x01 x", STATEFILE_TRACE_ADMIN);
	state_close(s);
	for (int fresh = 0; fresh < 2; fresh++) {
		s = state_open(path, fresh);
		assert_int_equal(state_traces_of(s)->count, 2);
		assert_int_equal(row_of(s, "anna")->trace.by, STATEFILE_TRACE_COMMAND);
		assert_int_equal(row_of(s, "anna")->trace.since, 1000);
		assert_int_equal(row_of(s, "bert\x01 x")->trace.by, STATEFILE_TRACE_ADMIN);
		state_close(s);
	}
}

static void who_is_not_traced_any_more_is_not_found_again(void **unused)
{
	struct state *s = state_open(path, true);

	(void)unused;
	set(s, "anna", STATEFILE_TRACE_ADMIN);
	set(s, "carla", STATEFILE_TRACE_ADMIN);
	state_tick(s, clock_ms());
	struct state_names *t = state_traces_of(s);

	state_names_remove(t, state_names_find(t, SPAN("anna")));
	state_traces_changed(s);
	state_close(s);
	s = state_open(path, false);
	assert_null(row_of(s, "anna"));
	assert_non_null(row_of(s, "carla"));
	state_traces_of(s)->count = 0;
	state_traces_changed(s);
	state_close(s);
	s = state_open(path, false);
	assert_int_equal(state_traces_of(s)->count, 0);
	state_close(s);
}

static void the_table_is_bounded(void **unused)
{
	static struct state_names t;
	char name[STATE_NAME_MAX + 2];

	(void)unused;
	memset(name, 'x', sizeof(name));
	assert_null(state_names_add(&t, (struct span){ name, STATE_NAME_MAX + 1 }));
	assert_null(state_names_add(&t, SPAN_NONE));
	for (size_t i = 0; i < STATE_NAMES_MOST; i++)
		assert_non_null(state_names_add(&t, (struct span){ name, i + 1 }));
	assert_null(state_names_add(&t, (struct span){ name, STATE_NAME_MAX }));
	assert_non_null(state_names_add(&t, (struct span){ name, 1 })); /* is there */
	assert_int_equal(t.count, STATE_NAMES_MOST);
}

static void a_reset_begins_at_zero_and_keeps_what_is_now(void **unused)
{
	struct model m;
	char why[512];
	struct state *s = state_open(path, true);

	(void)unused;
	state_count(s, COUNTER_logins, 3);
	state_count_end(s, END_LOGOUT);
	state_count_not_cached(s, NOT_CACHED_VERB);
	state_gauge(s, GAUGE_active, 7);
	state_gauge(s, GAUGE_active, 2);
	set(s, "anna", STATEFILE_TRACE_ADMIN);
	state_reset(s);
	state_count(s, COUNTER_logins, 1);
	state_close(s);
	assert_int_equal(model_read(path, &m, why, sizeof(why)), 0);
	assert_int_equal(m.counters[COUNTER_logins], 1);
	assert_int_equal(m.ends[END_LOGOUT], 0);
	assert_int_equal(m.not_cached[NOT_CACHED_VERB], 0);
	assert_int_equal(m.peaks[GAUGE_active].value, 2);
	model_wipe(&m);
	s = state_open(path, false);
	assert_non_null(row_of(s, "anna"));
	state_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_is_traced_outlives_every_start),
		cmocka_unit_test(who_is_not_traced_any_more_is_not_found_again),
		cmocka_unit_test(the_table_is_bounded),
		cmocka_unit_test(a_reset_begins_at_zero_and_keeps_what_is_now),
	};

	return cmocka_run_group_tests_name("state traces", tests, make_folder, remove_folder);
}
