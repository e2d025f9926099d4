/* The look-up worker's answers. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "lookupd/worker.h"

static struct config c;
static struct directories *d;
static union worker_texts texts;

static struct msg_ADDRESSES resolve(struct span host, uint32_t version)
{
	const struct msg question = {
		.type = MSG_RESOLVE, .serial = 7, .RESOLVE = {.ip_version = version, .host = host}};
	struct msg answer;

	assert_int_equal(worker_answer(d, &question, &texts, &answer), 0);
	assert_int_equal(answer.type, MSG_ADDRESSES);
	assert_int_equal(answer.serial, 7);
	assert_true((answer.ADDRESSES.addresses.n == 0) != (answer.ADDRESSES.error.n == 0));
	return answer.ADDRESSES;
}

static void every_account_is_on_the_default_host(void **unused)
{
	const struct msg question = {.type = MSG_LOOKUP,
				     .serial = 9,
				     .LOOKUP = {.service = SERVICE_IMAP, .user = SPAN("alice")}};
	struct msg answer;

	(void)unused;
	assert_int_equal(worker_answer(d, &question, &texts, &answer), 0);
	assert_int_equal(answer.type, MSG_ACCOUNT);
	assert_int_equal(answer.serial, 9);
	assert_int_equal(answer.ACCOUNT.status, ACCOUNT_FOUND);
	assert_true(span_eq(answer.ACCOUNT.hosts, SPAN("0 143 localhost")));
	assert_true(span_eq(answer.ACCOUNT.backend_user, SPAN("alice")));
	assert_int_equal(answer.ACCOUNT.error.n, 0);
}

static void what_is_no_question_is_not_answered(void **unused)
{
	const struct msg question = {.type = MSG_END};
	struct msg answer;

	(void)unused;
	assert_int_equal(worker_answer(d, &question, &texts, &answer), -EINVAL);
}

static void localhost_has_loopback_addresses(void **unused)
{
	struct msg_ADDRESSES a = resolve(SPAN("localhost"), 4);

	(void)unused;
	assert_true(span_eq(a.addresses, SPAN("127.0.0.1")));
	a = resolve(SPAN("localhost"), 0);
	assert_true(span_ihas(a.addresses, SPAN("127.0.0.1")));
}

static void numeric_addresses_are_their_own_answer(void **unused)
{
	(void)unused;
	assert_true(span_eq(resolve(SPAN("192.0.2.7"), 0).addresses, SPAN("192.0.2.7")));
	assert_true(span_eq(resolve(SPAN("2001:db8::7"), 0).addresses, SPAN("2001:db8::7")));
	assert_true(span_eq(resolve(SPAN("2001:db8::7"), 6).addresses, SPAN("2001:db8::7")));
}

static void an_address_of_the_other_version_is_an_error(void **unused)
{
	(void)unused;
	assert_true(resolve(SPAN("192.0.2.7"), 6).error.n > 0);
	assert_true(resolve(SPAN("2001:db8::7"), 4).error.n > 0);
	assert_true(resolve(SPAN("192.0.2.7"), 5).error.n > 0);
}

static void what_is_no_host_name_is_an_error(void **unused)
{
	static char longer[300];

	(void)unused;
	memset(longer, 'a', sizeof(longer));
	assert_true(span_eq(resolve(SPAN(""), 0).error, SPAN("not a host name")));
	assert_true(span_eq(resolve(SPAN("local\0host"), 0).error, SPAN("not a host name")));
	assert_true(span_eq(resolve((struct span){longer, 256}, 0).error, SPAN("not a host name")));
	assert_true(resolve((struct span){longer, 255}, 0).error.n > 0);
	assert_true(resolve(SPAN("a b"), 0).error.n > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_account_is_on_the_default_host),
		cmocka_unit_test(what_is_no_question_is_not_answered),
		cmocka_unit_test(localhost_has_loopback_addresses),
		cmocka_unit_test(numeric_addresses_are_their_own_answer),
		cmocka_unit_test(an_address_of_the_other_version_is_an_error),
		cmocka_unit_test(what_is_no_host_name_is_an_error),
	};

	if (config_init(&c) < 0 || directories_new(&c, &d) < 0)
		return 1;
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	directories_free(d);
	config_wipe(&c);
	return failed;
}
