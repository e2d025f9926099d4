/* The text formats that accounts come in. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lookupd/textline.h"

static struct account a;
static struct span name, rest;

static int account_of(const char *fields, const char *service)
{
	assert_int_equal(account_init(&a, SPAN("anna")), 0);
	return textline_userdb_account(span_str(fields), service, &a);
}

static void what_is_no_record_is_passed_over(void **unused)
{
	static const char *const none[] = {
		"", " ", "# x\ty", "  # x\ty", "anna uid=1", "\tuid=1"
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		assert_int_equal(textline_userdb(span_str(none[i]), &name, &rest), 0);
	assert_int_equal(textline_userdb(SPAN("an na\tuid=1|gid=1\r"), &name, &rest), 1);
	assert_true(span_eq(name, SPAN("an na")) && span_eq(rest, SPAN("uid=1|gid=1")));
}

static void a_record_needs_uid_gid_and_home(void **unused)
{
	(void)unused;
	assert_int_equal(account_of("uid=1|gid=1|home=/x", "imap"), 1);
	assert_int_equal(account_of("uid=1|gid=1", "imap"), 0);
	assert_int_equal(account_of("uid=1|home=/x", "imap"), 0);
	assert_int_equal(account_of("gid=1|home=/x|xuid=1", "imap"), 0);
	assert_int_equal(account_of("", "imap"), 0);
}

static void a_services_own_password_is_the_only_one(void **unused)
{
	static const char fields[] = "uid=1|gid=1|home=/x|systempw=system|imappw=imap|"
				     "options=mailhost=h,disableimap=1";

	(void)unused;
	assert_int_equal(account_of(fields, "imap"), 1);
	assert_string_equal(a.hash, "imap");
	assert_string_equal(a.hosts[0].name, "h");
	assert_string_equal(a.options, "mailhost=h,disableimap=1");
	assert_int_equal(account_of(fields, "pop3"), 1);
	assert_string_equal(a.hash, "system");
	assert_int_equal(account_of("uid=1|gid=1|home=/|options=mailhost=a/b", "imap"), -EINVAL);
}

static void enumerated_accounts_have_six_columns(void **unused)
{
	(void)unused;
	assert_int_equal(textline_enumerated(SPAN("anna\t1\t1\t/home\t\tmailhost=h"), &name, &rest),
			 1);
	assert_true(span_eq(name, SPAN("anna")) && span_eq(rest, SPAN("mailhost=h")));
	assert_int_equal(textline_enumerated(SPAN("anna\t1\t1\t/home\t/mail\t"), &name, &rest), 1);
	assert_int_equal(rest.n, 0);
	assert_int_equal(textline_enumerated(SPAN("anna\t1"), &name, &rest), 1);
	assert_int_equal(rest.n, 0);
	assert_int_equal(textline_enumerated(SPAN("# authuserdb"), &name, &rest), 0);
	assert_int_equal(textline_enumerated(SPAN("."), &name, &rest), 0);
	assert_int_equal(textline_enumerated(SPAN(""), &name, &rest), 0);
}

static void commas_and_quotes_are_those_of_rfc_4180(void **unused)
{
	struct span f[4];
	char room[100];

	(void)unused;
	assert_int_equal(textline_csv(SPAN("a,,\"b,\"\"c\"\"\",d\r"), room, f, 4), 4);
	assert_true(span_eq(f[0], SPAN("a")) && f[1].n == 0 && span_eq(f[2], SPAN("b,\"c\"")) &&
		    span_eq(f[3], SPAN("d")));
	assert_int_equal(textline_csv(SPAN("a,"), room, f, 4), 2);
	assert_int_equal(f[1].n, 0);
	assert_int_equal(textline_csv(SPAN(""), room, f, 4), 1);
	assert_int_equal(textline_csv(SPAN("\"\",\"x\""), room, f, 4), 2);
	assert_true(f[0].n == 0 && span_eq(f[1], SPAN("x")));
	assert_int_equal(textline_csv(SPAN("a,b,c,d,e"), room, f, 4), -EINVAL);
	assert_int_equal(textline_csv(SPAN("\"a"), room, f, 4), -EINVAL);
	assert_int_equal(textline_csv(SPAN("\"a\"b,c"), room, f, 4), -EINVAL);
	assert_int_equal(textline_csv(SPAN("\""), room, f, 4), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_no_record_is_passed_over),
		cmocka_unit_test(a_record_needs_uid_gid_and_home),
		cmocka_unit_test(a_services_own_password_is_the_only_one),
		cmocka_unit_test(enumerated_accounts_have_six_columns),
		cmocka_unit_test(commas_and_quotes_are_those_of_rfc_4180),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
