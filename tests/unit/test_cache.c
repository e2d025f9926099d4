/* The table of idle connections: its four orders, and random use of it against a plain list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cachebrokerd/cache.h"

static struct cache *cache;

static int make_cache(void **unused)
{
	(void)unused;
	cache = cache_new();
	return cache ? 0 : -1;
}

static int drop_cache(void **unused)
{
	(void)unused;
	while (cache_oldest(cache))
		cache_remove(cache, cache_oldest(cache));
	cache_free(cache);
	return 0;
}

static struct key key_of(unsigned char kind, unsigned char number)
{
	struct key k = {0};

	k.bytes[0] = kind;
	k.bytes[KEY_BYTES - 1] = number;
	return k;
}

static void fill(struct cache_entry *e, unsigned char key, unsigned char account)
{
	memset(e, 0, sizeof(*e));
	e->key = key_of('k', key);
	e->account = key_of('a', account);
}

static void put(struct cache_entry *e, unsigned char key, unsigned char account)
{
	fill(e, key, account);
	assert_int_equal(cache_add(cache, e), 0);
}

static struct cache_entry *newest_of(unsigned char key)
{
	struct key k = key_of('k', key);

	return cache_newest(cache, &k);
}

static struct cache_entry *oldest_of(unsigned char account, unsigned *count)
{
	struct key k = key_of('a', account);

	return cache_oldest_of(cache, &k, count);
}

static void an_empty_cache_has_nothing(void **unused)
{
	unsigned count = 7;

	(void)unused;
	assert_int_equal(cache_count(cache), 0);
	assert_null(cache_oldest(cache));
	assert_null(newest_of(1));
	assert_null(oldest_of(1, &count));
	assert_int_equal(count, 0);
}

static void the_newest_of_a_key_comes_out_first(void **unused)
{
	static struct cache_entry e[4], other;

	(void)unused;
	for (int i = 0; i < 4; i++)
		put(&e[i], 1, 1);
	put(&other, 2, 1);
	for (int i = 3; i >= 0; i--) {
		assert_ptr_equal(newest_of(1), &e[i]);
		assert_ptr_equal(newest_of(1), &e[i]); /* looking takes nothing out */
		cache_remove(cache, &e[i]);
	}
	assert_null(newest_of(1));
	assert_ptr_equal(newest_of(2), &other);
}

static void the_oldest_of_all_goes_first(void **unused)
{
	static struct cache_entry e[6];

	(void)unused;
	for (unsigned char i = 0; i < 6; i++)
		put(&e[i], i % 3, i % 2);
	for (int i = 0; i < 6; i++) {
		assert_ptr_equal(cache_oldest(cache), &e[i]);
		assert_int_equal(cache_count(cache), 6 - i);
		cache_remove(cache, &e[i]);
	}
	assert_null(cache_oldest(cache));
}

static void an_account_is_counted_over_its_keys(void **unused)
{
	static struct cache_entry e[5];
	unsigned count;

	(void)unused;
	put(&e[0], 1, 1);
	put(&e[1], 2, 2);
	put(&e[2], 3, 1);
	put(&e[3], 1, 1);
	put(&e[4], 2, 2);
	assert_ptr_equal(oldest_of(1, &count), &e[0]);
	assert_int_equal(count, 3);
	assert_ptr_equal(oldest_of(2, &count), &e[1]);
	assert_int_equal(count, 2);
	assert_null(oldest_of(3, &count));
	assert_int_equal(count, 0);
	cache_remove(cache, &e[0]);
	assert_ptr_equal(oldest_of(1, &count), &e[2]);
	assert_int_equal(count, 2);
}

static void a_users_entries_are_found_whatever_their_keys(void **unused)
{
	static struct cache_entry e[4];
	struct key user = key_of('u', 1), other = key_of('u', 2);

	(void)unused;
	for (unsigned char i = 0; i < 4; i++) {
		fill(&e[i], i, i);
		e[i].user = i == 1 ? other : user;
		assert_int_equal(cache_add(cache, &e[i]), 0);
	}
	assert_ptr_equal(cache_oldest_of_user(cache, &other), &e[1]);
	assert_null(e[1].user_newer);
	assert_ptr_equal(cache_oldest_of_user(cache, &user), &e[0]);
	assert_ptr_equal(e[0].user_newer, &e[2]);
	cache_remove(cache, &e[0]);
	assert_ptr_equal(cache_oldest_of_user(cache, &user), &e[2]);
	cache_remove(cache, &e[1]);
	assert_null(cache_oldest_of_user(cache, &other));
}

static void an_entry_is_taken_out_anywhere_and_put_back_as_the_newest(void **unused)
{
	static struct cache_entry e[5];

	(void)unused;
	for (size_t out = 0; out < 5; out++) {
		for (size_t i = 0; i < 5; i++)
			put(&e[i], 1, 1);
		cache_remove(cache, &e[out]);
		assert_int_equal(cache_count(cache), 4);
		assert_ptr_equal(cache_oldest(cache), out == 0 ? &e[1] : &e[0]);
		assert_ptr_equal(newest_of(1), out == 4 ? &e[3] : &e[4]);
		assert_int_equal(cache_add(cache, &e[out]), 0);
		assert_ptr_equal(newest_of(1), &e[out]);
		while (cache_oldest(cache))
			cache_remove(cache, cache_oldest(cache));
	}
}

static void keys_that_differ_in_one_byte_are_different(void **unused)
{
	static struct cache_entry e[KEY_BYTES];

	(void)unused;
	for (size_t i = 0; i < KEY_BYTES; i++) {
		fill(&e[i], 0, 0);
		e[i].key.bytes[i] ^= 0x80;
		assert_int_equal(cache_add(cache, &e[i]), 0);
	}
	for (size_t i = 0; i < KEY_BYTES; i++)
		assert_ptr_equal(cache_newest(cache, &e[i].key), &e[i]);
	assert_null(newest_of(0));
}

/* --- against a plain list: model[0] is the oldest --- */

#define ENTRIES	 60
#define KEYS	 7
#define ACCOUNTS 4

static struct cache_entry entries[ENTRIES];
static struct cache_entry *model[ENTRIES];
static size_t model_count;

static void assert_like_the_model(void)
{
	struct cache_entry *newest[KEYS] = {0}, *oldest[ACCOUNTS] = {0};
	unsigned counts[ACCOUNTS] = {0};

	for (size_t i = 0; i < model_count; i++) {
		unsigned char account = model[i]->account.bytes[KEY_BYTES - 1];

		newest[model[i]->key.bytes[KEY_BYTES - 1]] = model[i];
		if (counts[account]++ == 0)
			oldest[account] = model[i];
	}
	assert_int_equal(cache_count(cache), model_count);
	assert_ptr_equal(cache_oldest(cache), model_count > 0 ? model[0] : NULL);
	for (unsigned char i = 0; i < KEYS; i++)
		assert_ptr_equal(newest_of(i), newest[i]);
	for (unsigned char i = 0; i < ACCOUNTS; i++) {
		unsigned count;

		assert_ptr_equal(oldest_of(i, &count), oldest[i]);
		assert_int_equal(count, counts[i]);
	}
}

static void model_remove(size_t at)
{
	model_count--;
	memmove(&model[at], &model[at + 1], (model_count - at) * sizeof(model[0]));
}

static size_t model_find(const struct cache_entry *e)
{
	size_t i = 0;

	while (i < model_count && model[i] != e)
		i++;
	return i;
}

static void random_use_agrees_with_a_plain_list(void **unused)
{
	uint64_t random = 88172645463325252u; /* xorshift: the same every time */

	(void)unused;
	model_count = 0;
	for (int step = 0; step < 20000; step++) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		struct cache_entry *e = &entries[random % ENTRIES];
		size_t at = model_find(e);

		if (at < model_count) {
			cache_remove(cache, e);
			model_remove(at);
		} else if ((random >> 32) % 8 < (step / 1000 % 2 ? 7 : 3)) {
			put(e, (unsigned char)((random >> 40) % KEYS),
			    (unsigned char)((random >> 48) % ACCOUNTS));
			model[model_count++] = e;
		}
		assert_like_the_model();
	}
}

int main(void)
{
#define CACHE_TEST(f) cmocka_unit_test_setup_teardown(f, make_cache, drop_cache)
	const struct CMUnitTest tests[] = {
		CACHE_TEST(an_empty_cache_has_nothing),
		CACHE_TEST(the_newest_of_a_key_comes_out_first),
		CACHE_TEST(the_oldest_of_all_goes_first),
		CACHE_TEST(an_account_is_counted_over_its_keys),
		CACHE_TEST(a_users_entries_are_found_whatever_their_keys),
		CACHE_TEST(an_entry_is_taken_out_anywhere_and_put_back_as_the_newest),
		CACHE_TEST(keys_that_differ_in_one_byte_are_different),
		CACHE_TEST(random_use_agrees_with_a_plain_list),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
