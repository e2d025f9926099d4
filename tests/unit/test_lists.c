/* Capability lists that are known: of whom, and that many may share one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cachebrokerd/lists.h"

static struct lists *lists;

static int make(void **unused)
{
	(void)unused;
	lists = lists_new();
	return lists ? 0 : -1;
}

static int drop(void **unused)
{
	(void)unused;
	lists_free(lists);
	return 0;
}

static struct key key_of(unsigned n)
{
	struct key k = { { 0 } };

	memcpy(k.bytes, &n, sizeof(n));
	return k;
}

static void note(unsigned n, const char *text)
{
	struct key k = key_of(n);

	lists_note(lists, &k, span_str(text));
}

static void assert_list(unsigned n, const char *text)
{
	struct key k = key_of(n);
	struct span found = lists_find(lists, &k);

	assert_int_equal(found.n, strlen(text));
	assert_memory_equal(found.p, text, found.n);
}

static void of_a_stranger_nothing_is_known(void **unused)
{
	(void)unused;
	note(1, "IMAP4rev1 IDLE");
	assert_list(2, "");
	assert_list(1 + LISTS_SLOTS, "");
	assert_list(1, "IMAP4rev1 IDLE");
}

static void the_last_word_counts_but_an_empty_one_is_none(void **unused)
{
	(void)unused;
	note(1, "IMAP4rev1 IDLE");
	note(1, "IMAP4rev1");
	assert_list(1, "IMAP4rev1");
	note(1, "");
	assert_list(1, "IMAP4rev1");
}

static void a_newer_key_takes_an_olders_place(void **unused)
{
	(void)unused;
	note(1, "IMAP4rev1");
	note(1 + LISTS_SLOTS, "IMAP4rev2");
	assert_list(1, "");
	assert_list(1 + LISTS_SLOTS, "IMAP4rev2");
}

static void equal_lists_are_kept_once(void **unused)
{
	const struct key one = key_of(1), other = key_of(2);

	(void)unused;
	note(1, "IMAP4rev1 IDLE");
	note(2, "IMAP4rev1 IDLE");
	assert_ptr_equal(lists_find(lists, &one).p, lists_find(lists, &other).p);
	note(1, "IMAP4rev1");
	assert_list(2, "IMAP4rev1 IDLE");
	assert_list(1, "IMAP4rev1");
}

static void more_lists_than_are_shared_do_no_harm(void **unused)
{
	char text[20];

	(void)unused;
	for (unsigned n = 0; n < 3 * LISTS_DISTINCT; n++) {
		(void)snprintf(text, sizeof(text), "X-%u", n);
		note(n, text);
	}
	for (unsigned n = 0; n < 3 * LISTS_DISTINCT; n++) {
		(void)snprintf(text, sizeof(text), "X-%u", n);
		assert_list(n, text);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, drop)
	const struct CMUnitTest tests[] = {
		TEST(of_a_stranger_nothing_is_known),
		TEST(the_last_word_counts_but_an_empty_one_is_none),
		TEST(a_newer_key_takes_an_olders_place),
		TEST(equal_lists_are_kept_once),
		TEST(more_lists_than_are_shared_do_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
