/* Base64, with the vectors of RFC 4648 section 10. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "lib/base64.h"

static const struct {
	const char *bytes;
	const char *text;
} vectors[] = {
	{"", ""},
	{"f", "Zg=="},
	{"fo", "Zm8="},
	{"foo", "Zm9v"},
	{"foob", "Zm9vYg=="},
	{"fooba", "Zm9vYmE="},
	{"foobar", "Zm9vYmFy"},
	{"\xff\xef\xbe", "/+++"},
};
#define VECTORS (sizeof(vectors) / sizeof(vectors[0]))

static void the_vectors_of_the_rfc_hold_both_ways(void **unused)
{
	char out[32];

	(void)unused;
	for (size_t i = 0; i < VECTORS; i++) {
		int n = base64_encode(span_str(vectors[i].bytes), out, sizeof(out));

		assert_true(n >= 0 &&
			    span_eq((struct span){out, (size_t)n}, span_str(vectors[i].text)));
		n = base64_decode(span_str(vectors[i].text), out, sizeof(out));
		assert_true(n >= 0 &&
			    span_eq((struct span){out, (size_t)n}, span_str(vectors[i].bytes)));
	}
}

static void every_byte_and_length_survives(void **unused)
{
	char bytes[256], text[400], back[256];

	(void)unused;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)i;
	for (size_t n = 0; n <= sizeof(bytes); n++) {
		int length = base64_encode((struct span){bytes, n}, text, sizeof(text));

		assert_int_equal(length, (n + 2) / 3 * 4);
		assert_int_equal(
			base64_decode((struct span){text, (size_t)length}, back, sizeof(back)), n);
		assert_memory_equal(back, bytes, n);
	}
}

static void what_is_not_canonical_is_refused(void **unused)
{
	static const char *const bad[] = {
		"Z",	    "Zg",     "Zg=",  "Zg===",	"=",	    "==",   "====", "A===",
		"Zm9v=",    "Zh==",   "Zm9=", "Zm9vZg", "Zg==Zg==", "Zm=v", "Z===", " Zg=",
		"Zg==\r\n", "Zm9v\n", "Zm-v", "Zm_v",	"Zm 9",	    "*",    "Zm9*", "=Zm9",
	};
	char out[32];

	(void)unused;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (base64_decode(span_str(bad[i]), out, sizeof(out)) != -EINVAL)
			fail_msg("'%s' was taken", bad[i]);
	assert_int_equal(base64_decode(SPAN("Zm\0v"), out, sizeof(out)), -EINVAL);
	assert_int_equal(base64_decode(SPAN("Zm\x80v"), out, sizeof(out)), -EINVAL);
}

static void too_little_room_is_refused(void **unused)
{
	char out[8];

	(void)unused;
	assert_int_equal(base64_decode(SPAN("Zm9vYmFy"), out, 6), 6);
	assert_int_equal(base64_decode(SPAN("Zm9vYmFy"), out, 5), -ENOBUFS);
	assert_int_equal(base64_decode(SPAN("Zg=="), out, 0), -ENOBUFS);
	assert_int_equal(base64_encode(SPAN("foobar"), out, 8), 8);
	assert_int_equal(base64_encode(SPAN("foobar"), out, 7), -ENOBUFS);
	assert_int_equal(base64_encode(SPAN_NONE, out, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_vectors_of_the_rfc_hold_both_ways),
		cmocka_unit_test(every_byte_and_length_survives),
		cmocka_unit_test(what_is_not_canonical_is_refused),
		cmocka_unit_test(too_little_room_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
