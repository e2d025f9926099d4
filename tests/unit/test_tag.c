/* Tags of the proxy's own commands. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxyd/tag.h"

static void a_tag_is_k_and_sixteen_digits(void **unused)
{
	(void)unused;
	for (int i = 0; i < 100; i++) {
		struct tag t = tag_random();

		assert_int_equal(tag_span(&t).n, 17);
		assert_int_equal(t.text[0], 'K');
		for (size_t j = 1; j < 17; j++)
			assert_true(memchr("0123456789abcdef", t.text[j], 16));
	}
}

static void no_two_tags_are_the_same(void **unused)
{
	static struct tag tags[1000];

	(void)unused;
	for (size_t i = 0; i < 1000; i++) {
		tags[i] = tag_random();
		for (size_t j = 0; j < i; j++)
			assert_false(span_eq(tag_span(&tags[i]), tag_span(&tags[j])));
	}
}

static void every_digit_takes_every_value(void **unused)
{
	unsigned seen[17] = {0};

	(void)unused;
	for (int i = 0; i < 2000; i++) {
		struct tag t = tag_random();

		for (size_t j = 1; j < 17; j++)
			seen[j] |= 1u
				   << (t.text[j] >= 'a' ? t.text[j] - 'a' + 10 : t.text[j] - '0');
	}
	for (size_t j = 1; j < 17; j++)
		assert_int_equal(seen[j], 0xffff);
}

static void only_its_own_completion_completes_a_tag(void **unused)
{
	static const struct {
		const char *line, *rest; /* rest NULL: it does not complete */
	} rows[] = {
		{"K0123456789abcdef OK done", "OK done"},
		{"K0123456789abcdef ", ""},
		{"K0123456789abcdef  OK", " OK"},
		{"K0123456789abcdef", NULL},
		{"K0123456789abcde", NULL},
		{"K0123456789abcdefOK done", NULL},
		{"K0123456789abcdef\tOK", NULL},
		{"k0123456789abcdef OK done", NULL},
		{"K0123456789ABCDEF OK done", NULL},
		{"K1123456789abcdef OK done", NULL},
		{"K0123456789abcdee OK done", NULL},
		{" K0123456789abcdef OK", NULL},
		{"* K0123456789abcdef OK", NULL},
		{"", NULL},
	};
	struct tag t;

	(void)unused;
	memcpy(t.text, "K0123456789abcdef", 17);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct span rest = SPAN("untouched");

		assert_int_equal(tag_completes(&t, span_str(rows[i].line), &rest),
				 rows[i].rest != NULL);
		assert_true(span_eq(rest, span_str(rows[i].rest ? rows[i].rest : "untouched")));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_tag_is_k_and_sixteen_digits),
		cmocka_unit_test(no_two_tags_are_the_same),
		cmocka_unit_test(every_digit_takes_every_value),
		cmocka_unit_test(only_its_own_completion_completes_a_tag),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
