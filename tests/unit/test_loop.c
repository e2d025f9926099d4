/* The broker's event loop: what is ended in the middle of a batch of events is left alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the headers above first */
#include <cmocka.h>

#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "cachebrokerd/loop.h"
#include "lib/clock.h"

#define PIPES 100 /* more than one batch */

static struct loop *loop;
static struct line {
	int ends[2];
	struct watch *watch;
	unsigned called;
	bool ends_others;
} lines[PIPES];
static unsigned ticks;

static void on_end(void *context)
{
	(void)context;
	loop_end(loop, 7);
}

static void end_others(const struct line *but)
{
	for (size_t i = 0; i < PIPES; i++)
		if (&lines[i] != but && lines[i].watch) {
			watch_end(&lines[i].watch);
			close(lines[i].ends[0]); /* its number may be another's at once */
			lines[i].ends[0] = -1;
		}
}

static void on_line(void *context, uint32_t events)
{
	struct line *line = context;
	char byte;

	assert_true(events & EPOLLIN);
	assert_non_null(line->watch);
	assert_int_equal(read(line->ends[0], &byte, 1), 1);
	line->called++;
	if (line->ends_others)
		end_others(line);
}

static int open_lines(void **unused)
{
	(void)unused;
	ticks = 0;
	assert_int_equal(loop_new(&loop), 0);
	for (size_t i = 0; i < PIPES; i++) {
		lines[i] = (struct line){ .watch = NULL };
		assert_int_equal(pipe(lines[i].ends), 0);
		assert_int_equal(loop_watch(loop, lines[i].ends[0], EPOLLIN, on_line, &lines[i],
					    &lines[i].watch),
				 0);
	}
	return 0;
}

static int close_lines(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < PIPES; i++) {
		watch_end(&lines[i].watch);
		if (lines[i].ends[0] >= 0)
			close(lines[i].ends[0]);
		close(lines[i].ends[1]);
	}
	loop_free(loop);
	return 0;
}

static void write_to_all(void)
{
	for (size_t i = 0; i < PIPES; i++)
		assert_int_equal(write(lines[i].ends[1], "x", 1), 1);
}

static unsigned calls(void)
{
	unsigned sum = 0;

	for (size_t i = 0; i < PIPES; i++)
		sum += lines[i].called;
	return sum;
}

static void run_for(int64_t milliseconds)
{
	static struct timer *timer;

	assert_int_equal(loop_timer(loop, milliseconds, on_end, NULL, &timer), 0);
	assert_int_equal(loop_run(loop), 7);
	assert_null(timer);
}

static void every_ready_descriptor_is_served(void **unused)
{
	(void)unused;
	write_to_all();
	/* on a busy machine once is not enough */
	for (int rounds = 0; calls() < PIPES && rounds < 200; rounds++)
		run_for(50);
	for (size_t i = 0; i < PIPES; i++)
		assert_int_equal(lines[i].called, 1);
}

static void a_watch_that_was_ended_in_the_same_batch_is_not_called(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < PIPES; i++)
		lines[i].ends_others = true;
	write_to_all();
	run_for(50);
	assert_int_equal(calls(), 1);
}

static void events_that_are_not_asked_for_do_not_come(void **unused)
{
	(void)unused;
	for (size_t i = 1; i < PIPES; i++)
		assert_int_equal(watch_events(lines[i].watch, 0), 0);
	write_to_all();
	run_for(50);
	assert_int_equal(calls(), 1);
	assert_int_equal(lines[0].called, 1);
}

static void count_tick(void *context)
{
	struct timer **slot = context;

	if (++ticks < 3)
		assert_int_equal(loop_timer(loop, 1, count_tick, slot, slot), 0);
}

static void timers_fire_between_batches_that_never_end(void **unused)
{
	static struct timer *timer;

	(void)unused;
	/* always readable: nobody reads so many bytes */
	for (int i = 0; i < 4096; i++)
		assert_int_equal(write(lines[0].ends[1], "x", 1), 1);
	assert_int_equal(loop_timer(loop, 1, count_tick, &timer, &timer), 0);
	run_for(60);
	assert_int_equal(ticks, 3);
}

static struct timer *turns[4];
static char order[10];

static void ask_for_turn(size_t i, timer_fn *fn)
{
	assert_int_equal(loop_timer(loop, 0, fn, &turns[i], &turns[i]), 0);
}

static void on_turn(void *context)
{
	struct timer **slot = context;

	assert_null(*slot);
	order[strlen(order)] = (char)('0' + (slot - turns));
	if (slot == &turns[3])
		loop_end(loop, 7);
}

static void on_greedy_turn(void *context)
{
	(void)context;
	if (++ticks < 1000)
		ask_for_turn(0, on_greedy_turn);
}

static void turns_come_in_their_order_unless_they_are_ended(void **unused)
{
	(void)unused;
	memset(order, 0, sizeof(order));
	for (size_t i = 0; i < 3; i++)
		ask_for_turn(i, on_turn);
	timer_end(&turns[1]);
	timer_end(&turns[2]); /* the last one: the next one stands behind the first */
	ask_for_turn(2, on_turn);
	ask_for_turn(3, on_turn);
	assert_int_equal(loop_run(loop), 7);
	assert_string_equal(order, "023");
}

static void end_by_line(void *context, uint32_t events)
{
	(void)context;
	(void)events;
	loop_end(loop, 7);
}

/* Whoever asks for one turn after the other. */
static void turns_that_never_end_hold_nobody_up(void **unused)
{
	struct watch *watch;
	int ends[2];

	(void)unused;
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(loop_watch(loop, ends[0], EPOLLIN, end_by_line, NULL, &watch), 0);
	assert_int_equal(write(ends[1], "x", 1), 1);
	ask_for_turn(0, on_greedy_turn);
	assert_int_equal(loop_run(loop), 7);
	assert_true(ticks < 10);
	timer_end(&turns[0]);
	watch_end(&watch);
	close(ends[0]);
	close(ends[1]);
}

static void on_signal(void *context, int number)
{
	*(int *)context = number;
	loop_end(loop, 7);
}

static void a_signal_comes_before_descriptors(void **unused)
{
	int seen = 0;

	(void)unused;
	assert_int_equal(loop_signal(loop, SIGUSR1, on_signal, &seen), 0);
	write_to_all();
	assert_int_equal(raise(SIGUSR1), 0);
	assert_int_equal(loop_run(loop), 7);
	assert_int_equal(seen, SIGUSR1);
	assert_int_equal(calls(), 0);
}

static int64_t began;

static void begin_late(void *context)
{
	struct timer **slot = context;

	for (int64_t until = clock_ms() + 60; clock_ms() < until;)
		;
	began = clock_ms();
	assert_int_equal(loop_timer(loop, 50, on_end, NULL, slot), 0);
}

/* sd-event's own idea of what time it is would be that of its last turn. */
static void a_timer_counts_from_now(void **unused)
{
	static struct timer *timer;

	(void)unused;
	assert_int_equal(loop_timer(loop, 1, begin_late, &timer, &timer), 0);
	assert_int_equal(loop_run(loop), 7);
	assert_true(clock_ms() - began >= 50);
}

static void note_burial(void *object)
{
	*(bool *)object = true;
}

static void the_buried_are_freed_with_the_loop_at_the_latest(void **unused)
{
	bool freed = false;
	struct loop *other;

	(void)unused;
	assert_int_equal(loop_new(&other), 0);
	loop_bury(other, &freed, note_burial);
	assert_false(freed);
	loop_free(other);
	assert_true(freed);
}

#define LOOP_TEST(test) cmocka_unit_test_setup_teardown(test, open_lines, close_lines)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LOOP_TEST(every_ready_descriptor_is_served),
		LOOP_TEST(a_watch_that_was_ended_in_the_same_batch_is_not_called),
		LOOP_TEST(events_that_are_not_asked_for_do_not_come),
		LOOP_TEST(timers_fire_between_batches_that_never_end),
		LOOP_TEST(turns_come_in_their_order_unless_they_are_ended),
		LOOP_TEST(turns_that_never_end_hold_nobody_up),
		LOOP_TEST(a_signal_comes_before_descriptors),
		LOOP_TEST(a_timer_counts_from_now),
		LOOP_TEST(the_buried_are_freed_with_the_loop_at_the_latest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
