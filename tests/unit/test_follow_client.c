/* The client's half of the follower: which bytes may be passed on, and in which state it then is.
 */
#include "tests/unit/talk_check.h"

#include <stdio.h>

#include "proxyd/follow_line.h"

/* --- lines --- */

static void nothing_said_is_quiet(void **unused)
{
	(void)unused;
	assert_quiet();
	assert_state(FOLLOW_LINE);
	client_says("");
	server_says("");
	assert_quiet();
}

static void a_command_is_outstanding_until_its_completion(void **unused)
{
	(void)unused;
	client_says("a1 NOOP\r\n");
	assert_all_approved();
	assert_open(1);
	assert_reason(BUSY);
	server_says("a1 OK done\r\n");
	assert_quiet();
}

static void an_incomplete_line_stays_and_leaves_no_trace(void **unused)
{
	static const char line[] = "a1 STORE 1 +FLAGS (\\Deleted)\r\n";

	(void)unused;
	for (size_t n = 0; n < sizeof(line) - 1; n++) {
		begin_talk(NULL);
		talk_client(&talk, (struct span){line, n});
		assert_approved("");
		assert_quiet();
	}
}

static void the_end_of_a_line_releases_all_of_it_and_no_more(void **unused)
{
	(void)unused;
	client_says("a1 NO");
	client_says("OP\r");
	assert_approved("");
	client_says("\na2 NO");
	assert_approved("a1 NOOP\r\n");
	assert_open(1);
	client_says("OP\r\n");
	assert_all_approved();
	assert_open(2);
}

static void commands_are_pipelined_and_may_complete_in_any_order(void **unused)
{
	(void)unused;
	client_says("a NOOP\r\nb LIST \"\" *\r\nc UID FETCH 1 FLAGS\r\n");
	assert_all_approved();
	assert_open(3);
	server_says("b OK\r\n");
	server_says("c OK\r\n");
	assert_reason(BUSY);
	server_says("a OK\r\n");
	assert_quiet();
}

static void empty_lines_are_passed_on_but_odd(void **unused)
{
	(void)unused;
	assert_reason_after("\r\n", "", ODD);
	assert_all_approved();
	assert_open(0);
	assert_reason_after("\n", "", ODD);
	assert_all_approved();
}

static void a_bare_line_feed_is_odd(void **unused)
{
	(void)unused;
	assert_reason_after("a NOOP\n", "a OK\r\n", ODD);
	assert_all_approved();
	assert_open(0);
}

static void a_carriage_return_inside_a_line_is_odd(void **unused)
{
	(void)unused;
	assert_reason_after("a NOOP\r\r\n", "a OK\r\n", ODD);
	assert_reason_after("a NO\rOP\r\n", "a OK\r\n", ODD);
	assert_reason_after("\ra NOOP\r\n", "a OK\r\n", ODD);
	assert_all_approved();
}

static void a_nul_inside_a_line_is_odd(void **unused)
{
	(void)unused;
	client_sends("a NOOP\0\r\n");
	assert_all_approved();
	server_says("a OK\r\n");
	assert_reason(ODD);
}

static void a_nul_inside_a_literal_is_content(void **unused)
{
	(void)unused;
	client_sends("a APPEND x ~{3+}\r\n\0\r\n\r\n");
	assert_all_approved();
	server_says("a OK\r\n");
	assert_quiet();
}

/* --- tags --- */

static void every_legal_tag_is_known_again(void **unused)
{
	static const char *const tags[] = {"a",	 "1",	"A0001", ".",
					   "-",	 "a]",	"]",	 "}",
					   "a}", "~",	"!",	 "#$&',-./:;<=>?@[]^_`|}~",
					   "OK", "BYE", "NOOP",	 "LOGOUT"};
	char line[100];

	(void)unused;
	for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++) {
		begin_talk(NULL);
		snprintf(line, sizeof(line), "%s NOOP\r\n", tags[i]);
		client_says(line);
		assert_open(1);
		snprintf(line, sizeof(line), "%s OK done\r\n", tags[i]);
		server_says(line);
		assert_quiet();
	}
}

static void tags_of_every_length_are_known_again(void **unused)
{
	static char line[5000];

	(void)unused;
	for (size_t n = 1; n < 4000; n += n < 300 ? 1 : 333) {
		begin_talk(NULL);
		memset(line, 't', n);
		snprintf(line + n, sizeof(line) - n, " NOOP\r\n");
		client_says(line);
		assert_open(1);
		snprintf(line + n - 1, sizeof(line) - n, " OK\r\n");
		if (n > 1)
			server_says(line); /* a tag one byte shorter is another one */
		assert_open(1);
		memset(line, 't', n);
		snprintf(line + n, sizeof(line) - n, " OK\r\n");
		server_says(line);
		assert_open(0);
	}
}

static void tags_differ_by_case(void **unused)
{
	(void)unused;
	assert_reason_after("a NOOP\r\n", "A OK\r\n", ODD);
	assert_open(1);
}

static void invalid_tags_are_passed_on_but_odd(void **unused)
{
	static const char *const lines[] = {
		"+ NOOP\r\n",	  "a+ NOOP\r\n",   "* NOOP\r\n",
		"a* NOOP\r\n",	  "( NOOP\r\n",	   ") NOOP\r\n",
		"{ NOOP\r\n",	  "% NOOP\r\n",	   "\" NOOP\r\n",
		"a\\ NOOP\r\n",	  " a NOOP\r\n",   " \r\n",
		"a\tNOOP x\r\n",  "\x7f NOOP\r\n", "\xc3\xa4 NOOP\r\n",
		"a\x01 NOOP\r\n", "DONE\r\n",	   "a\r\n",
		"a \r\n",
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		assert_reason_after(lines[i], "", ODD);
		assert_all_approved();
		assert_open(0);
		assert_state(FOLLOW_LINE);
	}
}

static void the_same_tag_twice_needs_two_completions(void **unused)
{
	(void)unused;
	client_says("a NOOP\r\na NOOP\r\n");
	assert_open(2);
	server_says("a OK\r\n");
	assert_reason(BUSY);
	server_says("a OK\r\n");
	assert_quiet();
}

static void the_same_tag_twice_does_not_refuse_a_literal(void **unused)
{
	(void)unused;
	client_says("a NOOP\r\na APPEND x {16}\r\nb LOGOUT\r\nxxxxxx\r\n");
	server_says("a OK done\r\n");
	assert_state(FOLLOW_WAIT);
	assert_approved("a NOOP\r\na APPEND x {16}\r\n");
	server_says("+ go\r\n");
	assert_all_approved();
	server_says("a OK stored\r\n");
	assert_quiet();
}

static void the_same_tag_twice_does_not_end_idle(void **unused)
{
	(void)unused;
	client_says("a NOOP\r\na IDLE\r\n");
	server_says("a OK done\r\n+ idling\r\n");
	assert_state(FOLLOW_DONE);
	assert_true(talk.f.owes_done);
	client_says("DONE\r\n");
	server_says("a OK\r\n");
	assert_quiet();
}

/* --- long lines --- */

static void fill(char *line, size_t length, const char *begin, const char *end)
{
	size_t n = strlen(begin), m = strlen(end);

	memcpy(line, begin, n);
	memset(line + n, 'x', length - n - m);
	memcpy(line + length - m, end, m);
}

static char longer[TALK_MOST];

static void a_line_that_just_fits_is_an_ordinary_line(void **unused)
{
	(void)unused;
	talk_begin(&talk, 100);
	fill(longer, 100, "a SEARCH ", "\r\n");
	talk_client(&talk, (struct span){longer, 100});
	assert_all_approved();
	assert_open(1);
	server_says("a OK\r\n");
	assert_quiet();
}

static void a_line_longer_than_the_buffer_streams_and_is_odd(void **unused)
{
	(void)unused;
	talk_begin(&talk, 100);
	fill(longer, 1000, "a SEARCH ", "\r\n");
	talk_client(&talk, (struct span){longer, 99});
	assert_approved("");
	talk_client(&talk, (struct span){longer + 99, 1});
	assert_all_approved();
	assert_state(FOLLOW_LONG);
	assert_reason(ODD);
	for (size_t i = 100; i < 1000; i++) {
		assert_state(FOLLOW_LONG);
		talk_client(&talk, (struct span){longer + i, 1});
		assert_all_approved();
	}
	assert_state(FOLLOW_LINE);
	assert_open(1);
	server_says("a OK\r\n");
	assert_open(0);
	assert_reason(ODD);
}

static void a_literal_behind_a_long_line_is_not_read_as_commands(void **unused)
{
	(void)unused;
	talk_begin(&talk, 100);
	fill(longer, 300, "a APPEND ", " {10}\r\n");
	talk_client(&talk, (struct span){longer, 300});
	assert_all_approved();
	assert_state(FOLLOW_WAIT);
	client_says("x LOGOUT\r\n\r\n");
	assert_int_equal(talk.approved_length, 300);
	server_says("+ go\r\n");
	assert_all_approved();
	assert_state(FOLLOW_LINE);
	client_says("b LOGOUT\r\n");
	assert_state(FOLLOW_LOGOUT);
}

static void a_long_logout_goes_to_the_server(void **unused)
{
	(void)unused;
	talk_begin(&talk, 100);
	fill(longer, 300, "a LOGOUT ", "\r\n");
	talk_client(&talk, (struct span){longer, 300});
	assert_all_approved();
	assert_state(FOLLOW_LINE);
	assert_open(1);
}

static void a_long_line_without_a_tag_is_not_outstanding(void **unused)
{
	(void)unused;
	talk_begin(&talk, 100);
	fill(longer, 300, "\"", "\r\n");
	talk_client(&talk, (struct span){longer, 300});
	assert_all_approved();
	assert_open(0);
	assert_reason(ODD);
}

static void a_long_rest_of_a_command_is_odd(void **unused)
{
	(void)unused;
	talk_begin(&talk, 100);
	client_says("a SEARCH TEXT {1+}\r\nx");
	fill(longer, 300, " OR ", "\r\n");
	talk_client(&talk, (struct span){longer, 300});
	assert_all_approved();
	assert_open(1);
	assert_state(FOLLOW_LINE);
	assert_reason(ODD);
}

static void a_long_line_in_idle_ends_it(void **unused)
{
	(void)unused;
	talk_begin(&talk, 100);
	client_says("a IDLE\r\n");
	server_says("+ idling\r\n");
	fill(longer, 300, "DONE", "\r\n");
	talk_client(&talk, (struct span){longer, 300});
	assert_all_approved();
	assert_state(FOLLOW_LINE);
	assert_reason(ODD);
}

/* --- many commands --- */

static void pipeline(size_t count)
{
	for (size_t i = 0; i < count; i++) {
		char line[30];

		snprintf(line, sizeof(line), "t%zu NOOP\r\n", i);
		client_says(line);
	}
}

static void complete(size_t i)
{
	char line[30];

	snprintf(line, sizeof(line), "t%zu OK\r\n", i);
	server_says(line);
}

static void more_commands_than_the_table_holds_wait(void **unused)
{
	(void)unused;
	pipeline(FOLLOW_OUTSTANDING);
	assert_all_approved();
	assert_open(FOLLOW_OUTSTANDING);
	client_says("next NOOP\r\nlast LOGOUT\r\n");
	assert_int_equal(talk.sent_length - talk.approved_length, 24);
	assert_state(FOLLOW_LINE);
	complete(7);
	assert_open(FOLLOW_OUTSTANDING);
	assert_int_equal(talk.sent_length - talk.approved_length, 13);
	assert_state(FOLLOW_LINE);
	complete(0);
	assert_state(FOLLOW_LOGOUT);
	assert_reason(BUSY);
	for (size_t i = 1; i < FOLLOW_OUTSTANDING; i++)
		if (i != 7)
			complete(i);
	server_says("next OK\r\n");
	assert_quiet();
}

static void a_long_line_waits_for_room_in_the_table_too(void **unused)
{
	(void)unused;
	talk_begin(&talk, 100);
	pipeline(FOLLOW_OUTSTANDING);
	fill(longer, 300, "long ", "\r\n");
	talk_client(&talk, (struct span){longer, 300});
	assert_int_equal(talk.sent_length - talk.approved_length, 300);
	complete(0);
	assert_all_approved();
	assert_open(FOLLOW_OUTSTANDING);
}

static void the_last_place_of_the_table_takes_literals_and_idle(void **unused)
{
	(void)unused;
	pipeline(FOLLOW_OUTSTANDING - 1);
	client_says("x APPEND y {1+}\r\nz\r\n");
	assert_all_approved();
	server_says("x OK\r\n");
	client_says("i IDLE\r\n");
	assert_state(FOLLOW_WAIT);
	server_says("+ idling\r\n");
	client_says("DONE\r\n");
	assert_all_approved();
	assert_state(FOLLOW_LINE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TALK_TEST(nothing_said_is_quiet),
		TALK_TEST(a_command_is_outstanding_until_its_completion),
		TALK_TEST(an_incomplete_line_stays_and_leaves_no_trace),
		TALK_TEST(the_end_of_a_line_releases_all_of_it_and_no_more),
		TALK_TEST(commands_are_pipelined_and_may_complete_in_any_order),
		TALK_TEST(empty_lines_are_passed_on_but_odd),
		TALK_TEST(a_bare_line_feed_is_odd),
		TALK_TEST(a_carriage_return_inside_a_line_is_odd),
		TALK_TEST(a_nul_inside_a_line_is_odd),
		TALK_TEST(a_nul_inside_a_literal_is_content),
		TALK_TEST(every_legal_tag_is_known_again),
		TALK_TEST(tags_of_every_length_are_known_again),
		TALK_TEST(tags_differ_by_case),
		TALK_TEST(invalid_tags_are_passed_on_but_odd),
		TALK_TEST(the_same_tag_twice_needs_two_completions),
		TALK_TEST(the_same_tag_twice_does_not_refuse_a_literal),
		TALK_TEST(the_same_tag_twice_does_not_end_idle),
		TALK_TEST(a_line_that_just_fits_is_an_ordinary_line),
		TALK_TEST(a_line_longer_than_the_buffer_streams_and_is_odd),
		TALK_TEST(a_literal_behind_a_long_line_is_not_read_as_commands),
		TALK_TEST(a_long_logout_goes_to_the_server),
		TALK_TEST(a_long_line_without_a_tag_is_not_outstanding),
		TALK_TEST(a_long_rest_of_a_command_is_odd),
		TALK_TEST(a_long_line_in_idle_ends_it),
		TALK_TEST(more_commands_than_the_table_holds_wait),
		TALK_TEST(a_long_line_waits_for_room_in_the_table_too),
		TALK_TEST(the_last_place_of_the_table_takes_literals_and_idle),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
