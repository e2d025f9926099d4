/* One conversation per test, in words: what each side says, what was approved, what it came to. */
#ifndef TESTS_UNIT_TALK_CHECK_H
#define TESTS_UNIT_TALK_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/talk.h"

static struct talk talk;

static inline int begin_talk(void **unused)
{
	(void)unused;
	talk_begin(&talk, TALK_CAP);
	return 0;
}

#define TALK_TEST(name) cmocka_unit_test_setup(name, begin_talk)

static inline void client_says(const char *text)
{
	talk_client(&talk, span_str(text));
}

static inline void server_says(const char *text)
{
	talk_server(&talk, span_str(text));
}

#define client_sends(literal) talk_client(&talk, SPAN(literal))
#define server_sends(literal) talk_server(&talk, SPAN(literal))

static inline struct span text_of(const char *text)
{
	return span_str(text);
}

/* All that the client said since the beginning was approved, and nothing waits. */
#define assert_all_approved() assert_int_equal(talk.approved_length, talk.sent_length)

/* The approved bytes are a prefix of what was sent by construction; this says how long it is. */
#define assert_approved(text)                                                                      \
	do {                                                                                       \
		assert_int_equal(talk.approved_length, text_of(text).n);                           \
		assert_true(span_eq(talk_approved(&talk), text_of(text)));                         \
	} while (0)

#define assert_state(state) assert_int_equal(talk.f.client, state)
#define assert_open(count)  assert_int_equal(talk.f.outstanding_count, count)
#define assert_reason(which)                                                                       \
	assert_string_equal(not_cached_word(follow_quiet(&talk.f)),                                \
			    not_cached_word(NOT_CACHED_##which))

/* The whole conversation so far leaves a connection that can be given back. */
#define assert_quiet()                                                                             \
	do {                                                                                       \
		assert_reason(NOTHING);                                                            \
		assert_open(0);                                                                    \
	} while (0)

/* Says it in a conversation of its own and answers the reason. */
static inline const char *reason_after(const char *client, const char *server)
{
	begin_talk(NULL);
	client_says(client);
	server_says(server);
	return not_cached_word(follow_quiet(&talk.f));
}

#define assert_reason_after(client, server, which)                                                 \
	assert_string_equal(reason_after(client, server), not_cached_word(NOT_CACHED_##which))

#endif
