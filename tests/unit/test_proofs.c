/* What a mail host last said about a password: which one is current, how old its proof is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cachebrokerd/burst.h"
#include "cachebrokerd/proofs.h"
#include "cachebrokerd/secrets.h"

static struct key key(const char *name, uint32_t number)
{
	struct key k = { { 0 } };

	memcpy(k.bytes, name, strlen(name));
	memcpy(k.bytes + KEY_BYTES - sizeof(number), &number, sizeof(number));
	return k;
}

#define ANNA (&(struct key){ { 'a' } })
#define BERT (&(struct key){ { 'b' } })
#define OLD  (&(struct key){ { 'o' } })
#define NEW  (&(struct key){ { 'n' } })

static void test_nothing_is_known_at_first(void **state)
{
	struct proofs *p = proofs_new();

	(void)state;
	assert_false(proofs_current(p, ANNA, OLD));
	assert_false(proofs_fresh(p, ANNA, OLD, 0));
	assert_false(proofs_try(p, ANNA, 1000, 1000));
	proofs_refuse(p, ANNA, OLD);
	assert_false(proofs_current(p, ANNA, OLD));
	proofs_free(p);
}

static void test_a_proof_grows_old(void **state)
{
	struct proofs *p = proofs_new();

	(void)state;
	proofs_accept(p, ANNA, OLD, 100);
	assert_true(proofs_current(p, ANNA, OLD));
	assert_true(proofs_fresh(p, ANNA, OLD, 100));
	assert_false(proofs_fresh(p, ANNA, OLD, 101));
	proofs_accept(p, ANNA, OLD, 200);
	assert_true(proofs_fresh(p, ANNA, OLD, 200));
	assert_false(proofs_current(p, BERT, OLD));
	proofs_free(p);
}

static void test_a_new_password_takes_the_place_of_the_old_one(void **state)
{
	struct proofs *p = proofs_new();

	(void)state;
	proofs_accept(p, ANNA, OLD, 100);
	proofs_accept(p, ANNA, NEW, 200);
	assert_false(proofs_current(p, ANNA, OLD));
	assert_true(proofs_current(p, ANNA, NEW));
	/* a login that began before, and was told of late */
	proofs_accept(p, ANNA, OLD, 199);
	assert_true(proofs_current(p, ANNA, NEW));
	proofs_free(p);
}

static void test_a_refusal_of_the_current_one_leaves_none(void **state)
{
	struct proofs *p = proofs_new();

	(void)state;
	proofs_accept(p, ANNA, NEW, 100);
	proofs_refuse(p, ANNA, OLD);
	assert_true(proofs_fresh(p, ANNA, NEW, 100));
	proofs_refuse(p, ANNA, NEW);
	assert_false(proofs_current(p, ANNA, NEW));
	assert_false(proofs_fresh(p, ANNA, NEW, 0));
	proofs_accept(p, ANNA, NEW, 99);
	assert_false(proofs_current(p, ANNA, NEW));
	proofs_accept(p, ANNA, NEW, 101);
	assert_true(proofs_current(p, ANNA, NEW));
	proofs_free(p);
}

static void test_tries_have_a_pause(void **state)
{
	struct proofs *p = proofs_new();

	(void)state;
	proofs_accept(p, ANNA, OLD, 100);
	assert_false(proofs_try(p, ANNA, 99, 120));
	assert_true(proofs_try(p, ANNA, 100, 120));
	assert_false(proofs_try(p, ANNA, 119, 130));
	assert_true(proofs_try(p, ANNA, 120, 140));
	proofs_free(p);
}

static void test_the_accounts_are_bounded_and_the_last_heard_of_stay(void **state)
{
	struct proofs *p = proofs_new();
	struct key account;

	(void)state;
	for (uint32_t i = 0; i < PROOFS_MOST; i++) {
		account = key("account", i);
		proofs_accept(p, &account, OLD, 1);
	}
	account = key("account", 0);
	proofs_accept(p, &account, OLD, 2);
	proofs_accept(p, ANNA, OLD, 3);
	assert_true(proofs_current(p, &account, OLD));
	assert_true(proofs_current(p, ANNA, OLD));
	account = key("account", 1);
	assert_false(proofs_current(p, &account, OLD));
	account = key("account", 2);
	assert_true(proofs_current(p, &account, OLD));
	proofs_free(p);
}

static void test_three_ends_within_two_seconds_are_a_burst(void **state)
{
	struct burst b = { 0 };

	(void)state;
	assert_false(burst_note(&b, 1));
	assert_false(burst_note(&b, 1000));
	assert_true(burst_note(&b, 2001));
	/* the next ones begin a new one */
	assert_false(burst_note(&b, 2002));
	assert_false(burst_note(&b, 2003));
	assert_true(burst_note(&b, 2004));
}

static void test_slower_ends_are_none(void **state)
{
	struct burst b = { 0 };

	(void)state;
	for (int64_t now = 1; now < 100000; now += 1001)
		assert_false(burst_note(&b, now));
	assert_false(burst_note(&b, 200000));
	assert_false(burst_note(&b, 200000));
	assert_true(burst_note(&b, 200000));
}

static void test_a_secret_is_overwritten_and_its_place_used_again(void **state)
{
	struct secret *s = secret_keep(SPAN("hush"));
	const char *bytes = secret_span(s).p;

	(void)state;
	assert_true(span_eq(secret_span(s), SPAN("hush")));
	secret_wipe(&s);
	assert_null(s);
	assert_memory_equal(bytes, "\0\0\0\0", 4);
	secret_wipe(&s);
	s = secret_keep(SPAN_NONE);
	assert_ptr_equal(secret_span(s).p, bytes);
	assert_int_equal(secret_span(s).n, 0);
	secret_wipe(&s);
}

static void test_secrets_are_bounded(void **state)
{
	static char longest[8193];
	struct secret *all[SECRETS_MOST], *none;

	(void)state;
	assert_null(secret_keep((struct span){ longest, 8193 }));
	for (size_t i = 0; i < SECRETS_MOST; i++) {
		memset(longest, (int)i, 8192);
		all[i] = secret_keep((struct span){ longest, 8192 });
		assert_non_null(all[i]);
	}
	none = secret_keep(SPAN("x"));
	assert_null(none);
	for (size_t i = 0; i < SECRETS_MOST; i++) {
		assert_int_equal(secret_span(all[i]).p[8191], (char)i);
		secret_wipe(&all[i]);
	}
}

static void test_when_the_current_one_was_accepted_is_told(void **state)
{
	struct proofs *p = proofs_new();
	const struct key account = { { 1 } }, old = { { 2 } }, current = { { 3 } };

	(void)state;
	assert_non_null(p);
	assert_int_equal(proofs_when(p, &account, &current), 0);
	proofs_accept(p, &account, &old, 1000);
	proofs_accept(p, &account, &current, 2000);
	assert_int_equal(proofs_when(p, &account, &current), 2000);
	assert_int_equal(proofs_when(p, &account, &old), 0);
	proofs_refuse(p, &account, &current);
	assert_int_equal(proofs_when(p, &account, &current), 0);
	proofs_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_is_known_at_first),
		cmocka_unit_test(test_a_proof_grows_old),
		cmocka_unit_test(test_a_new_password_takes_the_place_of_the_old_one),
		cmocka_unit_test(test_a_refusal_of_the_current_one_leaves_none),
		cmocka_unit_test(test_tries_have_a_pause),
		cmocka_unit_test(test_the_accounts_are_bounded_and_the_last_heard_of_stay),
		cmocka_unit_test(test_when_the_current_one_was_accepted_is_told),
		cmocka_unit_test(test_three_ends_within_two_seconds_are_a_burst),
		cmocka_unit_test(test_slower_ends_are_none),
		cmocka_unit_test(test_a_secret_is_overwritten_and_its_place_used_again),
		cmocka_unit_test(test_secrets_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
