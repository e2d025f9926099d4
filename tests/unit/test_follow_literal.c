/* The follower and what makes the client wait or stop: literals, IDLE, LOGOUT. */
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

/* --- IDLE --- */

static void idle_waits_for_the_continuation_and_ends_with_done(void **unused)
{
	(void)unused;
	client_says("a IDLE\r\nDONE\r\nb NOOP\r\n");
	assert_approved("a IDLE\r\n");
	assert_state(FOLLOW_WAIT);
	assert_false(talk.f.owes_done);
	assert_reason(PARTIAL);
	server_says("* 4 EXISTS\r\n+ idling\r\n");
	assert_all_approved();
	assert_open(2);
	assert_false(talk.f.owes_done);
	server_says("a OK\r\nb OK\r\n");
	assert_quiet();
}

static void done_in_any_case_ends_idle(void **unused)
{
	static const char *const ends[] = {"DONE\r\n", "done\r\n", "dOnE\r\n"};

	(void)unused;
	for (size_t i = 0; i < 3; i++) {
		begin_talk(NULL);
		client_says("a iDLe\r\n");
		server_says("+ idling\r\n");
		assert_state(FOLLOW_DONE);
		assert_true(talk.f.owes_done);
		assert_reason(PARTIAL);
		client_says(ends[i]);
		assert_state(FOLLOW_LINE);
		assert_reason(BUSY);
		server_says("a OK\r\n");
		assert_quiet();
	}
}

static void idle_ended_by_anything_else_is_odd(void **unused)
{
	static const char *const ends[] = {"\r\n",   "DONE \r\n",  " DONE\r\n", "b NOOP\r\n",
					   "DONE\n", "DONE x\r\n", "DON\r\n",	"b DONE\r\n"};

	(void)unused;
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		begin_talk(NULL);
		client_says("a IDLE\r\n");
		server_says("+ idling\r\n");
		client_says(ends[i]);
		assert_all_approved();
		assert_state(FOLLOW_LINE);
		server_says("a OK\r\n");
		assert_reason(ODD);
	}
}

static void a_refused_idle_is_over(void **unused)
{
	(void)unused;
	client_says("a IDLE\r\nb NOOP\r\n");
	server_says("a BAD no\r\n");
	assert_all_approved();
	assert_state(FOLLOW_LINE);
	server_says("b OK\r\n");
	assert_quiet();
}

static void an_idle_that_the_server_ends_is_partial(void **unused)
{
	(void)unused;
	client_says("a IDLE\r\n");
	server_says("+ idling\r\n");
	server_says("a NO tired\r\n");
	assert_false(talk.f.owes_done);
	assert_reason(PARTIAL);
}

static void the_proxy_may_send_done_itself(void **unused)
{
	(void)unused;
	client_says("a IDLE\r\n");
	server_says("+ idling\r\n");
	follow_sent_done(&talk.f);
	assert_state(FOLLOW_LINE);
	assert_false(talk.f.owes_done);
	assert_reason(BUSY);
	server_says("* 1 EXISTS\r\na OK\r\n");
	assert_quiet();
}

static void the_beginning_of_done_stays_with_the_proxy(void **unused)
{
	(void)unused;
	client_says("a IDLE\r\n");
	server_says("+ idling\r\n");
	client_says("DON");
	assert_approved("a IDLE\r\n");
	assert_true(talk.f.owes_done);
}

static void idle_with_a_literal_waits_for_the_literal(void **unused)
{
	(void)unused;
	client_says("a IDLE {2}\r\n");
	server_says("+ go\r\n");
	assert_state(FOLLOW_LITERAL);
	assert_false(talk.f.owes_done);
	client_says("xx\r\n");
	server_says("a BAD\r\n");
	assert_quiet();
}

/* --- LOGOUT --- */

static void logout_is_kept_back_with_its_tag(void **unused)
{
	static const char *const lines[] = {
		"a1 LOGOUT\r\n",  "a1 logout\r\n", "a1 LoGoUt\r\n", "a1 LOGOUT now please\r\n",
		"a1 LOGOUT \r\n",
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		begin_talk(NULL);
		client_says(lines[i]);
		assert_approved("");
		assert_state(FOLLOW_LOGOUT);
		assert_int_equal(talk.f.logout_tag_length, 2);
		assert_memory_equal(talk.f.logout_tag, "a1", 2);
		assert_int_equal(talk.f.logout_line_length, strlen(lines[i]));
		assert_quiet();
	}
}

static void nothing_behind_logout_is_approved(void **unused)
{
	(void)unused;
	client_says("a NOOP\r\nb LOGOUT\r\nc DELETE x\r\n");
	assert_approved("a NOOP\r\n");
	client_says("d DELETE y\r\n");
	server_says("a OK\r\n");
	assert_approved("a NOOP\r\n");
	assert_quiet();
}

static void logout_in_idle_is_kept_back(void **unused)
{
	(void)unused;
	client_says("a IDLE\r\n");
	server_says("+ idling\r\n");
	client_says("b LOGOUT\r\n");
	assert_state(FOLLOW_LOGOUT);
	assert_true(talk.f.owes_done);
	assert_approved("a IDLE\r\n");
	assert_reason(BUSY);
	follow_sent_done(&talk.f);
	assert_state(FOLLOW_LOGOUT);
	assert_false(talk.f.owes_done);
	server_says("a OK\r\n");
	assert_quiet();
}

static void logout_before_idle_begins_waits_for_it(void **unused)
{
	(void)unused;
	client_says("a IDLE\r\nb LOGOUT\r\n");
	assert_state(FOLLOW_WAIT);
	server_says("+ idling\r\n");
	assert_state(FOLLOW_LOGOUT);
	assert_true(talk.f.owes_done);
}

static void other_words_are_not_logout(void **unused)
{
	static const char *const lines[] = {
		"a LOGOUTFOO\r\n",
		"a XLOGOUT\r\n",
		"LOGOUT\r\n",
		"a\r\n",
		"a UID LOGOUT\r\n",
		"a SELECT LOGOUT\r\n",
		"a SELECT \"b LOGOUT\"\r\n",
		"a \"LOGOUT\"\r\n",
		"* LOGOUT\r\n",
		"a\tLOGOUT\r\n",
		"a LOGOUT\t\r\n",
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		begin_talk(NULL);
		client_says(lines[i]);
		assert_all_approved();
		assert_state(FOLLOW_LINE);
	}
}

static void logout_behind_a_literal_is_the_rest_of_a_command(void **unused)
{
	(void)unused;
	client_says("a SELECT {1+}\r\nx\r\n");
	client_says("b SELECT {1+}\r\nxb LOGOUT\r\n");
	assert_all_approved();
	assert_state(FOLLOW_LINE);
	assert_open(2);
}

static void a_logout_with_a_very_long_tag_goes_to_the_server(void **unused)
{
	char line[FOLLOW_TAG + 20];

	(void)unused;
	memset(line, 't', sizeof(line));
	memcpy(line + FOLLOW_TAG, " LOGOUT\r\n", 9);
	talk_client(&talk, (struct span){line, FOLLOW_TAG + 9});
	assert_state(FOLLOW_LOGOUT);
	assert_int_equal(talk.f.logout_tag_length, FOLLOW_TAG);
	begin_talk(NULL);
	line[FOLLOW_TAG] = 't';
	memcpy(line + FOLLOW_TAG + 1, " LOGOUT\r\n", 9);
	talk_client(&talk, (struct span){line, FOLLOW_TAG + 10});
	assert_state(FOLLOW_LINE);
	assert_all_approved();
	assert_open(1);
}

static void an_odd_end_of_logout_is_odd(void **unused)
{
	(void)unused;
	assert_reason_after("a LOGOUT\n", "", ODD);
	assert_state(FOLLOW_LOGOUT);
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
		TALK_TEST(a_huge_literal_is_only_counted),
		TALK_TEST(idle_waits_for_the_continuation_and_ends_with_done),
		TALK_TEST(done_in_any_case_ends_idle),
		TALK_TEST(idle_ended_by_anything_else_is_odd),
		TALK_TEST(a_refused_idle_is_over),
		TALK_TEST(an_idle_that_the_server_ends_is_partial),
		TALK_TEST(the_proxy_may_send_done_itself),
		TALK_TEST(the_beginning_of_done_stays_with_the_proxy),
		TALK_TEST(idle_with_a_literal_waits_for_the_literal),
		TALK_TEST(logout_is_kept_back_with_its_tag),
		TALK_TEST(nothing_behind_logout_is_approved),
		TALK_TEST(logout_in_idle_is_kept_back),
		TALK_TEST(logout_before_idle_begins_waits_for_it),
		TALK_TEST(other_words_are_not_logout),
		TALK_TEST(logout_behind_a_literal_is_the_rest_of_a_command),
		TALK_TEST(a_logout_with_a_very_long_tag_goes_to_the_server),
		TALK_TEST(an_odd_end_of_logout_is_odd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
