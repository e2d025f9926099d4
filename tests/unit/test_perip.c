/* Connections by address. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "cachebrokerd/perip.h"

static struct perip *p;

static int make(void **unused)
{
	(void)unused;
	p = perip_new();
	return p ? 0 : -1;
}

static int drop(void **unused)
{
	(void)unused;
	perip_free(p);
	return 0;
}

static void so_many_may_come_and_room_is_found_again(void **state)
{
	(void)state;
	assert_true(perip_join(p, 1, "192.0.2.1", 2));
	assert_true(perip_join(p, 1, "192.0.2.1", 2));
	assert_false(perip_join(p, 1, "192.0.2.1", 2));
	assert_false(perip_join(p, 1, "192.0.2.1", 1));
	perip_leave(p, 1, "192.0.2.1");
	assert_true(perip_join(p, 1, "192.0.2.1", 2));
	assert_false(perip_join(p, 1, "192.0.2.1", 2));
}

static void addresses_and_services_are_counted_by_themselves(void **state)
{
	(void)state;
	assert_true(perip_join(p, 1, "192.0.2.1", 1));
	assert_true(perip_join(p, 2, "192.0.2.1", 1));
	assert_true(perip_join(p, 1, "192.0.2.10", 1));
	assert_true(perip_join(p, 1, "2001:db8::1", 1));
	assert_false(perip_join(p, 2, "192.0.2.1", 1));
}

static void what_came_without_a_bound_counts_when_there_is_one(void **state)
{
	(void)state;
	for (int i = 0; i < 5; i++)
		assert_true(perip_join(p, 1, "192.0.2.1", 0));
	assert_false(perip_join(p, 1, "192.0.2.1", 5));
	perip_leave(p, 1, "192.0.2.1");
	assert_true(perip_join(p, 1, "192.0.2.1", 5));
}

static void who_never_joined_may_leave(void **state)
{
	(void)state;
	perip_leave(p, 1, "192.0.2.1");
	assert_true(perip_join(p, 1, "192.0.2.1", 1));
	perip_leave(p, 1, "192.0.2.1");
	perip_leave(p, 1, "192.0.2.1");
	assert_true(perip_join(p, 1, "192.0.2.1", 1));
}

static void many_addresses_come_and_go(void **state)
{
	char address[65];

	(void)state;
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 5000; i++) {
			(void)snprintf(address, sizeof(address), "2001:db8::%x", i);
			assert_true(perip_join(p, 1, address, 1));
		}
		for (int i = 0; i < 5000; i++) {
			(void)snprintf(address, sizeof(address), "2001:db8::%x", i);
			perip_leave(p, 1, address);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(so_many_may_come_and_room_is_found_again, make,
						drop),
		cmocka_unit_test_setup_teardown(addresses_and_services_are_counted_by_themselves,
						make, drop),
		cmocka_unit_test_setup_teardown(what_came_without_a_bound_counts_when_there_is_one,
						make, drop),
		cmocka_unit_test_setup_teardown(who_never_joined_may_leave, make, drop),
		cmocka_unit_test_setup_teardown(many_addresses_come_and_go, make, drop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
