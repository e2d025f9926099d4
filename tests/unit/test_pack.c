/* The pack: every record there and back, and whatever else is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cachebrokerd/pack.h"

static char data[PACK_RECORD_MAX];
static char texts[PACK_RECORD_MAX];

/* Different values for each field: seed counts up. Texts are parts of `texts`. */
#define FILL_U32(N, name) r->N.name = 0x01020304u * ++seed;
#define FILL_U64(N, name) r->N.name = 0x0102030405060708u * ++seed;
#define FILL_KEY(N, name) memset(r->N.name.bytes, (int)++seed, KEY_BYTES);
#define FILL_TEXT(N, name, longest) \
	r->N.name = (struct span){ texts + ++seed, full ? (longest) : seed % 8 };
#define SAME_U32(N, name)	    assert_true(a->N.name == b->N.name);
#define SAME_U64(N, name)	    assert_true(a->N.name == b->N.name);
#define SAME_KEY(N, name)	    assert_true(key_same(&a->N.name, &b->N.name));
#define SAME_TEXT(N, name, longest) assert_true(span_eq(a->N.name, b->N.name));

#define ROW_FUNCTIONS(name, number, sockets, FIELDS) \
	static void fill_##name(struct pack_record *r, bool full) \
	{ \
		unsigned seed = 0; \
\
		FIELDS(name, FILL_U32, FILL_U64, FILL_KEY, FILL_TEXT) \
		(void)full; \
		(void)seed; \
	} \
	static void compare_##name(const struct pack_record *a, const struct pack_record *b) \
	{ \
		FIELDS(name, SAME_U32, SAME_U64, SAME_KEY, SAME_TEXT) \
	}
PACK_TABLE(ROW_FUNCTIONS)

static const struct {
	enum pack_type type;
	void (*fill)(struct pack_record *r, bool full);
	void (*compare)(const struct pack_record *a, const struct pack_record *b);
} rows[] = {
#define ROW(name, ...) { PACK_##name, fill_##name, compare_##name },
	PACK_TABLE(ROW)
#undef ROW
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

static int fill_texts(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < sizeof(texts); i++)
		texts[i] = (char)('a' + i % 23);
	return 0;
}

/* Encodes row i into data. */
static size_t encode(size_t i, bool full, struct pack_record *r)
{
	*r = (struct pack_record){ .type = rows[i].type };
	rows[i].fill(r, full);
	int n = pack_encode(r, data, sizeof(data));

	assert_true(n > 0);
	return (size_t)n;
}

static void every_record_comes_back_as_it_was(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < ROWS; i++)
		for (int full = 0; full < 2; full++) {
			struct pack_record in, out = { 0 };
			struct span rest = { data, encode(i, full, &in) };

			assert_int_equal(pack_decode(&rest, &out), 1);
			assert_int_equal(rest.n, 0);
			assert_int_equal(out.type, in.type);
			rows[i].compare(&in, &out);
			assert_int_equal(pack_decode(&rest, &out), 0);
		}
}

static void a_record_that_is_cut_is_refused(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < ROWS; i++) {
		struct pack_record in, out;
		size_t n = encode(i, false, &in);

		for (size_t cut = 1; cut < n; cut++) {
			struct span rest = { data, n - cut };

			assert_int_equal(pack_decode(&rest, &out), -EBADMSG);
		}
	}
}

static void a_record_with_a_bit_turned_over_is_refused(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < ROWS; i++) {
		struct pack_record in, out;
		size_t n = encode(i, true, &in);

		for (size_t bit = 0; bit < n * 8; bit++) {
			struct span rest = { data, n };

			data[bit / 8] = (char)(data[bit / 8] ^ 1 << bit % 8);
			assert_int_equal(pack_decode(&rest, &out), -EBADMSG);
			data[bit / 8] = (char)(data[bit / 8] ^ 1 << bit % 8);
		}
	}
}

static void a_text_that_is_too_long_is_neither_written_nor_read(void **unused)
{
	struct pack_record r, out;
	uint32_t longer = 201;

	(void)unused;
	r = (struct pack_record){ .type = PACK_HABIT, .HABIT.fingerprint = { texts, longer } };
	assert_int_equal(pack_encode(&r, data, sizeof(data)), -ENOBUFS);

	r.HABIT.fingerprint.n = 200;
	int n = pack_encode(&r, data, sizeof(data));

	assert_true(n > 204);
	memcpy(data + n - 4 - 204, &longer, sizeof(longer));
	struct span rest = { data, (size_t)n + 1 };

	assert_int_equal(pack_decode(&rest, &out), -EBADMSG);
}

static void a_record_without_room_is_not_written(void **unused)
{
	struct pack_record r;

	(void)unused;
	size_t n = encode(0, true, &r);

	assert_int_equal(pack_encode(&r, data, n - 1), -ENOBUFS);
	r.type = (enum pack_type)99;
	assert_int_equal(pack_encode(&r, data, sizeof(data)), -EINVAL);
}

static void an_unknown_record_is_refused(void **unused)
{
	const uint32_t numbers[] = { 0, 6, 99, UINT32_MAX };
	struct pack_record out;

	(void)unused;
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		struct span rest = { (const char *)&numbers[i], sizeof(numbers[i]) };

		assert_int_equal(pack_decode(&rest, &out), -EBADMSG);
	}
	assert_int_equal(pack_sockets((enum pack_type)99), 0);
	assert_int_equal(pack_sockets(PACK_CLIENT), 1);
	assert_int_equal(pack_sockets(PACK_CONNECTION), 0);
}

static void a_pack_of_another_version_says_which(void **unused)
{
	char prefix[PACK_PREFIX];
	uint32_t version, messages, other = PACK_VERSION + 1;
	struct span rest = { prefix, sizeof(prefix) };

	(void)unused;
	pack_prefix(prefix);
	assert_int_equal(pack_take_prefix(&rest, &version, &messages), 0);
	assert_int_equal(rest.n, 0);
	assert_int_equal(version, PACK_VERSION);
	assert_int_equal(messages, MSG_VERSION);

	memcpy(prefix + 8, &other, sizeof(other));
	rest = (struct span){ prefix, sizeof(prefix) };
	assert_int_equal(pack_take_prefix(&rest, &version, &messages), -EPROTONOSUPPORT);
	assert_int_equal(version, other);

	pack_prefix(prefix);
	other = MSG_VERSION + 1;
	memcpy(prefix + 12, &other, sizeof(other));
	rest = (struct span){ prefix, sizeof(prefix) };
	assert_int_equal(pack_take_prefix(&rest, &version, &messages), -EPROTONOSUPPORT);
	assert_int_equal(messages, other);
}

static void what_does_not_begin_like_a_pack_is_none(void **unused)
{
	char prefix[PACK_PREFIX];
	uint32_t version, messages;

	(void)unused;
	pack_prefix(prefix);
	for (size_t n = 0; n < sizeof(prefix); n++) {
		struct span rest = { prefix, n };

		assert_int_equal(pack_take_prefix(&rest, &version, &messages), -EBADMSG);
	}
	prefix[0] ^= 1;
	struct span rest = { prefix, sizeof(prefix) };

	assert_int_equal(pack_take_prefix(&rest, &version, &messages), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_record_comes_back_as_it_was),
		cmocka_unit_test(a_record_that_is_cut_is_refused),
		cmocka_unit_test(a_record_with_a_bit_turned_over_is_refused),
		cmocka_unit_test(a_text_that_is_too_long_is_neither_written_nor_read),
		cmocka_unit_test(a_record_without_room_is_not_written),
		cmocka_unit_test(an_unknown_record_is_refused),
		cmocka_unit_test(a_pack_of_another_version_says_which),
		cmocka_unit_test(what_does_not_begin_like_a_pack_is_none),
	};

	return cmocka_run_group_tests(tests, fill_texts, NULL);
}
