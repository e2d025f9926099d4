/* What the broker remembers of accounts, and for how long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cachebrokerd/accounts.h"

static struct key key_of(unsigned n)
{
	struct key k;

	memset(&k, 0, sizeof(k));
	memcpy(k.bytes, &n, sizeof(n));
	return k;
}

static const struct account anna = { .hosts = SPAN("0 143 one"), .backend_user = SPAN("anna") };

static void an_account_is_fresh_then_stale_then_nothing(void **unused)
{
	struct accounts *a = accounts_new();
	struct key k = key_of(1), other = key_of(2);
	struct account found;

	(void)unused;
	accounts_store(a, &k, &k, &anna, 100, 200);
	assert_int_equal(accounts_find(a, &other, 0, &found), ACCOUNTS_NOTHING);
	assert_int_equal(accounts_find(a, &k, 99, &found), ACCOUNTS_FRESH);
	assert_true(span_eq(found.hosts, SPAN("0 143 one")));
	assert_true(span_eq(found.backend_user, SPAN("anna")));
	assert_int_equal(accounts_find(a, &k, 100, &found), ACCOUNTS_STALE);
	assert_int_equal(accounts_find(a, &k, 199, &found), ACCOUNTS_STALE);
	assert_int_equal(accounts_find(a, &k, 200, &found), ACCOUNTS_NOTHING);
	assert_int_equal(accounts_find(a, &k, 99, &found), ACCOUNTS_NOTHING);
	accounts_free(a);
}

static void the_last_word_counts(void **unused)
{
	struct accounts *a = accounts_new();
	struct key k = key_of(1);
	struct account found;

	(void)unused;
	accounts_store(a, &k, &k, &anna, 100, 200);
	accounts_store_none(a, &k, &k, false, 150);
	assert_int_equal(accounts_find(a, &k, 10, &found), ACCOUNTS_UNKNOWN);
	assert_int_equal(accounts_find(a, &k, 150, &found), ACCOUNTS_NOTHING);
	accounts_store_none(a, &k, &k, false, 400);
	accounts_store(a, &k, &k, &anna, 300, 300);
	assert_int_equal(accounts_find(a, &k, 299, &found), ACCOUNTS_FRESH);
	accounts_store(a, &k, &k, &found, 500, 500); /* its own texts */
	assert_int_equal(accounts_find(a, &k, 499, &found), ACCOUNTS_FRESH);
	assert_true(span_eq(found.backend_user, SPAN("anna")));
	accounts_forget(a);
	assert_int_equal(accounts_find(a, &k, 0, &found), ACCOUNTS_NOTHING);
	accounts_free(a);
}

/* A password that the directory takes now may have replaced the others. */
static void a_new_password_ends_what_is_stale_of_the_old_one(void **unused)
{
	struct accounts *a = accounts_new();
	struct key user = key_of(1), old = key_of(2), new = key_of(3), other = key_of(4);
	struct account found;

	(void)unused;
	accounts_store(a, &user, &user, &anna, 100, 900); /* of a token, say */
	accounts_store(a, &old, &user, &anna, 100, 900);
	accounts_store(a, &other, &other, &anna, 100, 900);
	accounts_store(a, &new, &user, &anna, 150, 950);
	assert_int_equal(accounts_find(a, &old, 99, &found), ACCOUNTS_FRESH);
	assert_int_equal(accounts_find(a, &old, 100, &found), ACCOUNTS_NOTHING);
	assert_int_equal(accounts_find(a, &new, 949, &found), ACCOUNTS_STALE);
	assert_int_equal(accounts_find(a, &user, 899, &found), ACCOUNTS_STALE);
	assert_int_equal(accounts_find(a, &other, 899, &found), ACCOUNTS_STALE);
	accounts_free(a);
}

static void strangers_names_push_out_no_account(void **unused)
{
	struct accounts *a = accounts_new();
	struct key k = key_of(0);
	struct account found;

	(void)unused;
	accounts_store(a, &k, &k, &anna, 100, 100);
	for (unsigned n = 1; n <= ACCOUNTS_UNKNOWN_MOST + 1; n++) {
		struct key stranger = key_of(n);

		accounts_store_none(a, &stranger, &stranger, false, 100);
	}
	assert_int_equal(accounts_find(a, &k, 0, &found), ACCOUNTS_FRESH);
	k = key_of(1);
	assert_int_equal(accounts_find(a, &k, 0, &found), ACCOUNTS_NOTHING);
	k = key_of(2);
	assert_int_equal(accounts_find(a, &k, 0, &found), ACCOUNTS_UNKNOWN);
	accounts_free(a);
}

static void a_users_logins_are_found_and_forgotten_together(void **unused)
{
	static const struct account moved = { .hosts = SPAN("0 143 two"),
					      .backend_user = SPAN("anna") };
	struct accounts *a = accounts_new();
	struct key user = key_of(1), other = key_of(2), one = key_of(11), two = key_of(12);
	struct account found;

	(void)unused;
	assert_int_equal(accounts_find_user(a, &user, 0, &found), ACCOUNTS_NOTHING);
	accounts_store(a, &one, &user, &anna, 100, 200);
	accounts_store(a, &two, &user, &moved, 50, 60);
	accounts_store(a, &other, &other, &anna, 100, 200);
	assert_int_equal(accounts_find_user(a, &user, 0, &found), ACCOUNTS_FRESH);
	assert_true(span_eq(found.hosts, SPAN("0 143 two")));
	assert_int_equal(accounts_find_user(a, &user, 60, &found), ACCOUNTS_FRESH);
	assert_true(span_eq(found.hosts, SPAN("0 143 one")));
	accounts_store_none(a, &two, &user, false, 90);
	assert_int_equal(accounts_find_user(a, &user, 60, &found), ACCOUNTS_UNKNOWN);
	assert_int_equal(accounts_find_user(a, &user, 90, &found), ACCOUNTS_FRESH);
	accounts_forget_user(a, &user);
	assert_int_equal(accounts_find(a, &one, 0, &found), ACCOUNTS_NOTHING);
	assert_int_equal(accounts_find(a, &two, 0, &found), ACCOUNTS_NOTHING);
	assert_int_equal(accounts_find_user(a, &user, 0, &found), ACCOUNTS_NOTHING);
	assert_int_equal(accounts_find(a, &other, 0, &found), ACCOUNTS_FRESH);
	accounts_forget_user(a, &user);
	accounts_free(a);
}

static void wrong_passwords_say_nothing_of_where_an_account_is(void **unused)
{
	struct accounts *a = accounts_new();
	struct key user = key_of(1), right = key_of(11);
	struct account found;

	(void)unused;
	accounts_store(a, &right, &user, &anna, 100, 200);
	for (unsigned n = 100; n < 110; n++) {
		struct key wrong = key_of(n);

		accounts_store_none(a, &wrong, &user, true, 150);
		assert_int_equal(accounts_find(a, &wrong, 0, &found), ACCOUNTS_REFUSED);
	}
	assert_int_equal(accounts_find_user(a, &user, 0, &found), ACCOUNTS_FRESH);
	accounts_store_none(a, &right, &user, true, 150); /* changed meanwhile */
	assert_int_equal(accounts_find(a, &right, 0, &found), ACCOUNTS_REFUSED);
	assert_int_equal(accounts_find_user(a, &user, 0, &found), ACCOUNTS_NOTHING);
	accounts_free(a);
}

/* Tells `to` all that `from` knows. Returns how many rows that were. */
static unsigned hand_over(struct accounts *from, struct accounts *to, int64_t now)
{
	struct accounts_cursor at;
	struct accounts_row row;
	unsigned count = 0;

	accounts_begin(from, &at);
	for (; accounts_next(&at, now, &row); count++)
		accounts_restore(to, &row);
	return count;
}

static void a_successor_knows_the_same(void **unused)
{
	struct accounts *a = accounts_new(), *b = accounts_new();
	struct key user = key_of(1), first = key_of(2), second = key_of(3), third = key_of(4);
	struct key nobody = key_of(5), old = key_of(6);
	const struct account made = { .hosts = SPAN("0 143 two"),
				      .backend_user = SPAN(""),
				      .other_password = true };
	struct account found;

	(void)unused;
	accounts_store(a, &first, &user, &anna, 100, 300);
	accounts_store_none(a, &nobody, &nobody, false, 150);
	accounts_store_none(a, &second, &user, true, 150);
	accounts_store(a, &old, &old, &anna, 10, 50);
	accounts_store(a, &third, &user, &made, 100, 200); /* stale, first is no good any more */
	assert_int_equal(hand_over(a, b, 50), 4); /* not the old one */
	assert_int_equal(accounts_find(b, &first, 99, &found), ACCOUNTS_FRESH);
	assert_true(span_eq(found.hosts, SPAN("0 143 one")) && !found.other_password);
	assert_true(span_eq(found.backend_user, SPAN("anna")));
	assert_int_equal(accounts_find(b, &first, 100, &found), ACCOUNTS_NOTHING);
	assert_int_equal(accounts_find(b, &third, 199, &found), ACCOUNTS_STALE);
	assert_true(span_eq(found.hosts, SPAN("0 143 two")) && found.other_password);
	assert_int_equal(accounts_find(b, &second, 149, &found), ACCOUNTS_REFUSED);
	assert_int_equal(accounts_find(b, &nobody, 149, &found), ACCOUNTS_UNKNOWN);
	assert_int_equal(accounts_find(b, &nobody, 150, &found), ACCOUNTS_NOTHING);
	assert_int_equal(accounts_find(b, &old, 0, &found), ACCOUNTS_NOTHING);
	accounts_free(a);
	accounts_free(b);
}

/* Of both tables: whether there is an account is what was said last. */
static void a_successor_knows_what_was_said_last_of_a_user(void **unused)
{
	struct key user = key_of(1), one = key_of(2), other = key_of(3);
	struct account found;

	(void)unused;
	for (int gone = 0; gone < 2; gone++) {
		struct accounts *a = accounts_new(), *b = accounts_new();

		if (gone)
			accounts_store(a, &one, &user, &anna, 100, 100);
		accounts_store_none(a, &other, &user, false, 100);
		if (!gone)
			accounts_store(a, &one, &user, &anna, 100, 100);
		assert_int_equal(hand_over(a, b, 0), 2);
		assert_int_equal(accounts_find_user(b, &user, 0, &found),
				 gone ? ACCOUNTS_UNKNOWN : ACCOUNTS_FRESH);
		accounts_free(a);
		accounts_free(b);
	}
}

/* The oldest goes first there, too. */
static void a_successor_forgets_in_the_same_order(void **unused)
{
	struct accounts *a = accounts_new(), *b = accounts_new();
	struct account found;

	(void)unused;
	for (unsigned n = 1; n <= ACCOUNTS_MOST; n++) {
		struct key k = key_of(n);

		accounts_store(a, &k, &k, &anna, 100, 100);
	}
	assert_int_equal(hand_over(a, b, 0), ACCOUNTS_MOST);
	struct key oldest = key_of(1), next = key_of(2), further = key_of(ACCOUNTS_MOST + 1);

	accounts_store(b, &further, &further, &anna, 100, 100);
	assert_int_equal(accounts_find(b, &oldest, 0, &found), ACCOUNTS_NOTHING);
	assert_int_equal(accounts_find(b, &next, 0, &found), ACCOUNTS_FRESH);
	accounts_free(a);
	accounts_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_account_is_fresh_then_stale_then_nothing),
		cmocka_unit_test(the_last_word_counts),
		cmocka_unit_test(a_new_password_ends_what_is_stale_of_the_old_one),
		cmocka_unit_test(strangers_names_push_out_no_account),
		cmocka_unit_test(a_users_logins_are_found_and_forgotten_together),
		cmocka_unit_test(wrong_passwords_say_nothing_of_where_an_account_is),
		cmocka_unit_test(a_successor_knows_the_same),
		cmocka_unit_test(a_successor_knows_what_was_said_last_of_a_user),
		cmocka_unit_test(a_successor_forgets_in_the_same_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
