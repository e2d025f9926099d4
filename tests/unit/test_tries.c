/* Attempts per process: what a second knock inherits, and who is another process. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cachebrokerd/process.h"
#include "cachebrokerd/tries.h"

#define PID 4711

static int64_t start;	/* of every process, as started() says */
static unsigned looked; /* so often was it asked */

static int64_t started(pid_t pid)
{
	(void)pid;
	looked++;
	return start;
}

static struct tries *make(int64_t process_start)
{
	struct tries *t = tries_new(started, 500);

	assert_non_null(t);
	start = process_start;
	looked = 0;
	return t;
}

/* One whole visit of a process that uses so many attempts more. Returns what it found used. */
static int visit(struct tries *t, pid_t pid, int64_t now, unsigned more)
{
	struct tries_visit v;
	int used = tries_knock(t, pid, now, &v);

	assert_true(used >= 0);
	tries_set(t, &v, (unsigned)used + more);
	tries_leave(t, &v);
	return used;
}

static void a_second_knock_inherits_what_is_used(void **unused)
{
	struct tries *t = make(900);

	(void)unused;
	assert_int_equal(visit(t, PID, 1000, 1), 0);
	assert_int_equal(visit(t, PID, 2000, 2), 1);
	assert_int_equal(visit(t, PID, 3000, 0), 3);
	assert_int_equal(visit(t, PID, 4000, 0), 3);
	tries_free(t);
}

static void who_connects_begins_anew_and_inherits_when_it_knocks(void **unused)
{
	struct tries *t = make(900);
	struct tries_visit before, v, second;

	(void)unused;
	assert_true(tries_knock(t, PID, 1000, &before) >= 0);
	tries_set(t, &before, 3);
	tries_meet(t, PID, 2000, &v); /* no process in the jail can */
	tries_leave(t, &before);
	assert_int_equal(tries_knock(t, PID, 2500, &second), -EBUSY);
	tries_set(t, &v, 2);
	tries_leave(t, &v);
	assert_int_equal(visit(t, PID, 3000, 0), 2);
	tries_meet(t, 0, 4000, &v); /* of another pid namespace */
	assert_int_equal(v.number, 0);
	tries_free(t);
}

static void a_successor_knows_what_was_used(void **unused)
{
	struct tries *before = make(900), *t = tries_new(started, 2500);
	struct tries_row row;
	size_t at = 0;

	(void)unused;
	assert_int_equal(visit(before, PID, 1000, 2), 0);
	assert_int_equal(visit(before, PID + 1, 1000, 0), 0);
	for (int i = 0; i < 2; i++) {
		assert_true(tries_next(before, &at, &row));
		tries_restore(t, &row);
	}
	assert_false(tries_next(before, &at, &row));
	tries_restore(t, &(struct tries_row){ .pid = -1 });
	assert_int_equal(visit(t, PID, 3000, 0), 2);
	start = 3500; /* another process by now */
	assert_int_equal(visit(t, PID, 4000, 0), 0);
	tries_free(before);
	tries_free(t);
}

/* Knocks and leaves. Returns whether that was surely the first time. */
static bool first(struct tries *t, pid_t pid, int64_t now)
{
	struct tries_visit v;

	assert_true(tries_knock(t, pid, now, &v) >= 0);
	bool is_first = tries_is_first(t, &v);

	tries_leave(t, &v);
	return is_first;
}

static void a_process_is_there_for_the_first_time_once(void **unused)
{
	struct tries *t = make(900);

	(void)unused;
	assert_true(first(t, PID, 1000));
	assert_false(first(t, PID, 2000));
	assert_false(first(t, PID, 3000));
	start = 3500; /* another one */
	assert_true(first(t, PID, 4000));
	assert_false(first(t, 0, 4000));
	tries_free(t);
}

static void another_in_its_place_does_not_make_it_new(void **unused)
{
	struct tries *t = make(900);

	(void)unused;
	assert_true(first(t, PID, 1000));
	start = 1500;
	assert_true(first(t, PID + TRIES_SLOTS, 2000));
	start = 900;
	assert_false(first(t, PID, 3000));
	start = 3500;
	assert_true(first(t, PID + 2 * TRIES_SLOTS, 4000));
	start = 900;
	assert_false(first(t, PID, 5000));
	tries_free(t);
}

static void who_is_older_than_the_table_may_have_been_elsewhere(void **unused)
{
	struct tries *t = make(400);
	struct tries_visit v;

	(void)unused;
	assert_int_equal(tries_knock(t, PID, 1000, &v), 0);
	assert_false(tries_is_first(t, &v));
	start = 499; /* a start is known to the tick only */
	assert_true(tries_is_first(t, &v));
	start = -ENOENT;
	assert_false(tries_is_first(t, &v));
	tries_leave(t, &v);
	tries_free(t);
}

static void an_ordinary_knock_looks_at_no_process(void **unused)
{
	struct tries *t = make(900);

	(void)unused;
	for (pid_t pid = 1; pid < 3 * TRIES_SLOTS; pid++)
		assert_int_equal(visit(t, pid, 1000 + pid, 1), 0);
	assert_int_equal(looked, 0);
	tries_free(t);
}

static void a_later_process_of_the_same_pid_is_not_punished(void **unused)
{
	struct tries *t = make(900);

	(void)unused;
	assert_int_equal(visit(t, PID, 1000, 3), 0);
	start = 1001;
	assert_int_equal(visit(t, PID, 2000, 1), 0);
	assert_int_equal(visit(t, PID, 3000, 1), 1);
	tries_free(t);
}

static void a_process_that_cannot_be_seen_is_taken_for_the_same(void **unused)
{
	struct tries *t = make(-ENOENT);

	(void)unused;
	assert_int_equal(visit(t, PID, 1000, 3), 0);
	assert_int_equal(visit(t, PID, 2000, 0), 3);
	assert_int_equal(visit(t, PID, 999 + TRIES_BELIEVE_MS, 0), 3);
	assert_int_equal(visit(t, PID, 1000 + TRIES_BELIEVE_MS, 0), 0);
	tries_free(t);
}

static void a_process_has_one_socket_at_a_time(void **unused)
{
	struct tries *t = make(900);
	struct tries_visit first, second;

	(void)unused;
	assert_int_equal(tries_knock(t, PID, 1000, &first), 0);
	assert_int_equal(tries_knock(t, PID, 1001, &second), -EBUSY);
	assert_int_equal(second.number, 0);
	tries_leave(t, &second); /* of no effect */
	assert_int_equal(tries_knock(t, PID, 1002, &second), -EBUSY);
	tries_set(t, &first, 2);
	tries_leave(t, &first);
	assert_int_equal(tries_knock(t, PID, 1003, &second), 2);
	tries_free(t);
}

static void what_a_process_did_is_remembered(void **unused)
{
	struct tries *t = make(900);
	struct tries_visit v;

	(void)unused;
	assert_int_equal(tries_knock(t, PID, 1000, &v), 0);
	assert_false(tries_did(t, &v, TRIES_TLS));
	tries_leave(t, &v);
	assert_int_equal(tries_knock(t, PID, 2000, &v), 0);
	assert_true(tries_did(t, &v, TRIES_TLS));
	assert_false(tries_did(t, &v, TRIES_DEAD_SPARE));
	start = 2500; /* another process */
	assert_int_equal(tries_knock(t, PID, 3000, &v), 0);
	assert_false(tries_did(t, &v, TRIES_TLS));
	assert_false(tries_did(t, &(struct tries_visit){ 0 }, TRIES_TLS));
	assert_false(tries_did(t, &(struct tries_visit){ 0 }, TRIES_TLS));
	tries_free(t);
}

static void an_old_socket_does_not_speak_for_a_later_process(void **unused)
{
	struct tries *t = make(900);
	struct tries_visit old, fresh;

	(void)unused;
	assert_int_equal(tries_knock(t, PID, 1000, &old), 0);
	start = 1500; /* it died, and the broker has not noticed */
	assert_int_equal(tries_knock(t, PID, 2000, &fresh), 0);
	tries_set(t, &old, 3);
	tries_leave(t, &old);
	tries_set(t, &fresh, 1);
	tries_leave(t, &fresh);
	assert_int_equal(visit(t, PID, 3000, 0), 1);
	tries_free(t);
}

static void more_attempts_than_can_be_counted_stay_used_up(void **unused)
{
	struct tries *t = make(900);

	(void)unused;
	assert_int_equal(visit(t, PID, 1000, UINT32_MAX), 0);
	assert_int_equal(visit(t, PID, 2000, 1), (int)TRIES_ALL);
	assert_int_equal(visit(t, PID, 3000, 0), (int)TRIES_ALL);
	tries_free(t);
}

static void a_process_that_nobody_names_is_not_counted(void **unused)
{
	struct tries *t = make(900);

	(void)unused;
	assert_int_equal(visit(t, 0, 1000, 3), 0);
	assert_int_equal(visit(t, 0, 2000, 3), 0);
	tries_free(t);
}

static void the_start_of_a_living_process_is_seen(void **unused)
{
	int64_t before = process_clock_ms(), ours = process_started(getpid());
	pid_t child = fork();

	(void)unused;
	if (child == 0) {
		(void)pause();
		_exit(0);
	}
	assert_true(child > 0);
	int64_t its = process_started(child);

	(void)kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_true(ours > 0 && ours <= before);
	assert_true(its >= before - 20 && its <= process_clock_ms());
	assert_true(process_started(child) < 0);
}

/* The table of the broker behind t's, which is younger than all processes; t is gone. */
static struct tries *succeed(struct tries *t)
{
	struct tries *successor = tries_new(started, 100000);
	struct tries_row row;

	assert_non_null(successor);
	tries_set_born(successor, tries_born(t));
	for (size_t at = 0; tries_next(t, &at, &row);)
		tries_restore(successor, &row);
	tries_free(t);
	return successor;
}

static void what_was_used_is_gone_on_with(void **unused)
{
	struct tries *t = make(900);
	struct tries_visit v, none;

	(void)unused;
	assert_int_equal(tries_knock(t, PID, 1000, &v), 0);
	tries_set(t, &v, 2);
	assert_false(tries_did(t, &v, TRIES_TLS));
	assert_int_equal(visit(t, PID + 1, 1000, TRIES_ALL), 0); /* is over */
	t = succeed(t);
	tries_resume(t, PID, &v);
	tries_resume(t, PID, &none); /* it has one socket */
	assert_int_equal(none.number, 0);
	tries_resume(t, PID + 2, &none); /* of which nothing is known */
	assert_int_equal(none.number, 0);
	assert_true(tries_did(t, &v, TRIES_TLS));
	assert_int_equal(tries_knock(t, PID, 110000, &none), -EBUSY);
	tries_leave(t, &v);
	assert_int_equal(visit(t, PID, 120000, 0), 2);
	assert_int_equal(visit(t, PID + 1, 120000, 0), TRIES_ALL);
	tries_free(t);
}

/* Who was there for the first time is that with the next broker, too; who was not is not. */
static void the_first_time_is_the_first_time_afterwards(void **unused)
{
	struct tries *t = make(900);
	struct tries_visit first, again;

	(void)unused;
	assert_int_equal(tries_knock(t, PID, 1000, &first), 0);
	assert_int_equal(visit(t, PID + 1, 1000, 0), 0);
	assert_int_equal(tries_knock(t, PID + 1, 1100, &again), 0);
	t = succeed(t);
	tries_resume(t, PID, &first);
	tries_resume(t, PID + 1, &again);
	assert_true(tries_is_first(t, &first));
	assert_false(tries_is_first(t, &again));
	tries_leave(t, &first);
	assert_int_equal(tries_knock(t, PID, 110000, &first), 0);
	assert_false(tries_is_first(t, &first));
	assert_int_equal(tries_knock(t, PID + TRIES_SLOTS + 1, 110000, &again), 0);
	assert_false(tries_is_first(t, &again)); /* it may have been there before the other one */
	assert_int_equal(tries_knock(t, PID + 2, 110000, &again), 0);
	assert_true(tries_is_first(t, &again));
	tries_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_second_knock_inherits_what_is_used),
		cmocka_unit_test(a_successor_knows_what_was_used),
		cmocka_unit_test(who_connects_begins_anew_and_inherits_when_it_knocks),
		cmocka_unit_test(a_process_is_there_for_the_first_time_once),
		cmocka_unit_test(another_in_its_place_does_not_make_it_new),
		cmocka_unit_test(who_is_older_than_the_table_may_have_been_elsewhere),
		cmocka_unit_test(an_ordinary_knock_looks_at_no_process),
		cmocka_unit_test(a_later_process_of_the_same_pid_is_not_punished),
		cmocka_unit_test(a_process_that_cannot_be_seen_is_taken_for_the_same),
		cmocka_unit_test(a_process_has_one_socket_at_a_time),
		cmocka_unit_test(what_a_process_did_is_remembered),
		cmocka_unit_test(an_old_socket_does_not_speak_for_a_later_process),
		cmocka_unit_test(more_attempts_than_can_be_counted_stay_used_up),
		cmocka_unit_test(a_process_that_nobody_names_is_not_counted),
		cmocka_unit_test(what_was_used_is_gone_on_with),
		cmocka_unit_test(the_first_time_is_the_first_time_afterwards),
		cmocka_unit_test(the_start_of_a_living_process_is_seen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
