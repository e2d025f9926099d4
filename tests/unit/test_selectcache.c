/* What may be kept of a mailbox that is left open. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proxyd/selectcache.h"

#define ANSWER \
	"* FLAGS (\\Seen kw)\r\n* OK [PERMANENTFLAGS ()] Read-only.\r\n" \
	"* 4 EXISTS\r\n* 0 RECENT\r\n" \
	"* OK [UNSEEN 3] First.\r\n* OK [UIDVALIDITY 17] Ok\r\n* OK [UIDNEXT 9] Ok\r\n" \
	"* OK [MAILBOXID (a-b)] Ok\r\n"
#define RESULT "OK [READ-ONLY] Done (0.001 secs)."
#define STATUS "* STATUS box (MESSAGES 4)"
#define WHOLE "box\r\n" ANSWER RESULT "\r\n" STATUS "\r\n"

static char array[SELECT_TEXT];

static int load(const char *text)
{
	struct select_text t;

	return select_load(&t, array, sizeof(array), span_str(text));
}

static bool is_examine(const char *line, const char *name)
{
	struct span tag, found;

	if (!select_is_examine(span_str(line), &tag, &found))
		return false;
	assert_true(span_eq(tag, SPAN("a1")));
	return span_eq(found, span_str(name));
}

static void test_a_plain_examine_is_known(void **state)
{
	(void)state;
	assert_true(is_examine("a1 EXAMINE INBOX", "INBOX"));
	assert_true(is_examine("a1 examine \"Sent Mail\"", "\"Sent Mail\""));
	assert_true(is_examine("a1 EXAMINE a.&AOQ-", "a.&AOQ-"));
}

static void test_anything_else_is_not(void **state)
{
	static const char *const others[] = {
		"", "a1", "a1 EXAMINE", "a1 EXAMINE ", "a1 SELECT INBOX", "a1  EXAMINE INBOX",
		"a1 EXAMINE  INBOX", " a1 EXAMINE INBOX", "a1 EXAMINE INBOX (CONDSTORE)",
		"a1 EXAMINE INBOX ", "a1 EXAMINE {5}", "a1 EXAMINE {5+}", "a1 EXAMINE \"a\\\"b\"",
		"a1 EXAMINE \"", "a1 EXAMINE \"\"", "a1 EXAMINE a*", "a1 EXAMINE a%",
		"a1 EXAMINE \"a\"b\"", "a1 EXAMINE b\xc3\xa4", "a1 EXAMINE a\tb", "+ EXAMINE INBOX",
		"a\"1 EXAMINE INBOX", "a1 UID EXAMINE INBOX", "a1 EXAMINE a]b",
	};
	struct span tag, name;

	(void)state;
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (select_is_examine(span_str(others[i]), &tag, &name))
			fail_msg("%s", others[i]);
}

static void test_a_name_that_is_too_long_is_not(void **state)
{
	char line[SELECT_NAME + 20];
	struct span tag, name;

	(void)state;
	memset(line, 'x', sizeof(line));
	memcpy(line, "a EXAMINE ", 10);
	assert_true(select_is_examine((struct span){ line, 10 + SELECT_NAME }, &tag, &name));
	assert_false(select_is_examine((struct span){ line, 11 + SELECT_NAME }, &tag, &name));
}

static void test_names_mean_the_same_or_not(void **state)
{
	(void)state;
	assert_true(select_is_same(SPAN("box"), SPAN("\"box\"")));
	assert_true(select_is_same(SPAN("INBOX"), SPAN("inBox")));
	assert_true(select_is_same(SPAN("\"Inbox\""), SPAN("INBOX")));
	assert_false(select_is_same(SPAN("box"), SPAN("Box")));
	assert_false(select_is_same(SPAN("INBOX.a"), SPAN("inbox.a")));
	assert_false(select_is_same(SPAN("box"), SPAN("boxx")));
	assert_false(select_is_same(SPAN_NONE, SPAN_NONE));
	assert_false(select_is_same(SPAN("\"\""), SPAN("\"\"")));
}

static void test_a_whole_text_comes_apart_again(void **state)
{
	struct select_text t;

	(void)state;
	assert_int_equal(select_load(&t, array, sizeof(array), SPAN(WHOLE)), 0);
	assert_true(select_is_whole(&t));
	assert_true(span_eq(select_name(&t), SPAN("box")));
	assert_true(span_eq(select_lines(&t), SPAN(ANSWER)));
	assert_true(span_eq(select_result(&t), SPAN(RESULT)));
	assert_true(span_eq(select_status(&t), SPAN(STATUS)));
	assert_true(span_eq(buf_span(&t.text), SPAN(WHOLE)));
}

static void test_each_beginning_of_a_text_is_refused(void **state)
{
	struct select_text t;

	(void)state;
	for (size_t n = 0; n < sizeof(WHOLE) - 1; n++)
		assert_true(select_load(&t, array, sizeof(array), (struct span){ WHOLE, n }) < 0);
	assert_true(load(WHOLE "x") < 0);
	assert_true(load(WHOLE STATUS "\r\n") < 0);
	assert_true(load(WHOLE "* 4 EXISTS\r\n") < 0);
	assert_true(select_load(&t, array, sizeof(WHOLE) - 2, SPAN(WHOLE)) < 0);
}

/* One line instead of another, or more. */
static int add(const char *line)
{
	struct select_text t;

	assert_int_equal(select_begin(&t, array, sizeof(array), SPAN("box")), 0);
	return select_add_line(&t, span_str(line));
}

static void test_lines_that_nobody_can_be_sure_of_later_are_refused(void **state)
{
	static const char *const others[] = {
		"* 1 RECENT", "* 10 RECENT", "* 0 RECENTLY", "* OK [HIGHESTMODSEQ 5] Ok",
		"* 4 EXIST", "* OK [NOMODSEQ] Ok", "* OK [MYRIGHTS \"lr\"] ACL",
		"* OK [PERMANENTFLAGS (\\*)] Ok", "* OK [PERMANENTFLAGS (\\Seen)] Ok",
		"* OK [CLOSED] Ok", "* OK [ALERT] Full", "* OK [UNSEEN 3", "* OK [UNSEEN x] a",
		"* OK [UIDVALIDITY 99999999999] Ok", "* -1 EXISTS", "* LIST () \"/\" box",
		"* 1 FETCH (FLAGS ())", "* 1 EXPUNGE", "* VANISHED 1", "* OK", "* NO [UNSEEN 3] x",
		"* BYE", "", "*", "* ", "a1 OK [READ-ONLY] x", "4 EXISTS", "* FLAGS (\\Seen {3}",
		"* FLAGS (\xc3)", "* FLAGS (a\rb)", "* OK [CAPABILITY X] y",
		"* OK still here",
	};

	(void)state;
	assert_int_equal(add("* 4 EXISTS"), 0);
	assert_int_equal(add("* 0 recent"), 0);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (add(others[i]) == 0)
			fail_msg("%s", others[i]);
}

static void test_a_line_comes_once_and_in_its_place(void **state)
{
	struct select_text t;

	(void)state;
	assert_int_equal(select_begin(&t, array, sizeof(array), SPAN("box")), 0);
	assert_int_equal(select_add_line(&t, SPAN("* 4 EXISTS")), 0);
	assert_true(select_add_line(&t, SPAN("* 5 EXISTS")) < 0);
	assert_true(select_add_result(&t, SPAN(RESULT)) < 0);
	assert_true(select_add_status(&t, SPAN(STATUS)) < 0);
	assert_int_equal(select_add_line(&t, SPAN("* 0 RECENT")), 0);
	assert_int_equal(select_add_line(&t, SPAN("* FLAGS ()")), 0);
	assert_int_equal(select_add_line(&t, SPAN("* OK [UIDVALIDITY 1] Ok")), 0);
	assert_true(select_add_result(&t, SPAN("OK [READ-WRITE] Ok")) < 0);
	assert_true(select_add_result(&t, SPAN("OK Ok")) < 0);
	assert_true(select_add_result(&t, SPAN("NO [READ-ONLY] Ok")) < 0);
	assert_int_equal(select_add_result(&t, SPAN(RESULT)), 0);
	assert_true(select_add_line(&t, SPAN("* OK [UNSEEN 1] Ok")) < 0);
	assert_true(select_add_result(&t, SPAN(RESULT)) < 0);
	assert_true(select_add_status(&t, SPAN("* STATUS box (MESSAGES {3}")) < 0);
	assert_int_equal(select_add_status(&t, SPAN(STATUS)), 0);
	assert_true(select_add_status(&t, SPAN(STATUS)) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_plain_examine_is_known),
		cmocka_unit_test(test_anything_else_is_not),
		cmocka_unit_test(test_a_name_that_is_too_long_is_not),
		cmocka_unit_test(test_names_mean_the_same_or_not),
		cmocka_unit_test(test_a_whole_text_comes_apart_again),
		cmocka_unit_test(test_each_beginning_of_a_text_is_refused),
		cmocka_unit_test(test_lines_that_nobody_can_be_sure_of_later_are_refused),
		cmocka_unit_test(test_a_line_comes_once_and_in_its_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
