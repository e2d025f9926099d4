/* Habits: who is believed to want what, for how long, and who is promised something. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cachebrokerd/habits.h"

static struct habits *habits;

static int make(void **unused)
{
	(void)unused;
	habits = habits_new();
	return habits ? 0 : -1;
}

static int drop(void **unused)
{
	(void)unused;
	habits_free(habits);
	return 0;
}

static struct key who(unsigned n)
{
	struct key k = {{0}};

	memcpy(k.bytes, &n, sizeof(n));
	return k;
}

static void note(unsigned n, const char *fingerprint, int64_t now)
{
	struct key k = who(n);

	habits_note(habits, &k, span_str(fingerprint), now);
}

static void assert_habit(unsigned n, int64_t now, const char *fingerprint, bool promise)
{
	struct key k = who(n);
	bool promised;
	struct span found = habits_find(habits, &k, now, &promised);

	assert_int_equal(found.n, strlen(fingerprint));
	assert_memory_equal(found.p, fingerprint, found.n);
	assert_int_equal(promised, promise);
}

static void nothing_is_known_of_a_stranger(void **unused)
{
	(void)unused;
	assert_habit(1, 5, "", false);
	note(1, "X", 5);
	assert_habit(2, 5, "", false);
	assert_habit(1 + HABITS_SETS, 5, "", false); /* the same set */
}

static void the_last_fingerprint_is_wanted(void **unused)
{
	(void)unused;
	note(1, "X", 5);
	assert_habit(1, 6, "X", false);
	note(1, "X Y", 6);
	assert_habit(1, 7, "X Y", false);
}

static void who_is_always_plain_is_promised(void **unused)
{
	(void)unused;
	note(1, "", 5);
	assert_habit(1, 6, "", true);
	note(1, "X", 7);
	assert_habit(1, 8, "X", false);
	for (int i = 0; i < 2 * HABITS_TURNS; i++) {
		note(1, "", 9 + i);
		assert_habit(1, 9 + i, i < HABITS_TURNS - 1 ? "X" : "", false);
	}
}

static void a_habit_is_forgotten_in_time(void **unused)
{
	(void)unused;
	note(1, "", 5);
	assert_habit(1, 5 + HABITS_MEMORY - 1, "", true);
	assert_habit(1, 5 + HABITS_MEMORY, "", false);
	note(2, "X", 5);
	assert_habit(2, 5 + HABITS_MEMORY, "", false);
	note(2, "", 5 + HABITS_MEMORY);
	assert_habit(2, 6 + HABITS_MEMORY, "", true);
}

static void a_session_without_an_end_is_forgotten_at_once(void **unused)
{
	struct key k = who(1), other = who(1 + HABITS_SETS);

	(void)unused;
	note(1, "", 5);
	habits_forget(habits, &other);
	assert_habit(1, 6, "", true);
	habits_forget(habits, &k);
	assert_habit(1, 6, "", false);
}

static void the_one_not_seen_for_longest_gives_way(void **unused)
{
	(void)unused;
	for (unsigned i = 0; i < HABITS_WAYS; i++)
		note(1 + i * HABITS_SETS, "X", 5 + i);
	note(1, "X Y", 5 + HABITS_WAYS);
	note(1 + HABITS_WAYS * HABITS_SETS, "Z", 6 + HABITS_WAYS);
	assert_habit(1, 20, "X Y", false);
	assert_habit(1 + HABITS_SETS, 20, "", false);
	for (unsigned i = 2; i < HABITS_WAYS; i++)
		assert_habit(1 + i * HABITS_SETS, 20, "X", false);
	assert_habit(1 + HABITS_WAYS * HABITS_SETS, 20, "Z", false);
}

static void a_forgotten_one_gives_way_first(void **unused)
{
	struct key k = who(1 + HABITS_SETS);

	(void)unused;
	for (unsigned i = 0; i < HABITS_WAYS; i++)
		note(1 + i * HABITS_SETS, "X", 5 + i);
	habits_forget(habits, &k);
	note(1 + HABITS_WAYS * HABITS_SETS, "Z", 20);
	assert_habit(1, 21, "X", false);
	assert_habit(1 + HABITS_WAYS * HABITS_SETS, 21, "Z", false);
}

static void a_text_that_is_too_long_is_none(void **unused)
{
	static char text[HABITS_TEXT + 2];

	(void)unused;
	memset(text, 'x', HABITS_TEXT + 1);
	note(1, text, 5);
	assert_habit(1, 6, "", false);
	text[HABITS_TEXT] = '\0';
	note(1, text, 5);
	assert_habit(1, 6, text, false);
}

static void a_successor_knows_them_all(void **unused)
{
	struct habits *before = habits;
	struct habits_row row;
	size_t at = 0, count = 0;

	(void)unused;
	note(1, "CONDSTORE", 5);
	note(2, "", 5);
	habits = habits_new();
	assert_non_null(habits);
	for (; habits_next(before, &at, &row); count++)
		habits_restore(habits, &row);
	habits_free(before);
	assert_int_equal(count, 2);
	assert_habit(1, 6, "CONDSTORE", false);
	assert_habit(2, 6, "", true);
	for (unsigned turn = 0; turn < HABITS_TURNS; turn++)
		note(1, "", 7);
	assert_habit(1, 8, "", false);
}

static void what_makes_no_sense_is_not_gone_on_with(void **unused)
{
	static char text[HABITS_TEXT + 1];
	struct habits_row row = { .who = who(1),
				  .seen = 5,
				  .fingerprint = { text, HABITS_TEXT + 1 } };

	(void)unused;
	habits_restore(habits, &row);
	assert_habit(1, 6, "", false);
	row = (struct habits_row){ .who = who(1), .seen = -1, .fingerprint = SPAN("CONDSTORE") };
	habits_restore(habits, &row);
	assert_habit(1, 6, "", false);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, drop)
	const struct CMUnitTest tests[] = {
		TEST(nothing_is_known_of_a_stranger),
		TEST(the_last_fingerprint_is_wanted),
		TEST(who_is_always_plain_is_promised),
		TEST(a_habit_is_forgotten_in_time),
		TEST(a_session_without_an_end_is_forgotten_at_once),
		TEST(the_one_not_seen_for_longest_gives_way),
		TEST(a_forgotten_one_gives_way_first),
		TEST(a_successor_knows_them_all),
		TEST(what_makes_no_sense_is_not_gone_on_with),
		TEST(a_text_that_is_too_long_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
