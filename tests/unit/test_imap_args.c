/* The arguments of commands before login: splitting, strings of every kind, the list of ID. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "proxyd/imap_args.h"

/* The text in memory of its own, without a NUL behind it, so that a sanitizer sees one byte too
 * far. */
static char exact[4096];

static struct span at_end(struct span text)
{
	char *begin = exact + sizeof(exact) - text.n;

	memcpy(begin, text.p, text.n);
	return (struct span){begin, text.n};
}

#define assert_span(span, text) assert_true(span_eq(span, span_str(text)))

/* --- split --- */

static void a_command_is_split_at_its_first_two_blanks(void **unused)
{
	static const struct {
		const char *line, *tag, *verb, *args;
	} rows[] = {
		{"a NOOP", "a", "NOOP", ""},
		{"a NOOP ", "a", "NOOP", ""},
		{"a LOGIN u p", "a", "LOGIN", "u p"},
		{"a LOGIN  u p ", "a", "LOGIN", " u p "},
		{"A.1-2] x {3}\r\nabc", "A.1-2]", "x", "{3}\r\nabc"},
		{"+ NOOP", "+", "NOOP", ""},
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct imap_command c;

		assert_int_equal(imap_split(at_end(span_str(rows[i].line)), &c), 0);
		assert_span(c.tag, rows[i].tag);
		assert_span(c.verb, rows[i].verb);
		assert_span(c.args, rows[i].args);
	}
}

static void what_is_no_tag_is_refused(void **unused)
{
	static const char *const lines[] = {"",		  " ",	      " a NOOP",   "( NOOP",
					    "a) NOOP",	  "{1} NOOP", "* NOOP",	   "% NOOP",
					    "\"a\" NOOP", "\\ NOOP",  "\x7f NOOP", "a\t NOOP",
					    "\xc3\xa4 x", "a\rb x",   "\xff x"};
	struct imap_command c;

	(void)unused;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		assert_int_equal(imap_split(at_end(span_str(lines[i])), &c), -EINVAL);
	assert_int_equal(imap_split(SPAN("a\0b NOOP"), &c), -EINVAL);
}

static void a_tag_without_a_verb_is_told_apart_and_set(void **unused)
{
	static const char *const lines[] = {"tag", "tag ", "tag  NOOP"};

	(void)unused;
	for (size_t i = 0; i < 3; i++) {
		struct imap_command c;

		assert_int_equal(imap_split(span_str(lines[i]), &c), -ENODATA);
		assert_span(c.tag, "tag");
	}
}

static void tags_have_a_longest_length(void **unused)
{
	char line[IMAP_TAG_MAX + 10];
	struct imap_command c;

	(void)unused;
	memset(line, 't', sizeof(line));
	memcpy(line + IMAP_TAG_MAX, " NOOP", 5);
	assert_int_equal(imap_split((struct span){line, IMAP_TAG_MAX + 5}, &c), 0);
	assert_int_equal(c.tag.n, IMAP_TAG_MAX);
	memcpy(line + IMAP_TAG_MAX, "t NOOP", 6);
	assert_int_equal(imap_split((struct span){line, IMAP_TAG_MAX + 6}, &c), -EINVAL);
}

/* --- astrings --- */

static void strings_of_every_kind_have_their_value(void **unused)
{
	static const struct {
		const char *text, *value, *rest;
	} rows[] = {
		{"user", "user", ""},
		{"user pass", "user", " pass"},
		{"a\"b c", "a\"b", " c"},
		{"\xc3\xa4 x", "\xc3\xa4", " x"},
		{"\"\"", "", ""},
		{"\"a b\" c", "a b", " c"},
		{"\"a\\\"b\\\\c\"d", "a\"b\\c", "d"},
		{"\"{3}\"", "{3}", ""},
		{"\"\xc3\xa4\"", "\xc3\xa4", ""},
		{"{0}\r\n", "", ""},
		{"{3}\r\na\"b rest", "a\"b", " rest"},
		{"{3+}\r\nabc", "abc", ""},
		{"{3}\nabc", "abc", ""},
		{"{4}\r\n\r\n\r\n", "\r\n\r\n", ""},
		{"{003}\r\nabc", "abc", ""},
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char bytes[100];
		struct buf out = BUF_OVER(bytes);
		struct span rest = at_end(span_str(rows[i].text));

		assert_int_equal(imap_take_astring(&rest, &out), 0);
		assert_span(buf_span(&out), rows[i].value);
		assert_span(rest, rows[i].rest);
	}
}

static void malformed_strings_are_refused(void **unused)
{
	static const char *const texts[] = {
		"\"",
		"\"a",
		"\"a\\",
		"\"a\\\"",
		"\"a\\b\"",
		"\"a\rb\"",
		"\"a\nb\"",
		"{",
		"{}",
		"{3",
		"{3}",
		"{3}\r",
		"{3}abc",
		"{3}\r\n",
		"{3}\r\nab",
		"{3}\r\r\nabc",
		"{3++}\r\nabc",
		"{+}\r\nabc",
		"{-1}\r\nabc",
		"{3 }\r\nabc",
		"{x}\r\nabc",
		"{4294967296}\r\nabc",
		"{99999999999999999999}\r\nabc",
		"{4294967295}\r\nabc",
		"a\rb",
		"a\x7f",
		"\ta",
		"a\nb",
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		char bytes[100];
		struct buf out = BUF_OVER(bytes);
		struct span rest = at_end(span_str(texts[i]));

		assert_int_equal(imap_take_astring(&rest, &out), -EINVAL);
	}
}

static void a_nul_is_refused_in_every_kind(void **unused)
{
	static const struct span texts[] = {
		{"a\0b", 3}, {"\"a\0b\"", 5}, {"\"\\\0\"", 4}, {"{3}\r\na\0b", 8}, {"\0", 1},
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		char bytes[100];
		struct buf out = BUF_OVER(bytes);
		struct span rest = at_end(texts[i]);

		assert_int_equal(imap_take_astring(&rest, &out), -EINVAL);
	}
}

static void nothing_is_told_apart_from_malformed(void **unused)
{
	char bytes[10];
	struct buf out = BUF_OVER(bytes);
	struct span none = SPAN_NONE, blank = SPAN(" a");

	(void)unused;
	assert_int_equal(imap_take_astring(&none, &out), -ENODATA);
	assert_int_equal(imap_take_astring(&blank, &out), -ENODATA);
}

static void strings_that_do_not_fit_are_refused(void **unused)
{
	static const char *const texts[] = {"abcd", "\"abcd\"", "{4}\r\nabcd"};

	(void)unused;
	for (size_t i = 0; i < 3; i++) {
		char four[4], three[3];
		struct buf fits = BUF_OVER(four), small = BUF_OVER(three);
		struct span a = span_str(texts[i]), b = a;

		assert_int_equal(imap_take_astring(&a, &fits), 0);
		assert_int_equal(imap_take_astring(&b, &small), -ENOBUFS);
	}
}

/* --- quoting --- */

static void quoted_strings_come_back_as_they_were(void **unused)
{
	static const char *const values[] = {"",     "a",   "a b", "\"",   "\\",
					     "\\\"", "a\\", "{3}", "(%*)", "~ !"};

	(void)unused;
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		char quoted[40], plain[40];
		struct buf out = BUF_OVER(quoted), again = BUF_OVER(plain);

		assert_int_equal(imap_add_quoted(&out, span_str(values[i])), 0);
		struct span rest = buf_span(&out);

		assert_int_equal(imap_take_astring(&rest, &again), 0);
		assert_int_equal(rest.n, 0);
		assert_span(buf_span(&again), values[i]);
	}
}

static void only_printable_ascii_can_be_quoted(void **unused)
{
	(void)unused;
	for (int c = 0; c < 256; c++) {
		char byte = (char)c, quoted[40];
		struct buf out = BUF_OVER(quoted);

		assert_int_equal(imap_add_quoted(&out, (struct span){&byte, 1}),
				 c >= 0x20 && c < 0x7f ? 0 : -EINVAL);
	}
}

static void quoting_into_too_little_room_is_refused(void **unused)
{
	(void)unused;
	for (size_t room = 0; room < 8; room++) {
		char quoted[8];
		struct buf out = {.data = quoted, .cap = room};

		assert_int_equal(imap_add_quoted(&out, SPAN("a\"b\\")), -ENOBUFS);
	}
}

/* --- ID --- */

static int read_id(struct span args, char *text, size_t cap)
{
	struct buf out = {.data = text, .cap = cap - 1};
	int r = imap_read_id(args, &out);

	text[out.off + out.len] = '\0';
	return r;
}

static void lists_of_id_come_out_on_one_line(void **unused)
{
	static const struct {
		const char *args, *text;
	} rows[] = {
		{"NIL", "NIL"},
		{"nil", "NIL"},
		{"()", "()"},
		{"(\"name\" \"x\")", "(\"name\" \"x\")"},
		{"(\"name\" NIL)", "(\"name\" NIL)"},
		{"(\"name\" nil \"b\" \"c\")", "(\"name\" NIL \"b\" \"c\")"},
		{"({4}\r\nname {3}\r\na\"b)", "(\"name\" \"a\\\"b\")"},
		{"({4+}\r\nname \"\")", "(\"name\" \"\")"},
		{"(\"a\" \")\")", "(\"a\" \")\")"},
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[200];

		assert_int_equal(read_id(at_end(span_str(rows[i].args)), text, sizeof(text)), 0);
		assert_string_equal(text, rows[i].text);
	}
}

static void other_lists_of_id_are_refused(void **unused)
{
	static const char *const args[] = {
		"",
		" ",
		"NIL ",
		"NILX",
		"x",
		"(",
		"(\"a\")",
		"(\"a\" \"b\"",
		"(\"a\" \"b\") ",
		"(\"a\" \"b\" )",
		"( \"a\" \"b\")",
		"(\"a\"  \"b\")",
		"(\"a\"\"b\")",
		"(NIL \"b\")",
		"(a b)",
		"(\"a\" b)",
		"(\"a\" NILX)",
		"(\"a\" NI",
		"(\"a\" \"b\"))",
		"(\"a\" \"b\" \"c\")",
		"(\"a\" (\"b\"))",
		"({1}\r\n\n \"b\")",
		"(\"\xc3\xa4\" \"b\")",
		"(\"a\" {5}\r\nb)",
		"(\"a",
		"(\"a\" ",
		"(\"a\" \"b\x01\")",
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(args) / sizeof(args[0]); i++) {
		char text[200];

		assert_int_equal(read_id(at_end(span_str(args[i])), text, sizeof(text)), -EINVAL);
	}
}

static size_t make_list(char *list, size_t pairs)
{
	size_t n = 0;

	list[n++] = '(';
	for (size_t i = 0; i < pairs; i++) {
		memcpy(list + n, "\"k\" NIL ", 8);
		n += 8;
	}
	list[n - 1] = ')';
	return n;
}

static void a_list_of_id_has_at_most_thirty_pairs(void **unused)
{
	char list[1000], text[1000];

	(void)unused;
	assert_int_equal(read_id((struct span){list, make_list(list, 30)}, text, sizeof(text)), 0);
	assert_int_equal(read_id((struct span){list, make_list(list, 31)}, text, sizeof(text)),
			 -EINVAL);
}

static void a_string_of_id_has_at_most_1024_bytes(void **unused)
{
	char list[1100] = "(\"k\" \"", text[1100];

	(void)unused;
	memset(list + 6, 'v', 1024);
	memcpy(list + 6 + 1024, "\")", 2);
	assert_int_equal(read_id((struct span){list, 6 + 1024 + 2}, text, sizeof(text)), 0);
	memcpy(list + 6 + 1024, "v\")", 3);
	assert_int_equal(read_id((struct span){list, 6 + 1024 + 3}, text, sizeof(text)), -EINVAL);
}

static void a_list_too_long_to_keep_is_told_apart(void **unused)
{
	static const char list[] = "(\"k\" NIL \"l\" \"\\\"\")";
	char text[100];

	(void)unused;
	for (size_t room = 0; room < sizeof(list) - 1; room++)
		assert_int_equal(read_id(span_str(list), text, room + 1), -ENOBUFS);
	assert_int_equal(read_id(span_str(list), text, sizeof(list)), 0);
	assert_int_equal(read_id(SPAN("NIL"), text, 3), -ENOBUFS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_command_is_split_at_its_first_two_blanks),
		cmocka_unit_test(what_is_no_tag_is_refused),
		cmocka_unit_test(a_tag_without_a_verb_is_told_apart_and_set),
		cmocka_unit_test(tags_have_a_longest_length),
		cmocka_unit_test(strings_of_every_kind_have_their_value),
		cmocka_unit_test(malformed_strings_are_refused),
		cmocka_unit_test(a_nul_is_refused_in_every_kind),
		cmocka_unit_test(nothing_is_told_apart_from_malformed),
		cmocka_unit_test(strings_that_do_not_fit_are_refused),
		cmocka_unit_test(quoted_strings_come_back_as_they_were),
		cmocka_unit_test(only_printable_ascii_can_be_quoted),
		cmocka_unit_test(quoting_into_too_little_room_is_refused),
		cmocka_unit_test(lists_of_id_come_out_on_one_line),
		cmocka_unit_test(other_lists_of_id_are_refused),
		cmocka_unit_test(a_list_of_id_has_at_most_thirty_pairs),
		cmocka_unit_test(a_string_of_id_has_at_most_1024_bytes),
		cmocka_unit_test(a_list_too_long_to_keep_is_told_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
