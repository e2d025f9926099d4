/* Orders about mail hosts: how hosts are named, what holds for which, what outlives a start. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "cachebrokerd/orders.h"
#include "cachebrokerd/state.h"
#include "pimpstat/model.h"

static struct state_names t;

static struct host_name named(const char *text)
{
	struct host_name n;

	assert_int_equal(host_name_read(span_str(text), &n), 0);
	return n;
}

static void give(const char *text, enum statefile_order_kind kind)
{
	const struct host_name n = named(text);

	assert_int_equal(orders_give(&t, &n, kind, 1000), 0);
}

static int take_back(const char *text)
{
	const struct host_name n = named(text);

	return orders_take_back(&t, &n);
}

static int of(const char *name, uint32_t port)
{
	return (int)orders_of(&t, span_str(name), port);
}

static int start(void **unused)
{
	(void)unused;
	t = (struct state_names){ .count = 0 };
	return 0;
}

static void names_have_a_port_or_none(void **unused)
{
	static const struct {
		const char *text, *name;
		uint32_t port;
	} good[] = { { "mail.example", "mail.example", 0 },
		     { "mail:143", "mail", 143 },
		     { "::1", "::1", 0 },
		     { "[::1]", "::1", 0 },
		     { "[fe80::1%eth0]:993", "fe80::1%eth0", 993 },
		     { "10.0.0.1:65535", "10.0.0.1", 65535 } };
	static const char *const bad[] = { "",	     ":143",   "mail:", "mail:0", "mail:65536",
					   "mail:x", "[::1",   "[]",	"[::1]x", "a b",
					   "a/b",    "[::1]:", "a\n",	"mail:+1" };
	struct host_name n;

	(void)unused;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		n = named(good[i].text);
		assert_true(span_eq(n.name, span_str(good[i].name)));
		assert_int_equal(n.port, good[i].port);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(host_name_read(span_str(bad[i]), &n), -EINVAL);
}

static void labels_end_in_a_port(void **unused)
{
	struct host_name n;

	(void)unused;
	assert_int_equal(host_label_read(SPAN("::1:143"), &n), 0);
	assert_true(span_eq(n.name, SPAN("::1")) && n.port == 143);
	assert_int_equal(host_label_read(SPAN("mail"), &n), -EINVAL);
	assert_int_equal(host_label_read(SPAN("mail:"), &n), -EINVAL);
}

static void an_order_holds_for_all_ports_or_one_in_any_case(void **unused)
{
	(void)unused;
	give("Mail.Example", STATEFILE_ORDER_DRAIN);
	assert_int_equal(of("mail.EXAMPLE", 143), STATEFILE_ORDER_DRAIN);
	assert_int_equal(of("mail.example2", 143), STATEFILE_ORDER_NONE);
	give("MAIL.example:993", STATEFILE_ORDER_PAUSE);
	assert_int_equal(of("mail.example", 993), STATEFILE_ORDER_PAUSE);
	assert_int_equal(of("mail.example", 143), STATEFILE_ORDER_DRAIN);
	give("[::1]:143", STATEFILE_ORDER_PAUSE);
	assert_int_equal(of("::1", 143), STATEFILE_ORDER_PAUSE);
	assert_int_equal(of("::1", 144), STATEFILE_ORDER_NONE);
}

static void one_takes_the_place_of_what_it_includes(void **unused)
{
	(void)unused;
	give("mail:1", STATEFILE_ORDER_PAUSE);
	give("mail:2", STATEFILE_ORDER_PAUSE);
	give("mail", STATEFILE_ORDER_DRAIN);
	assert_int_equal(t.count, 1);
	give("MAIL", STATEFILE_ORDER_PAUSE);
	assert_int_equal(t.count, 1);
	assert_int_equal(of("mail", 1), STATEFILE_ORDER_PAUSE);
}

static void what_is_taken_back_does_not_hold(void **unused)
{
	(void)unused;
	assert_int_equal(take_back("mail"), 0);
	give("mail", STATEFILE_ORDER_DRAIN);
	give("mail:1", STATEFILE_ORDER_PAUSE);
	assert_int_equal(take_back("mail:2"), -EBUSY);
	assert_int_equal(take_back("Mail:1"), -EBUSY);
	assert_int_equal(t.count, 2);
	assert_int_equal(take_back("Mail"), 2);
	assert_int_equal(of("mail", 1), STATEFILE_ORDER_NONE);
}

static void there_are_so_many_and_no_more(void **unused)
{
	char name[32];

	(void)unused;
	for (int i = 0; i < STATE_NAMES_MOST; i++) {
		(void)snprintf(name, sizeof(name), "h%d", i);
		give(name, STATEFILE_ORDER_DRAIN);
	}
	const struct host_name n = named("another");

	assert_int_equal(orders_give(&t, &n, STATEFILE_ORDER_DRAIN, 1), -ENOSPC);
	give("H7", STATEFILE_ORDER_PAUSE);
	assert_int_equal(of("h7", 1), STATEFILE_ORDER_PAUSE);
}

static void they_outlive_every_start_and_are_shown_with_hosts(void **unused)
{
	char folder[] = "/tmp/keepwarm-orders-XXXXXX", path[64], lock[70], why[512];
	struct model m;

	(void)unused;
	assert_non_null(mkdtemp(folder));
	(void)snprintf(path, sizeof(path), "%s/state", folder);
	(void)snprintf(lock, sizeof(lock), "%s-lock", path);
	struct state *s = state_open(path, true);
	const struct host_name known = named("[::1]:143"), unknown = named("b.example");

	assert_non_null(state_host(s, "::1:143"));
	assert_int_equal(orders_give(state_orders_of(s), &known, STATEFILE_ORDER_PAUSE, 1000), 0);
	assert_int_equal(orders_give(state_orders_of(s), &unknown, STATEFILE_ORDER_DRAIN, 2000), 0);
	state_orders_changed(s);
	state_close(s);
	for (int fresh = 0; fresh < 2; fresh++) {
		s = state_open(path, fresh);
		assert_int_equal(orders_of(state_orders_of(s), SPAN("::1"), 143),
				 STATEFILE_ORDER_PAUSE);
		assert_non_null(state_host(s, "::1:143"));
		state_close(s);
	}
	assert_int_equal(model_read(path, &m, why, sizeof(why)), 0);
	assert_int_equal(m.order_count, 2);
	assert_int_equal(m.host_count, 2); /* one is the order's own */
	assert_true(span_eq(m.hosts[1].name, SPAN("b.example")));
	assert_string_equal(model_host_word(m.hosts[1].figures.state), "drain");
	model_wipe(&m);
	(void)unlink(path);
	(void)unlink(lock);
	assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_have_a_port_or_none),
		cmocka_unit_test(labels_end_in_a_port),
		cmocka_unit_test_setup(an_order_holds_for_all_ports_or_one_in_any_case, start),
		cmocka_unit_test_setup(one_takes_the_place_of_what_it_includes, start),
		cmocka_unit_test_setup(what_is_taken_back_does_not_hold, start),
		cmocka_unit_test_setup(there_are_so_many_and_no_more, start),
		cmocka_unit_test(they_outlive_every_start_and_are_shown_with_hosts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
