/* What may be sent again on another connection. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proxyd/repeat.h"
#include "proxyd/verbs.h"

/* Feeds the text in every split in two, which must make no difference. */
static bool repeatable(const char *text)
{
	struct span all = span_str(text);
	bool whole = false;

	for (size_t cut = 0; cut <= all.n; cut++) {
		struct repeat r;

		repeat_begin(&r, true);
		(void)repeat_note(&r, (struct span){ all.p, cut });
		bool now = repeat_note(&r, span_from(all, cut));

		if (cut > 0)
			assert_int_equal(now, whole);
		whole = now;
		if (now)
			assert_true(span_eq(repeat_sent(&r), all));
	}
	return whole;
}

static void test_what_changes_nothing_may_be_repeated(void **state)
{
	(void)state;
	assert_true(repeatable("a NOOP\r\n"));
	assert_true(repeatable("a noop\n"));
	assert_true(repeatable("a SELECT \"x{3}\"\r\nb UID SEARCH ALL\r\n"));
	assert_true(repeatable("a ENABLE QRESYNC\r\nb SELECT INBOX (QRESYNC (1 2))\r\nc IDLE\r\n"));
	assert_true(repeatable(""));
}

static void test_what_changes_something_may_not(void **state)
{
	(void)state;
	assert_false(repeatable("a STORE 1 FLAGS ()\r\n"));
	assert_false(repeatable("a UID FETCH 1 BODY[]\r\n"));
	assert_false(repeatable("a NOOP\r\nb EXPUNGE\r\nc NOOP\r\n"));
	assert_false(repeatable("a XNEW\r\n"));
	assert_false(repeatable("a\r\n"));
	assert_false(repeatable(" NOOP\r\n"));
	assert_false(repeatable("\r\n"));
	assert_false(repeatable("DONE\r\n"));
}

static void test_a_literal_may_not(void **state)
{
	(void)state;
	assert_false(repeatable("a SELECT {5}\r\n"));
	assert_false(repeatable("a LIST {0+}\r\n \"\"\r\n"));
	assert_false(repeatable("a SEARCH ~{3}\r\nabc\r\n"));
}

static void test_too_much_may_not(void **state)
{
	static char line[] = "a NOOP\r\n";
	struct repeat r;

	(void)state;
	repeat_begin(&r, true);
	for (size_t i = 0; i < REPEAT_MOST / 8; i++)
		assert_true(repeat_note(&r, span_str(line)));
	assert_false(repeat_note(&r, SPAN("a")));
	assert_false(repeat_note(&r, SPAN_NONE));
}

static void test_a_fresh_connection_may_not(void **state)
{
	struct repeat r;

	(void)state;
	repeat_begin(&r, false);
	assert_false(repeat_note(&r, SPAN("a NOOP\r\n")));
}

static void test_every_repeatable_verb_is_in_the_verb_table(void **state)
{
#define NAME(name) SPAN(#name),
	const struct span names[] = { VERB_REPEATABLE(NAME) };

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		assert_true(verb_is_repeatable(names[i], SPAN_NONE));
		assert_int_not_equal(verb_class_of(names[i], SPAN_NONE, SPAN_NONE), VERB_NEVER);
	}
	assert_false(verb_is_repeatable(SPAN("UID"), SPAN_NONE));
	assert_false(verb_is_repeatable(SPAN_NONE, SPAN_NONE));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_changes_nothing_may_be_repeated),
		cmocka_unit_test(test_what_changes_something_may_not),
		cmocka_unit_test(test_a_literal_may_not),
		cmocka_unit_test(test_too_much_may_not),
		cmocka_unit_test(test_a_fresh_connection_may_not),
		cmocka_unit_test(test_every_repeatable_verb_is_in_the_verb_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
