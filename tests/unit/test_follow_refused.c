/* Commands that the proxy answers itself: never forwarded, answered in their order, their text
 * dropped to its last byte.
 */
#include "tests/unit/talk_check.h"

#include <stdio.h>

#define assert_client_got(text) assert_true(span_eq(talk_shown(&talk), text_of(text)))

static void it_is_answered_and_not_forwarded(void **unused)
{
	static const char *const commands[] = {
		"COMPRESS DEFLATE",  "compress",	 "STARTTLS", "StartTls now",
		"UNAUTHENTICATE", "X-UNAUTHENTICATE", " COMPRESS DEFLATE",
	};
	char line[100];

	(void)unused;
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		begin_talk(NULL);
		client_says("a NOOP\r\n");
		server_says("a OK\r\n");
		snprintf(line, sizeof(line), "b %s\r\n", commands[i]);
		client_says(line);
		client_says("c NOOP\r\n");
		assert_approved("a NOOP\r\nc NOOP\r\n");
		assert_client_got("a OK\r\nb BAD\r\n");
		server_says("c OK\r\n");
		assert_quiet();
	}
}

static void it_waits_for_the_answers_to_what_was_before_it(void **unused)
{
	(void)unused;
	client_says("a NOOP\r\nb NOOP\r\nc COMPRESS DEFLATE\r\nd NOOP\r\n");
	assert_approved("a NOOP\r\nb NOOP\r\n");
	assert_state(FOLLOW_REFUSED);
	assert_reason(PARTIAL);
	server_says("b OK\r\n* 1 EXISTS\r\n");
	assert_state(FOLLOW_REFUSED);
	server_says("a OK");
	assert_state(FOLLOW_REFUSED);
	server_says("\r\nd OK\r\n");
	assert_approved("a NOOP\r\nb NOOP\r\nd NOOP\r\n");
	assert_client_got("b OK\r\n* 1 EXISTS\r\na OK\r\nc BAD\r\nd OK\r\n");
	assert_quiet();
}

static void it_does_not_stand_within_a_response(void **unused)
{
	static const char response[] = "* 1 FETCH (BODY[] {4}\r\n\r\nx\n)\r\n";

	(void)unused;
	for (size_t n = 1; n < sizeof(response) - 1; n++) {
		begin_talk(NULL);
		talk_server(&talk, (struct span){response, n});
		client_says("a COMPRESS DEFLATE\r\n");
		assert_int_equal(talk.shown_length, n);
		talk_server(&talk, (struct span){response + n, sizeof(response) - 1 - n});
		assert_int_equal(talk.shown_length, sizeof(response) - 1 + 7);
	}
}

static void its_literals_are_dropped(void **unused)
{
	(void)unused;
	client_says("a COMPRESS {7+}\r\nDEFLATE\r\nb NOOP\r\n");
	assert_approved("b NOOP\r\n");
	begin_talk(NULL);
	client_says("a STARTTLS {10+}\r\nx LOGOUT\r\n {0+}\r\n {2+}\r\n\r\n x\r\nb NOOP\r\n");
	assert_approved("b NOOP\r\n");
	server_says("b OK\r\n");
	assert_quiet();
}

static void a_literal_that_waits_is_answered_instead(void **unused)
{
	(void)unused;
	client_says("a COMPRESS {7}\r\n");
	assert_client_got("a BAD\r\n");
	client_says("b NOOP\r\n");
	assert_approved("b NOOP\r\n");
	server_says("b OK\r\n");
	assert_quiet();
}

static void a_drop_within_its_text_is_partial(void **unused)
{
	(void)unused;
	client_says("a COMPRESS {7+}\r\nDEF");
	assert_approved("");
	assert_reason(PARTIAL);
	assert_true(talk.f.dropping);
}

static void one_behind_the_other(void **unused)
{
	(void)unused;
	client_says("a COMPRESS DEFLATE\r\nb STARTTLS\r\nc COMPRESS {1+}\r\nx\r\nd LOGOUT\r\n");
	assert_client_got("a BAD\r\nb BAD\r\nc BAD\r\n");
	assert_state(FOLLOW_LOGOUT);
	assert_approved("");
	assert_quiet();
}

/* The mail host may take as a tag what we do not. */
static void a_tag_that_is_none_is_no_way_around_it(void **unused)
{
	(void)unused;
	client_says("a+b COMPRESS DEFLATE\r\n");
	assert_approved("");
	assert_client_got(" BAD\r\n");
	client_says("c NOOP\r\n");
	assert_approved("c NOOP\r\n");
}

static void within_idle_and_literals_it_is_no_command(void **unused)
{
	(void)unused;
	client_says("a IDLE\r\n");
	server_says("+ idling\r\n");
	client_says("b COMPRESS DEFLATE\r\n");
	assert_all_approved();
	begin_talk(NULL);
	client_says("a APPEND x {16+}\r\nb COMPRESS DEF\r\n\r\n");
	assert_all_approved();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TALK_TEST(it_is_answered_and_not_forwarded),
		TALK_TEST(it_waits_for_the_answers_to_what_was_before_it),
		TALK_TEST(it_does_not_stand_within_a_response),
		TALK_TEST(its_literals_are_dropped),
		TALK_TEST(a_literal_that_waits_is_answered_instead),
		TALK_TEST(a_drop_within_its_text_is_partial),
		TALK_TEST(one_behind_the_other),
		TALK_TEST(a_tag_that_is_none_is_no_way_around_it),
		TALK_TEST(within_idle_and_literals_it_is_no_command),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
