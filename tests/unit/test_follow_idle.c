/* The follower and what makes the client stop: IDLE and LOGOUT. */
#include "tests/unit/talk_check.h"

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
