/* Lines of POP3: answers, codes, texts, QUIT. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxyd/pop3.h"
#include "proxyd/pop3_line.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void answers_are_told_apart(void **state)
{
	static const struct {
		const char *line;
		enum pop3_status status;
		const char *code;
	} rows[] = {
		{ "+OK", POP3_OK, "" },
		{ "+ok [AUTH] well", POP3_OK, "" },
		{ "-ERR", POP3_ERR, "" },
		{ "-err no", POP3_ERR, "" },
		{ "-ERR [AUTH] no", POP3_ERR, "AUTH" },
		{ "-ERR  [SYS/TEMP/X]", POP3_ERR, "SYS/TEMP/X" },
		{ "-ERR no [AUTH]", POP3_ERR, "" },
		{ "-ERR [AUTH", POP3_ERR, "" },
		{ "+", POP3_MORE, "" },
		{ "+ Y2hhbGxlbmdl", POP3_MORE, "" },
		{ "", POP3_NONSENSE, "" },
		{ " +OK", POP3_NONSENSE, "" },
		{ "* OK IMAP", POP3_NONSENSE, "" },
		{ "OK", POP3_NONSENSE, "" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct span code;

		assert_int_equal(pop3_status_of(span_str(rows[i].line), &code), rows[i].status);
		assert_true(span_eq(code, span_str(rows[i].code)));
	}
}

static void codes_say_whether_the_credentials_are_wrong(void **state)
{
	static const struct {
		const char *heard, *inside;
		bool refused;
		const char *told;
	} rows[] = {
		{ "", "AUTHENTICATIONFAILED", true, "AUTH" },
		{ "auth", "AUTHENTICATIONFAILED", true, "AUTH" },
		{ "SYS/TEMP", "UNAVAILABLE", false, "SYS/TEMP" },
		{ "SYS/TEMP/DISK", "UNAVAILABLE", false, "SYS/TEMP" },
		{ "SYS/TEMPER", "", true, "" },
		{ "SYS/PERM", "CONTACTADMIN", false, "SYS/PERM" },
		{ "IN-USE", "INUSE", false, "IN-USE" },
		{ "LOGIN-DELAY", "LOGIN-DELAY", false, "LOGIN-DELAY" },
		{ "X", "", true, "" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		bool refused;
		const char *inside = pop3_code_heard(span_str(rows[i].heard), &refused);

		assert_string_equal(inside, rows[i].inside);
		assert_int_equal(refused, rows[i].refused);
		assert_string_equal(pop3_code_told(span_str(inside)), rows[i].told);
	}
	assert_string_equal(pop3_code_told(SPAN("LIMIT")), "SYS/TEMP");
	assert_string_equal(pop3_code_told(SPAN("CANNOT")), "SYS/PERM");
}

static void texts_get_the_codes_of_pop3(void **state)
{
	static const char *const rows[][2] = {
		{ "[UNAVAILABLE] Too many", "[SYS/TEMP] Too many" },
		{ "[SERVERBUG] Internal", "[SYS/PERM] Internal" },
		{ "[OTHER] text", "text" },
		{ "plain", "plain" },
		{ "", "" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		char bytes[60];
		struct buf out = BUF_OVER(bytes);

		assert_int_equal(pop3_add_text(&out, span_str(rows[i][0])), 0);
		assert_true(span_eq(buf_span(&out), span_str(rows[i][1])));
	}
}

static void what_a_line_can_carry(void **state)
{
	(void)state;
	assert_true(pop3_is_one_line(SPAN("a b")) && pop3_is_one_line(SPAN_NONE));
	assert_false(pop3_is_one_line(SPAN("a\r")) || pop3_is_one_line(SPAN("\na")) ||
		     pop3_is_one_line(SPAN("a\0b")));
	assert_true(pop3_is_plain(SPAN("a b")));
	assert_false(pop3_is_plain(SPAN(" a")) || pop3_is_plain(SPAN("a ")) ||
		     pop3_is_plain(SPAN_NONE));
}

/* In one piece and byte by byte. */
static bool has_quit(const char *said)
{
	struct pop3_quit whole = { 0 }, bytes = { 0 };

	pop3_quit_follow(&whole, span_str(said));
	for (const char *p = said; *p; p++)
		pop3_quit_follow(&bytes, (struct span){ p, 1 });
	assert_int_equal(whole.said, bytes.said);
	return whole.said;
}

static void quit_is_seen_when_it_is_whole_and_the_last(void **state)
{
	(void)state;
	assert_true(has_quit("QUIT\r\n"));
	assert_true(has_quit("STAT\r\nquit\n"));
	assert_true(has_quit("QUIT \r\n"));
	assert_false(has_quit("QUIT"));
	assert_false(has_quit("QUITE\r\n"));
	assert_false(has_quit("QUI\r\nT\r\n"));
	assert_false(has_quit("XQUIT\r\n"));
	assert_false(has_quit("QUIT\r\nSTAT\r\n"));
}

static void refusals_fit(void **state)
{
	char bytes[100];
	struct buf out = BUF_OVER(bytes);

	(void)state;
	assert_int_equal(pop3_add_refusal(&out, "AUTHENTICATIONFAILED"), 0);
	assert_int_equal(pop3_add_refusal(&out, ""), 0);
	assert_true(span_eq(buf_span(&out),
			    SPAN("-ERR [AUTH] Login failed.\r\n-ERR Login failed.\r\n")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_are_told_apart),
		cmocka_unit_test(codes_say_whether_the_credentials_are_wrong),
		cmocka_unit_test(texts_get_the_codes_of_pop3),
		cmocka_unit_test(what_a_line_can_carry),
		cmocka_unit_test(quit_is_seen_when_it_is_whole_and_the_last),
		cmocka_unit_test(refusals_fit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
