/* Networks and lists of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/un.h>

#include "lib/cidr.h"

static struct cidr_address address(const char *text)
{
	struct cidr_address a;

	assert_int_equal(cidr_address_parse(span_str(text), &a), 0);
	return a;
}

static bool has(const char *list, const char *text)
{
	struct cidr_address a = address(text);

	return cidr_list_has(span_str(list), &a);
}

static void networks_hold_what_begins_alike(void **unused)
{
	static const struct {
		const char *network, *address;
		bool held;
	} rows[] = {
		{ "10.0.0.0/8", "10.255.255.255", true },
		{ "10.0.0.0/8", "11.0.0.0", false },
		{ "10.0.0.0/8", "9.255.255.255", false },
		{ "192.0.2.128/25", "192.0.2.128", true },
		{ "192.0.2.128/25", "192.0.2.127", false },
		{ "192.0.2.1", "192.0.2.1", true },
		{ "192.0.2.1", "192.0.2.0", false },
		{ "192.0.2.1/32", "192.0.2.1", true },
		{ "0.0.0.0/0", "203.0.113.9", true },
		{ "0.0.0.0/0", "::1", false },
		{ "2001:db8::/32", "2001:db8:ffff::1", true },
		{ "2001:db8::/32", "2001:db9::", false },
		{ "2001:db8::/33", "2001:db8:8000::", false },
		{ "::1", "::1", true },
		{ "::1", "::2", false },
		{ "::/0", "2001:db8::1", true },
		{ "fe80::/10", "febf::1", true },
		{ "fe80::/10", "fec0::1", false },
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (has(rows[i].network, rows[i].address) != rows[i].held)
			fail_msg("%s and %s", rows[i].network, rows[i].address);
}

static void ipv4_is_the_same_in_whatever_socket_it_comes(void **unused)
{
	(void)unused;
	assert_true(has("10.0.0.0/8", "::ffff:10.1.2.3"));
	assert_true(has("::ffff:10.0.0.0/104", "10.1.2.3"));
	assert_true(has("::ffff:0:0/96", "10.1.2.3"));
	assert_false(has("::/0", "10.1.2.3"));
	assert_false(has("::/0", "::ffff:10.1.2.3"));
	assert_false(has("0.0.0.0/0", "::10.1.2.3"));
}

static void lists_are_separated_by_blanks_or_commas(void **unused)
{
	static const char list[] = " 10.0.0.0/8,\t192.0.2.1 , 2001:db8::/32";

	(void)unused;
	assert_true(has(list, "10.0.0.1"));
	assert_true(has(list, "192.0.2.1"));
	assert_true(has(list, "2001:db8::5"));
	assert_false(has(list, "192.0.2.2"));
	assert_false(has("", "10.0.0.1"));
	assert_false(has(" , ", "10.0.0.1"));
}

static void all_and_none_are_words(void **unused)
{
	(void)unused;
	assert_true(has("all", "10.0.0.1"));
	assert_true(has("ALL", "2001:db8::1"));
	assert_false(has("none", "10.0.0.1"));
	assert_true(cidr_list_has(SPAN("10.0.0.0/8 all"), NULL));
	assert_false(cidr_list_has(SPAN("0.0.0.0/0 ::/0"), NULL));
}

static void what_is_no_network_is_refused(void **unused)
{
	static const struct {
		const char *text;
		int result;
	} rows[] = {
		{ "10.0.0.0/33", -EINVAL },
		{ "10.0.0.0/", -EINVAL },
		{ "10.0.0.0/-1", -EINVAL },
		{ "10.0.0.0/8/8", -EINVAL },
		{ "/8", -EINVAL },
		{ "10.0.0/8", -EINVAL },
		{ "10.", -EINVAL },
		{ "256.0.0.1", -EINVAL },
		{ "example.org", -EINVAL },
		{ "::1/129", -EINVAL },
		{ "[::1]", -EINVAL },
		{ "::g", -EINVAL },
		{ "fe80::1%lo", -EINVAL },
		{ "10.0.0.0/0x8", -EINVAL },
		{ "010.0.0.1/8x", -EINVAL },
		{ "10.1.2.3/8", -EDOM },
		{ "2001:db8::1/32", -EDOM },
		{ "0.0.0.1/0", -EDOM },
		{ "10.0.0.0/8", 0 },
		{ "0.0.0.0/0", 0 },
		{ "::/0", 0 },
		{ "10.0.0.0/255.0.0.0", -EINVAL },
		{ "0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0001", -EINVAL },
	};
	struct cidr c;

	(void)unused;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (cidr_parse(span_str(rows[i].text), &c) != rows[i].result)
			fail_msg("%s: not %d", rows[i].text, rows[i].result);
	assert_int_equal(cidr_parse(SPAN_NONE, &c), -EINVAL);
	assert_int_equal(cidr_parse(SPAN("::1\0"), &c), -EINVAL);
}

static void a_check_points_at_the_wrong_part(void **unused)
{
	struct span bad = SPAN_NONE;

	(void)unused;
	assert_int_equal(cidr_list_check(SPAN("all none 10.0.0.0/8, ::1"), &bad), 0);
	assert_int_equal(cidr_list_check(SPAN_NONE, &bad), 0);
	assert_int_equal(cidr_list_check(SPAN("10.0.0.0/8, 10.0.0.300 ::1"), &bad), -EINVAL);
	assert_true(span_eq(bad, SPAN("10.0.0.300")));
	assert_int_equal(cidr_list_check(SPAN("10.0.0.0/8 192.0.2.1/24"), &bad), -EDOM);
	assert_true(span_eq(bad, SPAN("192.0.2.1/24")));
	/* What got past a check all the same holds nothing, and the rest still counts. */
	assert_true(has("nonsense 10.0.0.0/8", "10.0.0.1"));
	assert_false(has("nonsense 10.0.0.0/8", "11.0.0.1"));
}

static void addresses_come_from_the_kernel(void **unused)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct cidr_address a, b = address("192.0.2.7");

	(void)unused;
	inet_pton(AF_INET, "192.0.2.7", &in.sin_addr);
	assert_int_equal(cidr_address_of((struct sockaddr *)&in, &a), 0);
	assert_memory_equal(&a, &b, sizeof(a));
	inet_pton(AF_INET6, "::ffff:192.0.2.7", &in6.sin6_addr);
	assert_int_equal(cidr_address_of((struct sockaddr *)&in6, &a), 0);
	assert_memory_equal(&a, &b, sizeof(a));
	assert_int_equal(cidr_address_of((struct sockaddr *)&un, &a), -EAFNOSUPPORT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(networks_hold_what_begins_alike),
		cmocka_unit_test(ipv4_is_the_same_in_whatever_socket_it_comes),
		cmocka_unit_test(lists_are_separated_by_blanks_or_commas),
		cmocka_unit_test(all_and_none_are_words),
		cmocka_unit_test(what_is_no_network_is_refused),
		cmocka_unit_test(a_check_points_at_the_wrong_part),
		cmocka_unit_test(addresses_come_from_the_kernel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
