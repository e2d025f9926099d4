/* The table of mail hosts: who is the same, who is forgotten, whose turn it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cachebrokerd/host.h"
#include "cachebrokerd/orders.h"
#include "lib/clock.h"

static struct broker b;

static int start(void **unused)
{
	(void)unused;
	b = (struct broker){ .state = state_open("/nonexistent/keepwarm/state", true) };
	return b.state ? 0 : -1;
}

static int end(void **unused)
{
	(void)unused;
	host_free_all(&b);
	state_close(b.state);
	return 0;
}

static struct host *find(const char *name, uint32_t port, enum msg_service service)
{
	const struct route route = { .host = span_str(name), .port = port };

	return host_find(&b, &route, service);
}

static struct host *number(unsigned i)
{
	char name[32];

	(void)snprintf(name, sizeof(name), "h%u.example", i);
	return find(name, 143, SERVICE_IMAP);
}

static bool is_there(unsigned i)
{
	char label[40];

	(void)snprintf(label, sizeof(label), "h%u.example:143", i);
	for (const struct host *h = b.hosts; h; h = h->next)
		if (span_eq(span_str(h->label), span_str(label)))
			return true;
	return false;
}

static void a_host_is_a_name_in_any_case_a_port_a_service_and_its_tls(void **unused)
{
	struct host *h = find("Mail.Example", 143, SERVICE_IMAP);
	const struct route tls = { .host = SPAN("mail.example"), .port = 143, .tls = TLS_STARTTLS };
	char longest[256];

	(void)unused;
	assert_string_equal(h->label, "mail.example:143");
	assert_ptr_equal(find("mAIL.example", 143, SERVICE_IMAP), h);
	assert_ptr_not_equal(find("mail.example", 144, SERVICE_IMAP), h);
	assert_ptr_not_equal(find("mail.example", 143, SERVICE_POP3), h);
	assert_ptr_not_equal(host_find(&b, &tls, SERVICE_IMAP), h);
	assert_int_equal(HASH_COUNT(b.host_table), 4);
	memset(longest, 'x', sizeof(longest));
	assert_null(host_find(&b, &(struct route){ .host = { longest, 256 }, .port = 65535 },
			      SERVICE_POP3));
	h = host_find(&b, &(struct route){ .host = { longest, 255 }, .port = 65535 }, SERVICE_POP3);
	assert_int_equal(strlen(h->name), 255);
	assert_int_equal(strlen(h->label), 255 + 6);
}

static void for_a_new_one_the_last_goes_that_nothing_needs(void **unused)
{
	struct host_name held = { .name = SPAN("h2.example") };

	(void)unused;
	assert_int_equal(orders_give(state_orders_of(b.state), &held, STATEFILE_ORDER_PAUSE, 1), 0);
	for (unsigned i = 0; i < HOSTS_MOST; i++)
		assert_non_null(number(i));
	host_hold(number(0));
	number(1)->connections++;
	(void)number(2);
	for (unsigned i = 3; i < HOSTS_MOST; i++)
		if (i != 5)
			(void)number(i); /* used again: behind 0 to 2 in nothing but age */
	assert_non_null(number(HOSTS_MOST));
	assert_false(is_there(5));
	for (unsigned i = 0; i < HOSTS_MOST - 10; i++)
		assert_non_null(number(10000 + i));
	for (unsigned i = 0; i < 3; i++)
		assert_true(is_there(i));
	assert_false(is_there(3));
	assert_int_equal(HASH_COUNT(b.host_table), HOSTS_MOST);
	host_release(number(0));
	number(1)->connections--;
}

static void when_all_are_needed_there_is_no_other_one(void **unused)
{
	(void)unused;
	for (unsigned i = 0; i < HOSTS_MOST; i++)
		host_hold(number(i));
	assert_null(number(HOSTS_MOST));
	assert_non_null(number(7));
	host_release(number(7));
	assert_non_null(number(HOSTS_MOST));
	assert_false(is_there(7));
}

static void old_ones_are_forgotten_but_for_a_few(void **unused)
{
	int64_t old = clock_ms() - HOST_KEEP_MS - 1;

	(void)unused;
	for (unsigned i = 0; i < 200; i++)
		number(i)->used_at = old;
	host_hold(b.hosts->prev);
	number(150)->used_at = clock_ms();
	for (int i = 0; i < 100; i++)
		host_forget_old(&b);
	assert_int_equal(HASH_COUNT(b.host_table), HOSTS_FEW);
	assert_true(is_there(0));
	assert_true(is_there(150));
	assert_false(is_there(1));
	for (struct host *h = b.hosts; h; h = h->next)
		h->used_at = clock_ms();
	for (unsigned i = 300; i < 400; i++)
		(void)number(i);
	host_forget_old(&b);
	assert_int_equal(HASH_COUNT(b.host_table), HOSTS_FEW + 100);
}

static void the_one_whose_turn_is_the_longest_ago_comes_first(void **unused)
{
	struct host *all[3] = { number(0), number(1), number(2) };

	(void)unused;
	host_sort(all, 3);
	assert_ptr_equal(all[0], number(0)); /* as the directory has them */
	host_takes_turn(all[0]);
	host_sort(all, 3);
	assert_ptr_equal(all[0], number(1));
	host_takes_turn(all[1]);
	host_sort(all, 3);
	assert_ptr_equal(all[0], number(1));
	assert_ptr_equal(all[1], number(0));
	assert_ptr_equal(all[2], number(2));
}

static void end_loop(void *context)
{
	loop_end(context, 0);
}

/* A probe finds that the host is we ourselves, and the local server wants a place in the table. */
static void a_probe_s_own_host_does_not_go_while_it_ends(void **unused)
{
	static char any[] = "0.0.0.0", none[] = "", path[] = "unix:/nowhere";
	struct timer *soon = NULL;

	(void)unused;
	assert_int_equal(loop_new(&b.loop), 0);
	b.config.listen_port = 143;
	b.config.run_listener = true;
	b.config.lookup_ttl = 60;
	b.config.listen_address = any;
	b.config.proxy_hostname = none;
	b.config.local_server = path;
	struct host *h = number(0);

	assert_int_equal(host_set_addresses(h, SPAN("127.0.0.1")), 0);
	for (unsigned i = 1; i < HOSTS_MOST; i++)
		host_hold(number(i));
	host_probe(h);
	assert_non_null(h->probe);
	assert_int_equal(loop_timer(b.loop, 20, end_loop, b.loop, &soon), 0);
	(void)loop_run(b.loop);
	assert_true(is_there(0));
	assert_null(h->probe);
	host_free_all(&b);
	loop_free(b.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, start, end)
		TEST(a_host_is_a_name_in_any_case_a_port_a_service_and_its_tls),
		TEST(for_a_new_one_the_last_goes_that_nothing_needs),
		TEST(when_all_are_needed_there_is_no_other_one),
		TEST(old_ones_are_forgotten_but_for_a_few),
		TEST(the_one_whose_turn_is_the_longest_ago_comes_first),
		TEST(a_probe_s_own_host_does_not_go_while_it_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
