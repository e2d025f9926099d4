/* lib/config_login: what a login name means, and which keys about logins go together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/config_login.h"
#include "tests/unit/config_scene.h"

static void names_are_completed_as_couriers_are(void **unused)
{
	static const struct {
		const char *text, *name, *whole;
	} cases[] = {
		{ "", "anna", "anna" },
		{ "", "Anna@X.org", "Anna@X.org" },
		{ "default_domain @example.org\n", "anna", "anna@example.org" },
		{ "default_domain @example.org\n", "anna@other.org", "anna@other.org" },
		{ "default_domain @example.org\n", "anna@", "anna@" },
		{ "default_domain @example.org\n", "anna%other.org", "anna%other.org@example.org" },
		{ "default_domain @example.org\ndomain_separators @%\n", "anna%other.org",
		  "anna%other.org" },
		{ "default_domain @example.org\ndomain_separators @%\n", "anna",
		  "anna@example.org" },
		{ "domain_separators @%\n", "anna", "anna" },
		{ "login_case lower\n", "Anna@X.org", "anna@x.org" },
		{ "login_case lower\ndefault_domain @Example.org\n", "ANNA", "anna@example.org" },
		{ "login_case lower\n", "\xc3\x84nna[Z]", "\xc3\x84nna[z]" },
		{ "login_case keep\ndefault_domain @Example.org\n", "ANNA", "ANNA@Example.org" },
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char first[200], second[200];
		struct buf once = BUF_OVER(first), twice = BUF_OVER(second);

		assert_int_equal(parse(cases[i].text), 0);
		assert_int_equal(config_login_name(&c, span_str(cases[i].name), &once), 0);
		assert_true(span_eq(buf_span(&once), span_str(cases[i].whole)));
		assert_int_equal(config_login_name(&c, buf_span(&once), &twice), 0);
		assert_true(span_eq(buf_span(&twice), span_str(cases[i].whole)));
	}
}

static void a_name_with_nul_has_no_separator_in_it(void **unused)
{
	char bytes[40];
	struct buf out = BUF_OVER(bytes);

	(void)unused;
	assert_int_equal(parse("default_domain @x\ndomain_separators @%\n"), 0);
	assert_int_equal(config_login_name(&c, SPAN("a\0b"), &out), 0);
	assert_true(span_eq(buf_span(&out), SPAN("a\0b@x")));
}

static void a_name_that_becomes_too_long_is_an_error(void **unused)
{
	char bytes[8];
	struct buf out = BUF_OVER(bytes);

	(void)unused;
	assert_int_equal(parse("default_domain @xy\n"), 0);
	assert_int_equal(config_login_name(&c, SPAN("abcde"), &out), 0);
	out = (struct buf)BUF_OVER(bytes);
	assert_true(config_login_name(&c, SPAN("abcdef"), &out) < 0);
}

static void a_domain_that_would_be_put_behind_itself_is_an_error(void **unused)
{
	(void)unused;
	assert_int_equal(parse("default_domain @x\ndomain_separators %!\n"), 1);
	assert_non_null(strstr(reports, "E f:1: default_domain: none of domain_separators"));
}

static void passwords_cannot_be_judged_without_a_directory(void **unused)
{
	(void)unused;
	assert_int_equal(parse("auth both\n"), 1);
	assert_non_null(strstr(reports, "E f:1: auth: without a directory"));
	assert_int_equal(parse("auth directory\ndirectory userdb:/x\n"), 0);
	assert_string_equal(reports, "");
	assert_int_equal(parse("auth courier\n"), 1);
}

static void a_master_user_needs_what_his_policy_needs(void **unused)
{
	static const char user[] = "auth_sasl_plain_username u\nauth_sasl_plain_password p\n";
	static const char shared[] = "auth_shared_secret s\n";
	static const struct {
		const char *policy;
		bool shared, is_on, warns;
	} cases[] = {
		{ "auth backend\n", true, true, false },
		{ "auth backend\n", false, false, true },
		{ "auth directory\ndirectory userdb:/x\n", false, true, false },
		{ "auth directory\ndirectory userdb:/x\n", true, true, true },
		{ "auth both\ndirectory userdb:/x\n", false, false, false },
	};
	char text[300];

	(void)unused;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		(void)snprintf(text, sizeof(text), "%s%s%s", cases[i].policy, user,
			       cases[i].shared ? shared : "");
		assert_int_equal(parse(text), 0);
		assert_int_equal(config_master_is_on(&c), cases[i].is_on);
		assert_int_equal(*reports == 'W', cases[i].warns);
	}
	assert_int_equal(parse("auth directory\ndirectory userdb:/x\n"
			       "auth_sasl_plain_username u\n"),
			 0);
	assert_non_null(strstr(reports, "not both are set"));
	assert_false(config_master_is_on(&c));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_completed_as_couriers_are),
		cmocka_unit_test(a_name_with_nul_has_no_separator_in_it),
		cmocka_unit_test(a_name_that_becomes_too_long_is_an_error),
		cmocka_unit_test(a_domain_that_would_be_put_behind_itself_is_an_error),
		cmocka_unit_test(passwords_cannot_be_judged_without_a_directory),
		cmocka_unit_test(a_master_user_needs_what_his_policy_needs),
	};

	return cmocka_run_group_tests(tests, NULL, wipe_config);
}
