/* lib/utf8: what is text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/utf8.h"

static void text_is_text(void **unused)
{
	(void)unused;
	assert_true(utf8_is_text(SPAN_NONE));
	assert_true(utf8_is_text(SPAN("anna@example.org ~")));
	assert_true(utf8_is_text(SPAN("Zo\xc3\xab \xe2\x82\xac \xf0\x9f\x93\xac")));
	assert_true(utf8_is_text(SPAN("\xc2\xa0\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf")));
}

static void control_characters_are_not(void **unused)
{
	(void)unused;
	assert_false(utf8_is_text(SPAN("a\0b")));
	assert_false(utf8_is_text(SPAN("a\n")));
	assert_false(utf8_is_text(SPAN("\x1f")));
	assert_false(utf8_is_text(SPAN("\x7f")));
	assert_false(utf8_is_text(SPAN("\xc2\x80")));
	assert_false(utf8_is_text(SPAN("\xc2\x9f")));
}

static void nor_is_what_only_looks_like_utf8(void **unused)
{
	static const struct span bad[] = {
		{ "\x80", 1 },		{ "\xff", 1 },		  { "\xc3", 1 },
		{ "\xc3(", 2 },		{ "\xe2\x82", 2 },	  { "\xf0\x9f\x93", 3 },
		{ "\xc0\x80", 2 },	{ "\xc1\xbf", 2 },	  { "\xe0\x80\xaf", 3 },
		{ "\xf0\x80\x80\xaf", 4 }, { "\xed\xa0\x80", 3 }, { "\xf4\x90\x80\x80", 4 },
		{ "\xf8\x88\x80\x80\x80", 5 },
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(utf8_is_text(bad[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_is_text),
		cmocka_unit_test(control_characters_are_not),
		cmocka_unit_test(nor_is_what_only_looks_like_utf8),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
