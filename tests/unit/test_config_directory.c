/* Keys that stand there several times, and what a directory may be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/config_scene.h"

static void a_list_keeps_all_its_lines_in_order(void **unused)
{
	char text[4000];

	(void)unused;
	assert_int_equal(parse("directory userdb:/a\ncache_size 7\nDirectory http://h:1/x\n"
			       "directory static:\n"),
			 0);
	assert_int_equal(c.directory.count, 3);
	assert_string_equal(c.directory.items[0], "userdb:/a");
	assert_string_equal(c.directory.items[1], "http://h:1/x");
	assert_int_equal(c.directory.lines[1], 3);
	assert_true(config_print(&c, text, sizeof(text)) > 0);
	assert_non_null(strstr(text, "\ndirectory userdb:/a\ndirectory http://h:1/x\n"
				     "directory static:\n"));
	assert_int_equal(parse(""), 0);
	assert_int_equal(c.directory.count, 0);
}

static void a_list_is_bounded(void **unused)
{
	static const char one[] = "directory static:\n";
	char text[18 * sizeof(one)];
	size_t used = 0;

	(void)unused;
	for (int i = 0; i < 17; i++, used += sizeof(one) - 1)
		memcpy(text + used, one, sizeof(one));
	assert_int_equal(parse(text), 1);
	assert_string_equal(reports, "E f:17: directory: there are more than 16 lines of it\n");
	text[16 * (sizeof(one) - 1)] = '\0';
	assert_int_equal(parse(text), 0);
}

static void lists_are_the_same_when_all_their_lines_are(void **unused)
{
	struct config other;
	struct config_key key;
	size_t i = 0;

	(void)unused;
	assert_int_equal(parse("directory userdb:/a\ndirectory static:\n"), 0);
	other = c;
	memset(&c, 0, sizeof(c));
	while (config_key_at(i, &key) && strcmp(key.name, "directory") != 0)
		i++;
	assert_int_equal(parse("directory userdb:/a\n\ndirectory static:\n"), 0);
	assert_true(config_key_same(&c, &other, i));
	assert_int_equal(parse("directory userdb:/a\n"), 0);
	assert_false(config_key_same(&c, &other, i));
	assert_int_equal(parse("directory static:\ndirectory userdb:/a\n"), 0);
	assert_false(config_key_same(&c, &other, i));
	config_wipe(&other);
}

/* Every key's value can be had as bytes, those of a list one by one. */
static void values_are_told_part_by_part(void **unused)
{
	struct config other;
	struct config_key key;
	struct span a, b;
	unsigned differ = 0;

	(void)unused;
	assert_int_equal(parse("directory userdb:/a\ndirectory static:\ncache_size 7\n"
			       "server_hostname x\nspare_processes 1 2\nrun_listener no\n"),
			 0);
	assert_int_equal(config_init(&other), 0);
	for (size_t i = 0; config_key_at(i, &key); i++) {
		bool list = strcmp(key.name, "directory") == 0;

		assert_true(config_value_at(&c, i, 0, &a));
		assert_int_equal(config_value_at(&c, i, 1, &b), list);
		assert_int_equal(config_value_at(&other, i, 0, &b), !list);
		assert_false(config_value_at(&c, i, list ? 2 : 1, &b));
		differ += list || !span_eq(a, b);
	}
	assert_int_equal(differ, 5);
	config_wipe(&other);
}

static void a_directory_that_cannot_be_is_refused_with_its_line(void **unused)
{
	static const char *const bad[] = {
		"nonsense", "nonsense:/x", "userdb:relative", "userdb:", "static:x", "http:/x",
		"http://",  ":/x",	   "Userdb:/x", "http://u:p@h/",
	};
	char line[100];

	(void)unused;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		(void)snprintf(line, sizeof(line), "\ndirectory %s", bad[i]);
		assert_int_equal(parse(line), 1);
		(void)snprintf(line, sizeof(line), "E f:2: directory: '%s' is not allowed: give ",
			       strchr(bad[i], '@') ? "http" : bad[i]);
		assert_memory_equal(reports, line, strlen(line));
		assert_null(strstr(reports, "u:p"));
	}
}

static void who_has_no_mail_host_is_somewhere_that_is_known(void **unused)
{
	(void)unused;
	assert_int_equal(parse("no_mailhost here"), 1);
	assert_string_equal(reports, "E f:1: no_mailhost: 'here' is not allowed: give one of "
				     "default local refuse\n");
}

/* HTTP's own way to write it, with a colon, is what people will try. */
static void a_header_that_cannot_be_is_refused_and_not_shown(void **unused)
{
	static const char *const bad[] = { "X-Auth-Key: se", "X-Auth-Key:se", "se", "\303\244 se",
					   "X-Key se\303\244", "X_Key se" };
	char line[100];

	(void)unused;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		(void)snprintf(line, sizeof(line), "\nauth_http_header %s", bad[i]);
		assert_int_equal(parse(line), 1);
		assert_string_equal(reports, "E f:2: auth_http_header: give NAME VALUE: letters, "
					     "digits and - in the name, no colon behind it, and "
					     "printable ASCII in the value\n");
		assert_string_equal(c.auth_http_header, "");
	}
	assert_int_equal(parse("auth_http_header X-Auth-Key\t ge heim: 7 "), 0);
	assert_string_equal(c.auth_http_header, "X-Auth-Key\t ge heim: 7");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_list_keeps_all_its_lines_in_order),
		cmocka_unit_test(a_list_is_bounded),
		cmocka_unit_test(lists_are_the_same_when_all_their_lines_are),
		cmocka_unit_test(values_are_told_part_by_part),
		cmocka_unit_test(a_directory_that_cannot_be_is_refused_with_its_line),
		cmocka_unit_test(a_header_that_cannot_be_is_refused_and_not_shown),
		cmocka_unit_test(who_has_no_mail_host_is_somewhere_that_is_known),
	};

	return cmocka_run_group_tests(tests, NULL, wipe_config);
}
