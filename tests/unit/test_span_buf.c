/* Borrowed bytes and bounded buffers. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "lib/buf.h"
#include "lib/span.h"

#define assert_span(span_, text) assert_true(span_eq(span_, span_str(text)))

static void equality_is_of_bytes_and_length(void **unused)
{
	(void)unused;
	assert_true(span_eq(SPAN("ab"), SPAN("ab")));
	assert_false(span_eq(SPAN("ab"), SPAN("abc")));
	assert_false(span_eq(SPAN("ab"), SPAN("aB")));
	assert_true(span_eq(SPAN_NONE, (struct span){NULL, 0}));
	assert_true(span_eq(SPAN("a\0b"), SPAN("a\0b")));
	assert_false(span_eq(SPAN("a\0b"), SPAN("a\0c")));
}

static void case_is_ignored_for_ascii_letters_only(void **unused)
{
	(void)unused;
	assert_true(span_ieq(SPAN("LogOut"), SPAN("lOGoUT")));
	assert_false(span_ieq(SPAN("["), SPAN("{")));
	assert_false(span_ieq(SPAN("@"), SPAN("`")));
	assert_false(span_ieq(SPAN("\xc4"), SPAN("\xe4")));
	assert_false(span_ieq(SPAN("a"), SPAN("ab")));
	assert_true(span_istarts(SPAN("UID FETCH"), SPAN("uid ")));
	assert_false(span_istarts(SPAN("UI"), SPAN("uid")));
	assert_true(span_istarts(SPAN("x"), SPAN_NONE));
}

static void a_needle_is_found_anywhere(void **unused)
{
	(void)unused;
	assert_true(span_ihas(SPAN("* OK [Capability x]"), SPAN("[CAPABILITY ")));
	assert_true(span_ihas(SPAN("abc"), SPAN("C")));
	assert_true(span_ihas(SPAN("aab"), SPAN("ab")));
	assert_false(span_ihas(SPAN("abc"), SPAN("abcd")));
	assert_false(span_ihas(SPAN_NONE, SPAN("a")));
}

static void secrets_are_compared_as_a_whole(void **unused)
{
	(void)unused;
	assert_true(span_eq_secret(SPAN("secret"), SPAN("secret")));
	assert_false(span_eq_secret(SPAN("secret"), SPAN("Secret")));
	assert_false(span_eq_secret(SPAN("secret"), SPAN("secreT")));
	assert_false(span_eq_secret(SPAN("secret"), SPAN("secre")));
	assert_true(span_eq_secret(SPAN_NONE, SPAN_NONE));
}

static void words_are_cut_off_at_separators(void **unused)
{
	struct span rest = SPAN("  one two   three ");

	(void)unused;
	assert_span(span_word(&rest, ' '), "one");
	assert_span(span_word(&rest, ' '), "two");
	assert_span(span_word(&rest, ' '), "three");
	assert_int_equal(span_word(&rest, ' ').n, 0);
	assert_int_equal(rest.n, 0);
	assert_int_equal(span_word(&rest, ' ').n, 0);
}

static void an_offset_behind_the_end_gives_nothing(void **unused)
{
	(void)unused;
	assert_span(span_from(SPAN("abc"), 1), "bc");
	assert_int_equal(span_from(SPAN("abc"), 3).n, 0);
	assert_int_equal(span_from(SPAN("abc"), 4).n, 0);
}

static void numbers_fill_the_span_and_respect_the_bound(void **unused)
{
	uint64_t n = 7;

	(void)unused;
	assert_int_equal(span_u64(SPAN("0"), 10, &n), 0);
	assert_true(n == 0);
	assert_int_equal(span_u64(SPAN("00010"), 10, &n), 0);
	assert_true(n == 10);
	assert_int_equal(span_u64(SPAN("18446744073709551615"), UINT64_MAX, &n), 0);
	assert_true(n == UINT64_MAX);
	n = 7;
	assert_int_equal(span_u64(SPAN("18446744073709551616"), UINT64_MAX, &n), -ERANGE);
	assert_int_equal(span_u64(SPAN("99999999999999999999999"), UINT64_MAX, &n), -ERANGE);
	assert_int_equal(span_u64(SPAN("11"), 10, &n), -ERANGE);
	assert_int_equal(span_u64(SPAN_NONE, 10, &n), -EINVAL);
	assert_int_equal(span_u64(SPAN("1 "), 10, &n), -EINVAL);
	assert_int_equal(span_u64(SPAN("-1"), 10, &n), -EINVAL);
	assert_int_equal(span_u64(SPAN("+1"), 10, &n), -EINVAL);
	assert_true(n == 7);
}

static void what_does_not_fit_changes_nothing(void **unused)
{
	char memory[5];
	struct buf b = BUF_OVER(memory);

	(void)unused;
	assert_int_equal(buf_add_str(&b, "abc"), 0);
	assert_int_equal(buf_add_str(&b, "def"), -ENOBUFS);
	assert_span(buf_span(&b), "abc");
	assert_int_equal(buf_add_str(&b, "de"), 0);
	assert_int_equal(buf_add_char(&b, 'f'), -ENOBUFS);
	assert_int_equal(buf_add(&b, SPAN_NONE), 0);
	assert_int_equal(buf_add(&b, (struct span){"", SIZE_MAX}), -ENOBUFS);
	assert_span(buf_span(&b), "abcde");
}

static void consumed_room_is_used_again(void **unused)
{
	char memory[4];
	struct buf b = BUF_OVER(memory);

	(void)unused;
	for (int i = 0; i < 100; i++) {
		assert_int_equal(buf_add_str(&b, "abc"), 0);
		buf_consume(&b, 2);
		assert_int_equal(buf_add_str(&b, "xyz"), 0);
		assert_span(buf_span(&b), "cxyz");
		buf_consume(&b, 4);
		assert_int_equal(b.off, 0);
	}
}

static void a_byte_uses_consumed_room_too(void **unused)
{
	(void)unused;
	char bytes[3];
	struct buf b = BUF_OVER(bytes);

	assert_int_equal(buf_add(&b, SPAN("abc")), 0);
	buf_consume(&b, 1);
	assert_int_equal(buf_add_char(&b, 'd'), 0);
	assert_true(span_eq(buf_span(&b), SPAN("bcd")));
	assert_int_equal(buf_add_char(&b, 'e'), -ENOBUFS);
	assert_true(span_eq(buf_span(&b), SPAN("bcd")));
}

static void numbers_are_written_in_decimal(void **unused)
{
	char memory[32];
	struct buf b = BUF_OVER(memory);

	(void)unused;
	assert_int_equal(buf_add_u64(&b, 0), 0);
	assert_int_equal(buf_add_char(&b, ' '), 0);
	assert_int_equal(buf_add_u64(&b, UINT64_MAX), 0);
	assert_span(buf_span(&b), "0 18446744073709551615");
	assert_int_equal(buf_add_u64(&b, UINT64_MAX), -ENOBUFS);
}

static void the_tail_is_all_the_room_there_is(void **unused)
{
	char memory[6];
	struct buf b = BUF_OVER(memory);
	size_t room;

	(void)unused;
	assert_int_equal(buf_add_str(&b, "abcd"), 0);
	buf_consume(&b, 3);
	char *to = buf_tail(&b, &room);

	assert_int_equal(room, 5);
	memcpy(to, "efghi", 5);
	buf_filled(&b, 5);
	assert_span(buf_span(&b), "defghi");
	(void)buf_tail(&b, &room);
	assert_int_equal(room, 0);
}

static void wiped_secrets_are_gone_from_memory(void **unused)
{
	static const char zeros[8];
	char memory[8];
	struct buf b = BUF_OVER(memory);

	(void)unused;
	assert_int_equal(buf_add_str(&b, "secretXY"), 0);
	buf_consume_secret(&b, 6);
	assert_memory_equal(memory, zeros, 6);
	assert_span(buf_span(&b), "XY");
	buf_wipe(&b);
	assert_memory_equal(memory, zeros, 8);
	assert_int_equal(buf_span(&b).n, 0);
}

/* Whatever was done with the buffer: wiping leaves nothing of what was ever in it. */
static void wiping_reaches_all_that_was_ever_written(void **unused)
{
	static const char zeros[64];
	char memory[64] = {0};
	struct buf b = BUF_OVER(memory);
	unsigned random = 1;

	(void)unused;
	for (int round = 0; round < 20000; round++) {
		size_t room, n;
		char *tail;

		random = random * 1103515245 + 12345;
		n = random >> 16 & 31;
		switch (random >> 24 & 3) {
		case 0:
			(void)buf_add(&b, (struct span){"secretsecretsecretsecretsecretse", n});
			break;
		case 1:
			tail = buf_tail(&b, &room);
			n = n < room ? n : room;
			memset(tail, 'x', n);
			buf_filled(&b, n);
			break;
		default:
			buf_consume(&b, n < b.len ? n : b.len);
		}
		if (round % 100 == 99) {
			buf_wipe(&b);
			assert_memory_equal(memory, zeros, sizeof(zeros));
		}
	}
}


static void a_part_is_replaced_by_more_or_less(void **unused)
{
	static const struct {
		size_t at, n;
		const char *by, *result; /* of "..abcdef", of which ".." has been consumed */
	} rows[] = {
		{0, 0, "", "abcdef"},
		{0, 2, "XY", "XYcdef"},
		{2, 2, "", "abef"},
		{4, 2, "XYZ", "abcdXYZ"},
		{0, 6, "", ""},
		{6, 0, "XYZW", "abcdefXYZW"},
		{3, 1, "12345", "abc12345ef"},
		{0, 0, "1234", "1234abcdef"},
		{0, 1, "12345", "12345bcdef"},
	};
	char bytes[10];

	(void)unused;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct buf b = BUF_OVER(bytes);

		assert_int_equal(buf_add(&b, SPAN("..abcdef")), 0);
		buf_consume(&b, 2);
		assert_int_equal(buf_replace(&b, rows[i].at, rows[i].n, span_str(rows[i].by)), 0);
		assert_true(span_eq(buf_span(&b), span_str(rows[i].result)));
		assert_true(b.dirty >= b.off + b.len && (b.len > 0 || b.off == 0));
	}
}

static void what_does_not_fit_replaces_nothing(void **unused)
{
	char bytes[8];
	struct buf b = BUF_OVER(bytes);

	(void)unused;
	assert_int_equal(buf_add(&b, SPAN("abcdef")), 0);
	assert_int_equal(buf_replace(&b, 1, 2, SPAN("12345")), -ENOBUFS);
	assert_true(span_eq(buf_span(&b), SPAN("abcdef")));
	assert_int_equal(buf_replace(&b, 1, 2, SPAN("1234")), 0);
	assert_true(span_eq(buf_span(&b), SPAN("a1234def")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(equality_is_of_bytes_and_length),
		cmocka_unit_test(case_is_ignored_for_ascii_letters_only),
		cmocka_unit_test(a_needle_is_found_anywhere),
		cmocka_unit_test(secrets_are_compared_as_a_whole),
		cmocka_unit_test(words_are_cut_off_at_separators),
		cmocka_unit_test(an_offset_behind_the_end_gives_nothing),
		cmocka_unit_test(numbers_fill_the_span_and_respect_the_bound),
		cmocka_unit_test(what_does_not_fit_changes_nothing),
		cmocka_unit_test(consumed_room_is_used_again),
		cmocka_unit_test(a_byte_uses_consumed_room_too),
		cmocka_unit_test(numbers_are_written_in_decimal),
		cmocka_unit_test(the_tail_is_all_the_room_there_is),
		cmocka_unit_test(wiped_secrets_are_gone_from_memory),
		cmocka_unit_test(wiping_reaches_all_that_was_ever_written),
		cmocka_unit_test(a_part_is_replaced_by_more_or_less),
		cmocka_unit_test(what_does_not_fit_replaces_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
