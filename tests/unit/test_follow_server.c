/* The server's half of the follower: responses in pieces, literals in them, what ends a command. */
#include "tests/unit/talk_check.h"

#include <stdio.h>

#include "proxyd/follow_line.h"

/* --- a line in pieces --- */

static void add_in_pieces(struct follow_line *l, struct span text, size_t piece)
{
	bool ended = false;

	follow_line_init(l);
	for (size_t i = 0; i < text.n; i += piece) {
		struct span part = {text.p + i, piece < text.n - i ? piece : text.n - i};

		assert_false(ended);
		assert_int_equal(follow_line_add(l, part, &ended), part.n);
	}
	assert_true(ended);
}

static void a_line_in_pieces_is_the_same_line(void **unused)
{
	char text[202], bytes[sizeof(((struct follow_line *)0)->tail)];

	(void)unused;
	for (size_t length = 2; length <= 200; length++) {
		for (size_t i = 0; i < length; i++)
			text[i] = (char)('a' + (i * 7 + i / 26) % 26);
		memcpy(text, "tag ", length < 6 ? 0 : 4);
		memcpy(text + length - 2, "\r\n", 2);
		for (size_t piece = 1; piece <= length; piece += 1 + piece / 8) {
			struct follow_line l;

			add_in_pieces(&l, (struct span){text, length}, piece);
			assert_int_equal(l.length, length - 1);
			struct span tail = follow_line_tail(&l, bytes);
			size_t have = length - 1 < sizeof(bytes) ? length - 2 : sizeof(bytes) - 1;

			assert_int_equal(tail.n, have);
			assert_memory_equal(tail.p, text + length - 2 - have, have);
			size_t head = length - 1 < sizeof(l.head) ? length - 1 : sizeof(l.head);

			assert_memory_equal(l.head, text, head);
			if (length >= 6)
				assert_true(l.tag == follow_tag_hash(SPAN("tag")));
		}
	}
}

static void a_line_takes_nothing_behind_its_line_feed(void **unused)
{
	struct follow_line l;
	bool ended;

	(void)unused;
	follow_line_init(&l);
	assert_int_equal(follow_line_add(&l, SPAN("ab\ncd\n"), &ended), 3);
	assert_true(ended);
	assert_int_equal(l.length, 2);
	follow_line_init(&l);
	assert_int_equal(follow_line_add(&l, SPAN(""), &ended), 0);
	assert_false(ended);
}

static void different_tags_have_different_hashes(void **unused)
{
	static uint64_t hashes[3000];
	char tag[10];

	(void)unused;
	for (int i = 0; i < 3000; i++) {
		snprintf(tag, sizeof(tag), "A%04d", i);
		hashes[i] = follow_tag_hash(span_str(tag));
		for (int j = 0; j < i; j++)
			assert_true(hashes[j] != hashes[i]);
	}
}

/* --- what is in the middle is busy --- */

static void a_response_in_the_middle_is_busy(void **unused)
{
	static const char text[] =
		"* 1 FETCH (BODY[] {5}\r\nhello FLAGS ())\r\n* LIST () \"/\" {0}\r\n\r\n";
	static const size_t ends[] = {40, 61};

	(void)unused;
	assert_int_equal(sizeof(text) - 1, ends[1]);
	for (size_t n = 1; n < sizeof(text); n++) {
		begin_talk(NULL);
		talk_server(&talk, (struct span){text, n});
		if (n == ends[0] || n == ends[1])
			assert_quiet();
		else
			assert_reason(BUSY);
	}
}

static void a_completion_in_the_middle_is_busy(void **unused)
{
	static const char text[] = "a OK done\r\n";

	(void)unused;
	for (size_t n = 0; n < sizeof(text); n++) {
		begin_talk(NULL);
		client_says("a NOOP\r\n");
		talk_server(&talk, (struct span){text, n});
		if (n == sizeof(text) - 1)
			assert_quiet();
		else
			assert_reason(BUSY);
	}
}

/* --- literals --- */

static void literals_are_not_read_as_responses(void **unused)
{
	(void)unused;
	client_says("a FETCH 1 BODY[]\r\n");
	server_says("* 1 FETCH (BODY[] {25}\r\na OK\r\n* BYE\r\n+ x\r\n{99}\r\nz FLAGS ())\r\n");
	assert_reason(BUSY);
	assert_open(1);
	server_says("a OK\r\n");
	assert_quiet();
}

static void a_response_may_have_several_literals_of_any_length(void **unused)
{
	(void)unused;
	client_says("a FETCH 1 BODY[]\r\n");
	server_says("* 1 FETCH (BODY[1] {0}\r\n BODY[2] {1}\r\nx BODY[3] ~{2}\r\n\n\n BODY[4] "
		    "{0}\r\n {3}\r\n* B)\r\na OK\r\n");
	assert_quiet();
}

static void the_rest_behind_a_literal_is_never_a_status(void **unused)
{
	(void)unused;
	client_says("a FETCH 1 BODY[]\r\n");
	server_says("* 1 FETCH (BODY[1] {1}\r\nx* BYE {1}\r\nx* OK)\r\na OK\r\n");
	assert_quiet();
	assert_false(talk.f.bye);
	begin_talk(NULL);
	client_says("a FETCH 1 BODY[]\r\n");
	server_says("* 1 FETCH (BODY[1] {1}\r\n");
	server_says("xa OK\r\n");
	assert_open(1);
}

static void a_huge_literal_is_busy(void **unused)
{
	(void)unused;
	client_says("a FETCH 1 BODY[]\r\n");
	server_says("* 1 FETCH (BODY[] {9223372036854775807}\r\na OK\r\n");
	assert_reason(BUSY);
	assert_true(talk.f.server_literal_left == (uint64_t)INT64_MAX - 6);
}

static void text_that_looks_like_a_literal_is_text_but_odd(void **unused)
{
	static const char *const lines[] = {
		"* OK see {5}\r\n", "* NO {5}\r\n", "* BAD x {5+}\r\n",
		"* ok ~{5}\r\n",    "* No {0}\r\n",
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		assert_reason_after("a NOOP\r\n", lines[i], ODD);
		server_says("a OK\r\n");
		assert_open(0); /* not skipped */
	}
}

static void text_with_braces_elsewhere_is_nothing(void **unused)
{
	(void)unused;
	assert_reason_after("a NOOP\r\n",
			    "* OK {5} x\r\n* NO {x}\r\n* LIST () \"/\" \"{5}\"\r\na OK {5}.\r\n",
			    NOTHING);
}

static void a_tagged_completion_has_no_literal(void **unused)
{
	(void)unused;
	assert_reason_after("a NOOP\r\n", "a OK see {5}\r\n", NOTHING);
	client_says("b NOOP\r\n");
	server_says("b OK\r\n");
	assert_quiet();
}

static void words_like_a_status_are_data(void **unused)
{
	(void)unused;
	client_says("a NOOP\r\n");
	server_says("* OKAY {1}\r\nx\r\n* BYEBYE {1}\r\nx\r\n* BADLY {1}\r\nx\r\n* PREAUTHS "
		    "{1}\r\nx\r\na OK\r\n");
	assert_quiet();
}

/* --- BYE --- */

static void bye_is_the_end_in_any_shape(void **unused)
{
	static const char *const lines[] = {"* BYE\r\n", "* BYE see you\r\n", "* bye x\r\n",
					    "* ByE [ALERT] x\r\n"};

	(void)unused;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		assert_reason_after("", lines[i], BACKEND_GONE);
		assert_true(talk.f.bye);
		assert_reason_after("a NOTIFY NONE\r\n", lines[i], BACKEND_GONE);
	}
}

static void other_lines_are_not_bye(void **unused)
{
	static const char *const lines[] = {"* BYEBYE\r\n", "* OK BYE\r\n", "* 1 BYE\r\n",
					    "* NO * BYE x\r\n"};

	(void)unused;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		assert_reason_after("", lines[i], NOTHING);
		assert_false(talk.f.bye);
	}
}

/* --- completions and continuations --- */

static void unknown_tags_are_odd(void **unused)
{
	(void)unused;
	assert_reason_after("a NOOP\r\n", "b OK\r\n", ODD);
	assert_open(1);
	assert_reason_after("a NOOP\r\n", "a OK\r\na OK\r\n", ODD);
	assert_reason_after("", "a OK\r\n", ODD);
	assert_reason_after("a NOOP\r\n", "* BAD Invalid tag\r\na OK\r\n", ODD); /* to what? */
	assert_reason_after("a NOOP\r\n", "\r\na OK\r\n", ODD);
	assert_reason_after("a NOOP\r\n", " a OK\r\n", ODD);
	assert_reason_after("a NOOP\r\n", "aa OK\r\n", ODD);
}

static void every_result_completes(void **unused)
{
	(void)unused;
	assert_reason_after("a NOOP\r\n", "a OK\r\n", NOTHING);
	assert_reason_after("a NOOP\r\n", "a NO [X] no\r\n", NOTHING);
	assert_reason_after("a NOOP\r\n", "a BAD what\r\n", NOTHING);
}

static void an_unexpected_continuation_is_odd(void **unused)
{
	(void)unused;
	assert_reason_after("", "+ go\r\n", ODD);
	assert_reason_after("a NOOP\r\n", "+\r\na OK\r\n", ODD);
	assert_reason_after("a APPEND x {5}\r\n", "+ go\r\n+ go\r\n", ODD);
	assert_reason_after("a APPEND x {5+}\r\n", "+ go\r\n", ODD);
	assert_reason_after("a IDLE\r\n", "+ go\r\n+ go\r\n", ODD);
	assert_reason_after("a LOGOUT\r\n", "+ go\r\n", ODD);
}

static void a_server_line_without_carriage_return_is_odd(void **unused)
{
	(void)unused;
	assert_reason_after("a NOOP\r\n", "a OK\n", ODD);
	assert_open(0);
	assert_reason_after("a NOOP\r\n", "* 1 EXISTS\na OK\r\n", ODD);
	assert_reason_after("a NOOP\r\n", "\na OK\r\n", ODD);
}

static void untagged_data_alone_changes_nothing(void **unused)
{
	(void)unused;
	assert_reason_after("", "* 1 EXISTS\r\n* 1 EXPUNGE\r\n* OK hi\r\n*\r\n* \r\n", NOTHING);
}

static void lines_of_any_length_are_followed(void **unused)
{
	static char line[70000];

	(void)unused;
	client_says("a SEARCH ALL\r\n");
	memset(line, '1', sizeof(line));
	memcpy(line, "* SEARCH ", 9);
	memcpy(line + sizeof(line) - 2, "\r\n", 2);
	talk_server(&talk, (struct span){line, sizeof(line)});
	memcpy(line + sizeof(line) - 6, " {3}\r\n", 6);
	talk_server(&talk, (struct span){line, sizeof(line)});
	assert_reason(BUSY);
	server_says("a O\r\na OK\r\n");
	assert_quiet();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TALK_TEST(a_line_in_pieces_is_the_same_line),
		TALK_TEST(a_line_takes_nothing_behind_its_line_feed),
		TALK_TEST(different_tags_have_different_hashes),
		TALK_TEST(a_response_in_the_middle_is_busy),
		TALK_TEST(a_completion_in_the_middle_is_busy),
		TALK_TEST(literals_are_not_read_as_responses),
		TALK_TEST(a_response_may_have_several_literals_of_any_length),
		TALK_TEST(the_rest_behind_a_literal_is_never_a_status),
		TALK_TEST(a_huge_literal_is_busy),
		TALK_TEST(text_that_looks_like_a_literal_is_text_but_odd),
		TALK_TEST(text_with_braces_elsewhere_is_nothing),
		TALK_TEST(a_tagged_completion_has_no_literal),
		TALK_TEST(words_like_a_status_are_data),
		TALK_TEST(bye_is_the_end_in_any_shape),
		TALK_TEST(other_lines_are_not_bye),
		TALK_TEST(unknown_tags_are_odd),
		TALK_TEST(every_result_completes),
		TALK_TEST(an_unexpected_continuation_is_odd),
		TALK_TEST(a_server_line_without_carriage_return_is_odd),
		TALK_TEST(untagged_data_alone_changes_nothing),
		TALK_TEST(lines_of_any_length_are_followed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
