/* The follower and literals of the client: announced, refused, pushed, hidden. */
#include "tests/unit/talk_check.h"

/* --- announcements --- */

static void announcements_are_read_from_the_end_of_a_line(void **unused)
{
	static const struct {
		const char *line;
		bool found, sync;
		uint64_t length;
	} rows[] = {
		{"a APPEND x {12}", true, true, 12},
		{"a APPEND x {12+}", true, false, 12},
		{"a APPEND x ~{12}", true, true, 12},
		{"a APPEND x ~{12+}", true, false, 12},
		{"{0}", true, true, 0},
		{"{0+}", true, false, 0},
		{"{007}", true, true, 7},
		{"{1}{2}", true, true, 2},
		{"{9223372036854775807}", true, true, INT64_MAX},
		{"{9223372036854775808}", false, false, 0},
		{"{99999999999999999999999999}", false, false, 0},
		{"", false, false, 0},
		{"}", false, false, 0},
		{"{}", false, false, 0},
		{"+}", false, false, 0},
		{"{+}", false, false, 0},
		{"1}", false, false, 0},
		{"12}", false, false, 0},
		{"12+}", false, false, 0},
		{"{-1}", false, false, 0},
		{"{1-}", false, false, 0},
		{"{1++}", false, false, 0},
		{"{ 1}", false, false, 0},
		{"{1 }", false, false, 0},
		{"{0x10}", false, false, 0},
		{"{12} ", false, false, 0},
		{"\"{12}\"", false, false, 0},
		{"{12}\r", false, false, 0},
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint64_t length = 0;
		bool sync = false;

		assert_int_equal(follow_literal_at_end(span_str(rows[i].line), &length, &sync),
				 rows[i].found);
		if (rows[i].found) {
			assert_true(length == rows[i].length);
			assert_int_equal(sync, rows[i].sync);
		}
	}
}

/* --- literals --- */

static void a_synchronising_literal_waits_for_the_server(void **unused)
{
	(void)unused;
	client_says("a APPEND INBOX {5}\r\nhello\r\nb NOOP\r\n");
	assert_approved("a APPEND INBOX {5}\r\n");
	assert_state(FOLLOW_WAIT);
	assert_reason(PARTIAL);
	server_says("+ go\r\n");
	assert_all_approved();
	assert_open(2);
	server_says("a OK\r\nb OK\r\n");
	assert_quiet();
}

static void a_non_synchronising_literal_does_not_wait(void **unused)
{
	(void)unused;
	client_says("a APPEND INBOX {5+}\r\nhel");
	assert_all_approved();
	assert_state(FOLLOW_LITERAL);
	assert_reason(PARTIAL);
	client_says("lo");
	assert_state(FOLLOW_REST);
	assert_reason(PARTIAL);
	client_says("\r");
	assert_approved("a APPEND INBOX {5+}\r\nhello");
	client_says("\n");
	assert_state(FOLLOW_LINE);
	assert_reason(BUSY);
	server_says("a OK\r\n");
	assert_quiet();
}

static void literal8_is_a_literal(void **unused)
{
	(void)unused;
	client_says("a APPEND INBOX ~{4}\r\n");
	assert_state(FOLLOW_WAIT);
	server_says("+\r\n");
	client_sends("\0\n\r\n");
	assert_state(FOLLOW_REST);
	client_says("\r\n");
	server_says("a OK\r\n");
	assert_quiet();
}

static void literals_of_no_bytes_are_followed_by_the_rest(void **unused)
{
	(void)unused;
	client_says("a LSUB {0}\r\n");
	assert_state(FOLLOW_WAIT);
	server_says("+ go\r\n");
	assert_state(FOLLOW_REST);
	client_says(" {0+}\r\n");
	assert_state(FOLLOW_REST);
	client_says("\r\n");
	assert_state(FOLLOW_LINE);
	server_says("a OK\r\n");
	assert_quiet();
}

static void one_command_may_have_several_literals(void **unused)
{
	(void)unused;
	client_says("a APPEND {5}\r\n");
	server_says("+ go\r\n");
	client_says("INBOX (\\Seen) {3+}\r\nabc ~{2}\r\n");
	assert_state(FOLLOW_WAIT);
	assert_open(1);
	server_says("+ go\r\n");
	client_says("de\r\n");
	assert_state(FOLLOW_LINE);
	assert_all_approved();
	server_says("a OK\r\n");
	assert_quiet();
}

static void commands_inside_literals_are_content(void **unused)
{
	(void)unused;
	client_says("a APPEND x {25+}\r\nb COMPRESS DEFLATE\r\nDONE\n\r\n");
	assert_all_approved();
	assert_open(1);
	server_says("a OK\r\n");
	assert_quiet();
}

static void announcements_inside_literals_are_content(void **unused)
{
	(void)unused;
	client_says("a APPEND x {6+}\r\n{99}\r\n\r\nb NOOP\r\n");
	assert_all_approved();
	assert_open(2);
	assert_state(FOLLOW_LINE);
}

static void a_refused_literal_is_not_sent(void **unused)
{
	static const char *const refusals[] = {"a NO [TOOBIG] no\r\n", "a BAD no\r\n"};

	(void)unused;
	for (size_t i = 0; i < 2; i++) {
		begin_talk(NULL);
		client_says("a APPEND x {5}\r\n");
		server_says(refusals[i]);
		assert_state(FOLLOW_LINE);
		assert_quiet();
		client_says("b SELECT x\r\n");
		assert_all_approved();
		server_says("b OK\r\n");
		assert_quiet();
	}
}

static void a_refusal_may_come_while_earlier_commands_run(void **unused)
{
	(void)unused;
	client_says("a FETCH 1 BODY[]\r\nb APPEND x {5}\r\n");
	server_says("b NO no\r\n");
	assert_state(FOLLOW_LINE);
	assert_open(1);
	client_says("c NOOP\r\n");
	server_says("a OK\r\nc OK\r\n");
	assert_quiet();
}

static void completions_of_earlier_commands_refuse_nothing(void **unused)
{
	(void)unused;
	client_says("a FETCH 1 BODY[]\r\nb NOOP\r\nc APPEND x {11}\r\nz LOGOUT\r\n!\r\n");
	server_says("a OK\r\n");
	assert_state(FOLLOW_WAIT);
	server_says("b NO\r\n");
	assert_state(FOLLOW_WAIT);
	server_says("+ go\r\n");
	assert_all_approved();
	server_says("c OK\r\n");
	assert_quiet();
}

static void untagged_data_before_the_continuation_changes_nothing(void **unused)
{
	(void)unused;
	client_says("a APPEND x {15}\r\nx2 LOGOUT\r\nab\r\n");
	server_says("* 5 EXISTS\r\n* OK still here\r\n* 1 FETCH (BODY[] {4}\r\n+ x\n)\r\n");
	assert_approved("a APPEND x {15}\r\n");
	assert_state(FOLLOW_WAIT);
	server_says("+ go\r\n");
	assert_state(FOLLOW_REST);
	client_says("\r\n");
	server_says("a OK\r\n");
	assert_quiet();
}

static void an_announcement_that_is_not_clear_is_odd(void **unused)
{
	static const char *const lines[] = {
		"a SELECT x{3+}\r\nabc\r\n",
		"a SELECT \"x\"{3+}\r\nabc\r\n",
		"a SELECT x~{3+}\r\nabc\r\n",
		"a SELECT ~~{3+}\r\nabc\r\n",
		"a SELECT \"{3+}\r\nabc\r\n",
		"a SELECT \"x {3+}\r\nabc\r\n",
		"a SELECT \"x\\\" {3+}\r\nabc\r\n",
		"a LIST \"\" \"{3+}\r\nabc\r\n",
		"a LIST \"\" \" ({3+}\r\nabc\r\n",
		"a SEARCH {1+}\r\nx \"y {3+}\r\nabc\r\n",
		"a LIST \"\\\\\" \"\\\\\\\" {3+}\r\nabc\r\n",
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		assert_reason_after(lines[i], "a OK\r\n", ODD);
		assert_all_approved();
	}
}

static void a_clear_announcement_stands_behind_a_blank_or_a_parenthesis(void **unused)
{
	static const char *const lines[] = {
		"a SELECT {3+}\r\nabc\r\n",
		"a SEARCH (TEXT {3+}\r\nabc)\r\n",
		"a FETCH 1 BODY[HEADER.FIELDS ({3+}\r\nabc)]\r\n",
		"a APPEND x (~{3+}\r\nabc)\r\n",
		"a LIST \"\" {3+}\r\nabc\r\n",
		"a LIST \"\\\"\" {3+}\r\nabc\r\n",
		"a LIST \"\\\\\" {3+}\r\nabc\r\n",
		"a SEARCH {1+}\r\n\" TEXT {3+}\r\nabc\r\n",
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		assert_reason_after(lines[i], "a OK\r\n", NOTHING);
}

static void what_looks_like_an_announcement_and_is_none_is_odd(void **unused)
{
	static const char *const lines[] = {
		"a SELECT {}\r\n",
		"a SELECT {+}\r\n",
		"a SELECT {3-}\r\n",
		"a SELECT {x}\r\n",
		"a SELECT {99999999999999999999}\r\n",
		"a SELECT {3++}\r\n",
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		assert_reason_after(lines[i], "a OK\r\n", ODD);
		assert_state(FOLLOW_LINE);
	}
}

static void quoted_braces_are_text(void **unused)
{
	(void)unused;
	client_says("a SELECT \"x {3}\"\r\nb SELECT x}\r\n");
	assert_all_approved();
	assert_open(2);
	server_says("a OK\r\nb NO\r\n");
	assert_quiet();
}

static void a_command_that_ends_before_its_text_is_complete_is_partial(void **unused)
{
	static const char *const commands[] = {
		"a APPEND x {5+}\r\n",
		"a APPEND x {5+}\r\nhel",
		"a APPEND x {5+}\r\nhello",
	};

	(void)unused;
	for (size_t i = 0; i < 3; i++) {
		assert_reason_after(commands[i], "a BAD no\r\n", PARTIAL);
		assert_open(0);
	}
	client_says("\r\nb NOOP\r\n");
	server_says("b OK\r\n");
	assert_reason(PARTIAL);
}

/* A server that answers without having looked for the literal takes its bytes for commands. Dovecot
 * does so for arguments too many and for what it cannot parse. */
static void lines_pushed_where_no_message_belongs_are_odd(void **unused)
{
	static const char *const lines[] = {
		"a NOOP {3+}\r\nb\r\n\r\n",	 "a CLOSE {2+}\r\n\r\n\r\n",
		"a STATUS x (y) {1+}\r\n\n\r\n", "a SELECT {2+}\r\nx\n\r\n",
		"a UID COPY 1 x {1+}\r\n\n\r\n", "a SEARCH TEXT {2+}\r\nab {1+}\r\n\n\r\n",
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		assert_reason_after(lines[i], "a OK\r\n", ODD);
}

static void a_message_may_have_lines(void **unused)
{
	(void)unused;
	assert_reason_after("a APPEND x {4+}\r\na\r\nb\r\n", "a OK\r\n", NOTHING);
	assert_reason_after("a append x {4+}\r\na\r\nb\r\n", "a NO full\r\n", NOTHING);
	assert_reason_after("a REPLACE 1 x {4+}\r\na\r\nb\r\n", "a OK\r\n", NOTHING);
	assert_reason_after("a UID REPLACE 1 x {4+}\r\na\r\nb\r\n", "a OK\r\n", NOTHING);
	begin_talk(NULL);
	client_says("a SEARCH TEXT {3}\r\n");
	server_says("+ go\r\n");
	client_says("a\r\n\r\n"); /* asked for: the server takes it as a literal */
	server_says("a OK\r\n");
	assert_quiet();
}

static void a_message_pushed_at_a_server_that_says_bad_is_odd(void **unused)
{
	(void)unused;
	assert_reason_after("a APPEND ) {4+}\r\na\r\nb\r\n", "a BAD what\r\n", ODD);
	assert_reason_after("a_tag_that_is_long APPEND ) {4+}\r\na\r\nb\r\n",
			    "a_tag_that_is_long BAD what\r\n", ODD);
	assert_reason_after("a APPEND ) {3+}\r\na b\r\n", "a BAD what\r\n",
			    NOTHING); /* no line hides in it */
	assert_reason_after("a APPEND x {4}\r\n", "a BAD what\r\n", NOTHING);
}

static void commands_hidden_in_a_pushed_literal_do_not_stay_hidden(void **unused)
{
	(void)unused;
	/* for the server: a, c ENABLE, and d with all up to "x" as its literal */
	client_says("a CLOSE {37+}\r\nc ENABLE CONDSTORE\r\nd EXAMINE {20+}\r\n\r\n"
		    "c NOOP\r\nd EXAMINE x\r\n");
	assert_open(3);
	server_says("a OK\r\n* ENABLED CONDSTORE\r\nc OK\r\nd NO\r\n");
	assert_open(0);
	assert_reason(ODD);
}

static void a_huge_literal_is_only_counted(void **unused)
{
	static const char zeros[4096];

	(void)unused;
	client_says("a APPEND x {9223372036854775807+}\r\n");
	for (int i = 0; i < 20; i++)
		talk_client(&talk, (struct span){zeros, sizeof(zeros)});
	assert_all_approved();
	assert_true(talk.f.literal_left == (uint64_t)INT64_MAX - 20 * sizeof(zeros));
	assert_reason(PARTIAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TALK_TEST(announcements_are_read_from_the_end_of_a_line),
		TALK_TEST(a_synchronising_literal_waits_for_the_server),
		TALK_TEST(a_non_synchronising_literal_does_not_wait),
		TALK_TEST(literal8_is_a_literal),
		TALK_TEST(literals_of_no_bytes_are_followed_by_the_rest),
		TALK_TEST(one_command_may_have_several_literals),
		TALK_TEST(commands_inside_literals_are_content),
		TALK_TEST(announcements_inside_literals_are_content),
		TALK_TEST(a_refused_literal_is_not_sent),
		TALK_TEST(a_refusal_may_come_while_earlier_commands_run),
		TALK_TEST(completions_of_earlier_commands_refuse_nothing),
		TALK_TEST(untagged_data_before_the_continuation_changes_nothing),
		TALK_TEST(an_announcement_that_is_not_clear_is_odd),
		TALK_TEST(a_clear_announcement_stands_behind_a_blank_or_a_parenthesis),
		TALK_TEST(what_looks_like_an_announcement_and_is_none_is_odd),
		TALK_TEST(quoted_braces_are_text),
		TALK_TEST(a_command_that_ends_before_its_text_is_complete_is_partial),
		TALK_TEST(lines_pushed_where_no_message_belongs_are_odd),
		TALK_TEST(a_message_may_have_lines),
		TALK_TEST(a_message_pushed_at_a_server_that_says_bad_is_odd),
		TALK_TEST(commands_hidden_in_a_pushed_literal_do_not_stay_hidden),
		TALK_TEST(a_huge_literal_is_only_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
