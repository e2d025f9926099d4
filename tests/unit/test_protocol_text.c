/* The protocol log's text: the old marks byte for byte, and nothing from outside that looks like
 * one. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cachebrokerd/protocol_text.h"

static char bytes[PROTOCOL_RECORD_MAX];

static void assert_record(struct trace_head head, struct span user, struct span said,
			  const char *expected)
{
	struct buf out = BUF_OVER(bytes);

	assert_int_equal(protocol_text_record(&out, 1795302166, user, 7, &head, said), 0);
	if (!span_eq(buf_span(&out), span_str(expected)))
		fail_msg("\"%.*s\", not \"%s\"", (int)out.len, out.data, expected);
}

static void marks_are_the_old_ones(void **unused)
{
	struct buf out = BUF_OVER(bytes);

	(void)unused;
	assert_record((struct trace_head){ .side = TRACE_CLIENT }, SPAN("u1"), SPAN("a NOOP\r\n"),
		      "\n\n-----> C= 1795302166 u1 CLIENT: sd [7]\na NOOP\r\n");
	assert_record((struct trace_head){ .side = TRACE_SERVER }, SPAN("u1"), SPAN("a OK\r\n"),
		      "\n\n-----> C= 1795302166 u1 SERVER: sd [7]\na OK\r\n");
	assert_int_equal(protocol_text_note(&out, 1795302165, SPAN("u1"), "user tracing enabled."),
			 0);
	assert_true(span_eq(buf_span(&out),
			    SPAN("\n\n-----> C= 1795302165 u1 PROXY: user tracing enabled.\n")));
}

static void what_is_missing_or_goes_on_is_said(void **unused)
{
	(void)unused;
	assert_record((struct trace_head){ .side = TRACE_SERVER, .continued = 1, .lost = 3 },
		      SPAN("u1"), SPAN("x\r\n"),
		      "\n\n-----> C= 1795302166 u1 PROXY: sd [7]: 3 records are missing here.\n"
		      "\n\n-----> C= 1795302166 u1 SERVER: sd [7] the same line goes on\nx\r\n");
	assert_record((struct trace_head){ .side = TRACE_PROXY, .lost = 2 }, SPAN("u1"), SPAN_NONE,
		      "\n\n-----> C= 1795302166 u1 PROXY: sd [7]: 2 records are missing here.\n");
	assert_record((struct trace_head){ .side = TRACE_PROXY }, SPAN("u1"), SPAN_NONE, "");
}

static void nothing_from_outside_looks_like_a_mark(void **unused)
{
	(void)unused;
	assert_record((struct trace_head){ .side = TRACE_CLIENT },
		      SPAN("u 1\n\\\x1b\xc3\xa4 CLIENT"),
		      SPAN("-----> C= 1\r\n\r-----> \n----- >\n"),
		      "\n\n-----> C= 1795302166 u\\x201\\x0a\\x5c\\x1b\\xc3\\xa4\\x20CLIENT "
		      "CLIENT: sd [7]\n -----> C= 1\r\n\r -----> \n----- >\n");
	assert_record((struct trace_head){ .side = TRACE_CLIENT }, SPAN("u"),
		      (struct span){ "\0\x01\t\x7f\x1b[31m\xc3\xa4-----> \\", 19 },
		      "\n\n-----> C= 1795302166 u CLIENT: sd "
		      "[7]\n\\x00\\x01\t\\x7f\\x1b[31m\xc3\xa4-----> \\");
}

static void the_longest_record_fits(void **unused)
{
	static char worst[TRACE_BYTES], user[255];
	struct buf out = BUF_OVER(bytes);
	const struct trace_head head = { .side = TRACE_SERVER, .continued = 1, .lost = UINT32_MAX };

	(void)unused;
	memset(worst, 1, sizeof(worst));
	memset(user, 1, sizeof(user));
	assert_int_equal(protocol_text_record(&out, INT64_MAX, (struct span){ user, sizeof(user) },
					      UINT64_MAX, &head,
					      (struct span){ worst, sizeof(worst) }),
			 0);
}

static void a_side_that_is_none_is_an_error(void **unused)
{
	struct buf out = BUF_OVER(bytes);

	(void)unused;
	for (unsigned side = 0; side < 256; side++) {
		const struct trace_head head = { .side = (uint8_t)side };
		int r = protocol_text_record(&out, 1, SPAN("u"), 1, &head, SPAN("x"));

		assert_int_equal(r, side >= TRACE_CLIENT && side <= TRACE_PROXY ? 0 : -EINVAL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(marks_are_the_old_ones),
		cmocka_unit_test(what_is_missing_or_goes_on_is_said),
		cmocka_unit_test(nothing_from_outside_looks_like_a_mark),
		cmocka_unit_test(the_longest_record_fits),
		cmocka_unit_test(a_side_that_is_none_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
