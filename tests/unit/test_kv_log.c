/* Log lines: pairs that nobody can forge, lines that stay one line. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/kv.h"
#include "lib/log.h"

static char memory[4096];
static struct buf out;

static const char *pair(const char *key, struct span value)
{
	static char text[sizeof(memory) + 1];

	out = BUF_OVER(memory);
	assert_int_equal(kv_add(&out, key, value), 0);
	memcpy(text, memory, out.len);
	text[out.len] = '\0';
	return text;
}

static void plain_values_stand_bare(void **unused)
{
	(void)unused;
	assert_string_equal(pair("user", SPAN("alice@example.org")), "user=alice@example.org");
	assert_string_equal(pair("client", SPAN("[2001:db8::1]:143")), "client=[2001:db8::1]:143");
	assert_string_equal(pair("x", SPAN("a-b_c/d+e.f")), "x=a-b_c/d+e.f");
}

static void other_values_are_quoted(void **unused)
{
	(void)unused;
	assert_string_equal(pair("user", SPAN("")), "user=\"\"");
	assert_string_equal(pair("user", SPAN("a b")), "user=\"a b\"");
	assert_string_equal(pair("user", SPAN("a\"b\\c")), "user=\"a\\\"b\\\\c\"");
	assert_string_equal(pair("user", SPAN("a=b")), "user=\"a=b\"");
	assert_string_equal(pair("user", SPAN("\xc3\xa4\x1b[0m\x7f")),
			    "user=\"\\xc3\\xa4\\x1b[0m\\x7f\"");
	assert_string_equal(pair("user", SPAN("a\0b")), "user=\"a\\x00b\"");
}

static void nobody_forges_a_line_or_a_key(void **unused)
{
	(void)unused;
	assert_string_equal(pair("user", SPAN("x end=logout\nforged[1]: user=root")),
			    "user=\"x end=logout\\x0aforged[1]: user=root\"");
	assert_string_equal(pair("user", SPAN("x\" reused=yes y=\"")),
			    "user=\"x\\\" reused=yes y=\\\"\"");
}

static void long_values_are_cut_visibly(void **unused)
{
	static char longer[201], wanted[300] = "user=\"";

	(void)unused;
	memset(longer, 'a', sizeof(longer));
	memset(wanted + 6, 'a', 200);
	memcpy(wanted + 206, "...\"", 5);
	assert_string_equal(pair("user", (struct span){longer, 201}), wanted);
	assert_int_equal(strlen(pair("user", (struct span){longer, 200})), 205);
}

static void pairs_are_separated_by_one_blank(void **unused)
{
	(void)unused;
	out = BUF_OVER(memory);
	assert_int_equal(kv_add(&out, "user", SPAN("u")), 0);
	assert_int_equal(kv_add_u64(&out, "bytes", 18446744073709551615u), 0);
	assert_int_equal(kv_add(&out, "end", SPAN("logout")), 0);
	assert_true(span_eq(buf_span(&out), SPAN("user=u bytes=18446744073709551615 end=logout")));
}

static void a_full_buffer_is_an_error(void **unused)
{
	char small[8];

	(void)unused;
	for (size_t cap = 0; cap < sizeof(small); cap++) {
		out = (struct buf){.data = small, .cap = cap};
		assert_int_equal(kv_add(&out, "user", SPAN("a b")), -ENOBUFS);
		out = (struct buf){.data = small, .cap = cap};
		assert_int_equal(kv_add_u64(&out, "user", 1234), -ENOBUFS);
	}
}

/* --- lines on standard error --- */

static int saved = -1;
static FILE *file;

static int catch_stderr(void **unused)
{
	(void)unused;
	file = tmpfile();
	saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	return !file || saved < 0 || dup2(fileno(file), STDERR_FILENO) < 0 ? -1 : 0;
}

static int release_stderr(void **unused)
{
	(void)unused;
	dup2(saved, STDERR_FILENO);
	close(saved);
	log_limits(LOG_MAIL, LOG_DEBUG);
	return fclose(file);
}

static const char *caught(void)
{
	static char text[8192];
	ssize_t n = pread(fileno(file), text, sizeof(text) - 1, 0);

	text[n < 0 ? 0 : n] = '\0';
	return text;
}

static void a_line_begins_with_the_programs_name_and_process(void **unused)
{
	char wanted[100];

	(void)unused;
	log_open("tester", LOG_TO_STDERR);
	log_printf(LOG_INFO, "hello %d", 5);
	(void)snprintf(wanted, sizeof(wanted), "tester[%d]: hello 5\n", (int)getpid());
	assert_string_equal(caught(), wanted);
}

static void a_line_in_a_file_begins_with_the_time(void **unused)
{
	unsigned year, month, day, hour, minute, second;
	char zone;

	(void)unused;
	log_open("tester", LOG_TO_FILE);
	log_printf(LOG_INFO, "hello");
	assert_int_equal(sscanf(caught(), "%4u-%2u-%2uT%2u:%2u:%2u%c tester[", &year, &month, &day,
				&hour, &minute, &second, &zone),
			 7);
	assert_true(year >= 2024 && year < 2200 && month >= 1 && month <= 12 && day >= 1 &&
		    day <= 31);
	assert_true(hour < 24 && minute < 60 && second < 60 && zone == 'Z');
}

static void control_bytes_never_split_a_line(void **unused)
{
	(void)unused;
	log_open("tester", LOG_TO_STDERR);
	assert_int_equal(log_write(LOG_INFO, SPAN("a\nb\rc\x1b\0d\x7f")), 0);
	assert_non_null(strstr(caught(), "]: a?b?c??d?\n"));
}

static void an_over_long_line_is_cut_and_still_ends(void **unused)
{
	static char longer[3 * LOG_LINE_MAX];

	(void)unused;
	memset(longer, 'x', sizeof(longer));
	log_open("tester", LOG_TO_STDERR);
	assert_int_equal(log_write(LOG_INFO, (struct span){longer, sizeof(longer)}), 0);
	assert_int_equal(strlen(caught()), LOG_LINE_MAX);
	assert_true(caught()[LOG_LINE_MAX - 1] == '\n');
	assert_true(caught()[LOG_LINE_MAX - 2] == 'x');
}

static void less_important_lines_are_left_out(void **unused)
{
	(void)unused;
	log_open("tester", LOG_TO_STDERR);
	log_limits(LOG_MAIL, LOG_WARNING);
	log_printf(LOG_NOTICE, "no");
	log_printf(LOG_WARNING, "yes");
	assert_null(strstr(caught(), "no\n"));
	assert_non_null(strstr(caught(), "yes\n"));
}

static void nobody_is_a_target_too(void **unused)
{
	(void)unused;
	log_open("tester", LOG_TO_NOBODY);
	log_printf(LOG_ERR, "no");
	assert_string_equal(caught(), "");
}

static void targets_have_names(void **unused)
{
	enum log_target target = LOG_TO_NOBODY;

	(void)unused;
	assert_int_equal(log_target_parse("syslog", &target), 0);
	assert_int_equal(target, LOG_TO_SYSLOG);
	assert_int_equal(log_target_parse("stderr", &target), 0);
	assert_int_equal(target, LOG_TO_STDERR);
	assert_int_equal(log_target_parse("file", &target), 0);
	assert_int_equal(target, LOG_TO_FILE);
	assert_int_equal(log_target_parse("", &target), -EINVAL);
	assert_int_equal(log_target_parse("nobody", &target), -EINVAL);
	assert_int_equal(target, LOG_TO_FILE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define LINE_TEST(f) cmocka_unit_test_setup_teardown(f, catch_stderr, release_stderr)
		cmocka_unit_test(plain_values_stand_bare),
		cmocka_unit_test(other_values_are_quoted),
		cmocka_unit_test(nobody_forges_a_line_or_a_key),
		cmocka_unit_test(long_values_are_cut_visibly),
		cmocka_unit_test(pairs_are_separated_by_one_blank),
		cmocka_unit_test(a_full_buffer_is_an_error),
		LINE_TEST(a_line_begins_with_the_programs_name_and_process),
		LINE_TEST(a_line_in_a_file_begins_with_the_time),
		LINE_TEST(control_bytes_never_split_a_line),
		LINE_TEST(an_over_long_line_is_cut_and_still_ends),
		LINE_TEST(less_important_lines_are_left_out),
		LINE_TEST(nobody_is_a_target_too),
		cmocka_unit_test(targets_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
