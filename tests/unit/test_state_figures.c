/* The newer parts of the state file: mail hosts, the ring of the last minutes, what went over a
 * cached connection; and a file of another format.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "cachebrokerd/state.h"
#include "cachebrokerd/state_history.h"
#include "lib/log.h"
#include "pimpstat/model.h"

#define NOW 1700000005 /* in the middle of a step */

static char folder[64];
static char path[128];

static int set_up(void **unused)
{
	(void)unused;
	(void)snprintf(folder, sizeof(folder), "/tmp/keepwarm-figures-XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	(void)snprintf(path, sizeof(path), "%s/stats", folder);
	log_open("test", LOG_TO_STDERR);
	return 0;
}

static int tear_down(void **unused)
{
	char lock[160];

	(void)unused;
	(void)snprintf(lock, sizeof(lock), "%s-lock", path);
	(void)unlink(path);
	(void)unlink(lock);
	return rmdir(folder);
}

static void read_model(struct model *m)
{
	char why[512] = "";

	if (model_read(path, m, why, sizeof(why)) < 0)
		fail_msg("%s", why);
}

/* --- hosts --- */

static void what_a_host_counts_is_read_by_its_name(void **unused)
{
	struct model m;
	struct state *s = state_open(path, true);
	struct statefile_host *b = state_host(s, "b.example:143"),
			      *a = state_host(s, "a.example:143");

	(void)unused;
	assert_ptr_equal(state_host(s, "b.example:143"), b);
	b->logins_fresh = 3;
	b->state = STATEFILE_HOST_DOWN;
	b->failed_at = NOW;
	a->active = 2;
	state_close(s);
	read_model(&m);
	assert_int_equal(m.host_count, 2);
	assert_true(span_eq(m.hosts[0].name, SPAN("a.example:143")));
	assert_int_equal(m.hosts[0].figures.active, 2);
	assert_int_equal(m.hosts[1].figures.logins_fresh, 3);
	assert_int_equal(m.hosts[1].figures.state, STATEFILE_HOST_DOWN);
	assert_int_equal(m.hosts[1].figures.failed_at, NOW);
	model_wipe(&m);
}

static void a_hosts_counters_survive_the_broker_and_its_connections_do_not(void **unused)
{
	struct model m;
	struct state *s = state_open(path, true);
	struct statefile_host *h = state_host(s, "a.example:143");

	(void)unused;
	h->logins_reused = 5;
	h->active = h->cached = 4;
	h->state = STATEFILE_HOST_UP;
	state_close(s);
	s = state_open(path, false);
	h = state_host(s, "a.example:143");
	assert_int_equal(h->logins_reused, 5);
	h->logins_reused++;
	state_close(s);
	read_model(&m);
	assert_int_equal(m.host_count, 1);
	assert_int_equal(m.hosts[0].figures.logins_reused, 6);
	assert_int_equal(m.hosts[0].figures.active, 0);
	assert_int_equal(m.hosts[0].figures.cached, 0);
	assert_int_equal(m.hosts[0].figures.state, STATEFILE_HOST_UNKNOWN);
	model_wipe(&m);
	state_close(state_open(path, true));
	read_model(&m);
	assert_int_equal(m.host_count, 0);
	model_wipe(&m);
}

static void a_host_that_is_forgotten_leaves_the_file(void **unused)
{
	struct model m;
	struct state *s = state_open(path, true);

	(void)unused;
	for (int i = 0; i < 2; i++)
		assert_non_null(state_host(s, "a.example:143"));
	state_host(s, "b.example:143")->logins_fresh = 3;
	state_close(s);
	s = state_open(path, false);
	assert_int_equal(state_host(s, "b.example:143")->logins_fresh, 3);
	(void)state_host(s, "a.example:143");
	(void)state_host(s, "a.example:143");
	state_host_gone(s, "a.example:143");
	state_host_gone(s, "b.example:143");
	state_close(s);
	read_model(&m);
	assert_int_equal(m.host_count, 1);
	assert_true(span_eq(m.hosts[0].name, SPAN("a.example:143")));
	model_wipe(&m);
	s = state_open(path, false);
	state_host_gone(s, "a.example:143"); /* nobody holds it */
	(void)state_host(s, "a.example:143");
	state_host_gone(s, "a.example:143");
	assert_int_equal(state_host(s, "a.example:143")->logins_fresh, 0); /* in time */
	state_close(s);
	read_model(&m);
	assert_int_equal(m.host_count, 1);
	model_wipe(&m);
}

static void of_hosts_that_nobody_holds_there_are_so_many(void **unused)
{
	struct model m;
	char label[32];

	(void)unused;
	for (int start = 0; start < 3; start++) {
		struct state *s = state_open(path, start == 0);

		for (int i = 0; i < 4000; i++) {
			(void)snprintf(label, sizeof(label), "h%d.%d:143", start, i);
			assert_non_null(state_host(s, label));
		}
		state_close(s);
	}
	read_model(&m);
	assert_int_equal(m.host_count, 8192);
	model_wipe(&m);
}

/* --- bytes --- */

static void what_went_over_a_cached_connection_is_known_and_of_a_session_it_is_not(void **unused)
{
	struct model m;
	struct state *s = state_open(path, true);
	const struct span user = SPAN("alice"), host = SPAN("a.example:143");

	(void)unused;
	state_session(s, 1, STATEFILE_CACHED, 1, user, SPAN_NONE, host);
	state_session_moved(s, 1, 100, 1ull << 40);
	state_session(s, 2, STATEFILE_ACTIVE, 1, user, SPAN("192.0.2.1:1"), host);
	state_session_moved(s, 77, 1, 1); /* nobody */
	state_close(s);
	read_model(&m);
	assert_true(m.sessions[0].has_bytes);
	assert_int_equal(m.sessions[0].from_client, 100);
	assert_true(m.sessions[0].from_backend == 1ull << 40);
	assert_true(span_eq(m.sessions[0].user, user));
	assert_false(m.sessions[1].has_bytes);
	model_wipe(&m);
}

/* --- the ring --- */

static struct statefile_step step(const struct statefile_history *h, int64_t when)
{
	return h->steps[when / STATEFILE_STEP_SECONDS % STATEFILE_STEPS];
}

static void what_is_counted_lies_in_the_step_of_its_time(void **unused)
{
	struct statefile_history h = {0};

	(void)unused;
	state_history_add(&h, NOW, 1, 2, 3);
	state_history_add(&h, NOW + 1, 10, 20, 30);
	state_history_add(&h, NOW + 30, 5, 0, 0);
	assert_int_equal(h.newest, (NOW + 30) / 10);
	assert_int_equal(step(&h, NOW).fresh, 11);
	assert_int_equal(step(&h, NOW).reused, 22);
	assert_int_equal(step(&h, NOW).failed, 33);
	assert_int_equal(step(&h, NOW + 10).fresh, 0);
	assert_int_equal(step(&h, NOW + 30).fresh, 5);
}

static void a_step_is_emptied_when_the_ring_comes_round(void **unused)
{
	struct statefile_history h = {0};
	const int64_t round = STATEFILE_STEPS * STATEFILE_STEP_SECONDS;

	(void)unused;
	state_history_add(&h, NOW, 7, 0, 0);
	state_history_add(&h, NOW + 10, 8, 0, 0);
	state_history_add(&h, NOW + round, 1, 0, 0);
	assert_int_equal(step(&h, NOW).fresh, 1);
	assert_int_equal(step(&h, NOW + 10).fresh, 8);
	state_history_add(&h, NOW + 10 * round, 0, 0, 0);
	for (unsigned i = 0; i < STATEFILE_STEPS; i++)
		assert_int_equal(h.steps[i].fresh, 0);
}

static void a_clock_that_is_set_back_neither_loses_nor_blocks(void **unused)
{
	struct statefile_history h = {0};

	(void)unused;
	state_history_add(&h, NOW, 7, 0, 0);
	state_history_add(&h, NOW - 8, 1, 0, 0);
	assert_int_equal(step(&h, NOW).fresh, 8);
	state_history_add(&h, NOW - 3610, 2, 0, 0);
	assert_int_equal(h.newest, (NOW - 3610) / 10);
	assert_int_equal(step(&h, NOW - 3610).fresh, 2);
	assert_int_equal(step(&h, NOW).fresh, 0);
}

static void what_is_taken_back_does_not_go_below_zero(void **unused)
{
	struct statefile_history h = {0};

	(void)unused;
	state_history_add(&h, NOW, 0, 2, 0);
	state_history_add(&h, NOW, 0, -1, 0);
	assert_int_equal(step(&h, NOW).reused, 1);
	state_history_add(&h, NOW, 0, -5, 0);
	assert_int_equal(step(&h, NOW).reused, 0);
	state_history_add(&h, NOW, INT64_MAX / 2, 0, 0);
	assert_true(step(&h, NOW).fresh == UINT32_MAX);
}

static uint64_t sum_of_fresh(const struct model *m)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < STATEFILE_STEPS; i++)
		sum += m->history.steps[i].fresh;
	return sum;
}

static void the_ring_goes_on_over_a_restart_of_the_broker(void **unused)
{
	struct model m;
	struct state *s = state_open(path, true);

	(void)unused;
	state_count(s, COUNTER_logins_fresh, 3);
	state_close(s);
	s = state_open(path, false);
	state_count(s, COUNTER_logins_fresh, 2);
	state_close(s);
	read_model(&m);
	assert_int_equal(sum_of_fresh(&m), 5);
	assert_true(m.reset > 0 && m.reset == m.started);
	model_wipe(&m);
	state_close(state_open(path, true));
	read_model(&m);
	assert_int_equal(sum_of_fresh(&m), 0);
	model_wipe(&m);
}

/* --- another format --- */

/* Puts another number in place of the format's, wherever the page lies. */
static void make_format_nine(void)
{
	static char bytes[1 << 20];
	int fd = open(path, O_RDWR | O_CLOEXEC);
	ssize_t n = read(fd, bytes, sizeof(bytes));
	char now[16];
	int length = snprintf(now, sizeof(now), "schema%d", STATEFILE_SCHEMA), found = 0;

	assert_true(n > 0);
	for (ssize_t i = 0; i + length <= n; i++)
		if (memcmp(bytes + i, now, (size_t)length) == 0) {
			assert_int_equal(pwrite(fd, "schema9", 7, i), 7);
			found++;
		}
	assert_true(found > 0);
	close(fd);
}

static void a_file_of_another_format_is_named_and_made_anew(void **unused)
{
	struct model m;
	char why[512] = "";
	struct state *s = state_open(path, true);

	(void)unused;
	state_count(s, COUNTER_logins, 3);
	state_close(s);
	make_format_nine();
	assert_int_equal(model_read(path, &m, why, sizeof(why)), -1);
	assert_non_null(strstr(why, "of format 9, written by Keepwarm " KEEPWARM_VERSION));
	state_close(state_open(path, false));
	read_model(&m);
	assert_int_equal(m.counters[COUNTER_logins], 0);
	model_wipe(&m);
}

/* --- a file that lies --- */

/* Puts the number behind each place where `before` and the number `now` stand. */
static void patch_number(const char *before, int64_t now, int64_t number)
{
	static char bytes[1 << 20];
	int fd = open(path, O_RDWR | O_CLOEXEC), found = 0;
	ssize_t n = read(fd, bytes, sizeof(bytes));
	size_t length = strlen(before);

	for (ssize_t i = 0; i + (ssize_t)(length + sizeof(now)) <= n; i++)
		if (memcmp(bytes + i, before, length) == 0 &&
		    memcmp(bytes + i + length, &now, sizeof(now)) == 0) {
			assert_int_equal(pwrite(fd, &number, sizeof(number), i + (ssize_t)length),
					 sizeof(number));
			found++;
		}
	assert_true(found > 0);
	close(fd);
}

static void times_that_make_no_sense_are_none(void **unused)
{
	static const int64_t lies[] = {INT64_MIN, -1, INT64_MAX};
	struct model m;

	(void)unused;
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		struct state *s = state_open(path, true);

		state_count(s, COUNTER_logins_fresh, 3);
		state_session(s, 1, STATEFILE_ACTIVE, 1, SPAN("alice"), SPAN_NONE, SPAN_NONE);
		state_host(s, "a.example:143")->failed_at = lies[i];
		state_close(s);
		read_model(&m);
		int64_t newest = m.history.newest, since = m.sessions[0].since;

		assert_int_equal(m.hosts[0].figures.failed_at, 0);
		assert_int_equal(sum_of_fresh(&m), 3);
		model_wipe(&m);
		patch_number("logins", newest, lies[i]);
		patch_number("", since, lies[i]);
		read_model(&m);
		assert_int_equal(m.history.newest, 0);
		assert_int_equal(sum_of_fresh(&m), 0);
		assert_int_equal(m.sessions[0].since, 0);
		model_wipe(&m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define FILE_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
		FILE_TEST(what_a_host_counts_is_read_by_its_name),
		FILE_TEST(a_hosts_counters_survive_the_broker_and_its_connections_do_not),
		FILE_TEST(a_host_that_is_forgotten_leaves_the_file),
		FILE_TEST(of_hosts_that_nobody_holds_there_are_so_many),
		FILE_TEST(what_went_over_a_cached_connection_is_known_and_of_a_session_it_is_not),
		cmocka_unit_test(what_is_counted_lies_in_the_step_of_its_time),
		cmocka_unit_test(a_step_is_emptied_when_the_ring_comes_round),
		cmocka_unit_test(a_clock_that_is_set_back_neither_loses_nor_blocks),
		cmocka_unit_test(what_is_taken_back_does_not_go_below_zero),
		FILE_TEST(the_ring_goes_on_over_a_restart_of_the_broker),
		FILE_TEST(a_file_of_another_format_is_named_and_made_anew),
		FILE_TEST(times_that_make_no_sense_are_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
