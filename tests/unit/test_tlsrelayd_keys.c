/* A peer that asks for new keys (KeyUpdate). OpenSSL's answer is a write of its own, begun within
 * SSL_read() or SSL_write(): none of them may meet another write that is not done, for that is an
 * error (bad length, bad write retry), and what the peer said next would be lost. Here the way to
 * the peer is full, or closed, or the peer has left, whenever such an answer is due. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/err.h>

#include "tests/unit/relay_scene.h"

static void ask_for_keys(struct scene *s)
{
	assert_int_equal(SSL_key_update(s->peer, SSL_KEY_UPDATE_REQUESTED), 1);
	assert_int_equal(SSL_do_handshake(s->peer), 1);
}

static void say(struct scene *s, const char *text)
{
	assert_int_equal(SSL_write(s->peer, text, (int)strlen(text)), (int)strlen(text));
}

static void assert_plain_has(struct scene *s, const char *text)
{
	char data[100];
	ssize_t n = read(s->plain, data, sizeof(data));

	assert_int_equal(n, strlen(text));
	assert_memory_equal(data, text, (size_t)n);
}

/* What of all that the relay waits for is there. */
static int look(struct scene *s, uint32_t *tcp_events, uint32_t *plain_events)
{
	struct relay_wants wants;

	relay_wants(&s->relay, &wants);
	struct pollfd fds[] = {
		{ .fd = wants.watch_tcp ? s->relay.tcp.fd : -1, .events = (short)wants.tcp },
		{ .fd = wants.watch_plain ? s->relay.plain : -1, .events = (short)wants.plain },
	};
	int n = poll(fds, 2, 0);

	*tcp_events = (uint32_t)fds[0].revents;
	*plain_events = (uint32_t)fds[1].revents;
	return n;
}

/* What the relay waits for has not come: it must not be woken in vain. */
static void assert_it_sleeps(struct scene *s)
{
	uint32_t tcp_events, plain_events;

	assert_int_equal(look(s, &tcp_events, &plain_events), 0);
}

/* Steps as epoll would have them, until there is nothing to wake it. */
static enum relay_news step_as_woken(struct scene *s)
{
	enum relay_news news = RELAY_NOTHING;

	for (int i = 0; i < 100 && news == RELAY_NOTHING; i++) {
		uint32_t tcp_events, plain_events;

		if (look(s, &tcp_events, &plain_events) == 0)
			return news;
		news = relay_step(&s->relay, tcp_events, plain_events, &s->failure);
	}
	assert_int_not_equal(news, RELAY_NOTHING);
	return news;
}

/* Nothing more fits on the way to the peer, and OpenSSL knows nothing of it. Returns how many bytes
 * are no records. */
static size_t stuff_the_way(struct scene *s)
{
	static const char bytes[1000];
	size_t all = 0;
	ssize_t n;

	for (size_t size = sizeof(bytes); size > 0; size /= 2)
		while ((n = send(s->relay.tcp.fd, bytes, size, MSG_DONTWAIT)) > 0)
			all += (size_t)n;
	return all;
}

static void clear_the_way(struct scene *s, size_t n)
{
	char bytes[1000];

	while (n > 0) {
		ssize_t r = read(s->tcp, bytes, n < sizeof(bytes) ? n : sizeof(bytes));

		assert_true(r > 0);
		n -= (size_t)r;
	}
}

static void shake_hands_and_take_tickets(struct scene *s)
{
	char c;

	shake_hands(s);
	assert_int_equal(SSL_read(s->peer, &c, 1), -1);
}

static void keys_asked_for_while_a_record_is_stuck_do_not_break_it(void **state)
{
	static char data[16384];
	struct scene s;
	size_t sent = 0, got = 0;
	ssize_t n;

	(void)state;
	shake_hands_and_take_tickets(&s);
	while (s.relay.to_tls.len == 0) {
		for (size_t i = 0; i < sizeof(data); i++)
			data[i] = byte_of(sent + i);
		n = write(s.plain, data, sizeof(data));
		sent += n > 0 ? (size_t)n : 0;
		assert_int_equal(step(&s), RELAY_NOTHING);
	}
	for (int i = 0; i < 3; i++)
		ask_for_keys(&s);
	say(&s, "hello");
	assert_int_equal(step_as_woken(&s), RELAY_NOTHING);
	say(&s, ", world");
	assert_it_sleeps(&s);
	while (got < sent) {
		int r = SSL_read(s.peer, data, sizeof(data));

		for (int i = 0; i < r; i++)
			assert_int_equal(data[i], byte_of(got + (size_t)i));
		got += r > 0 ? (size_t)r : 0;
		assert_int_equal(step_as_woken(&s), RELAY_NOTHING);
	}
	assert_plain_has(&s, "hello, world");
	end(&s);
}

/* The answer has five bytes: less than that must not be taken for a retry with too little. */
static void less_than_an_answer_that_is_stuck_does_not_break_it(void **state)
{
	(void)state;
	for (int asked = 1; asked <= 3; asked++) {
		struct scene s;
		char data[8];

		shake_hands_and_take_tickets(&s);
		size_t stuffed = stuff_the_way(&s);

		for (int i = 0; i < asked; i++)
			ask_for_keys(&s);
		assert_int_equal(step_as_woken(&s), RELAY_NOTHING);
		assert_int_equal(write(s.plain, "+\r\n", 3), 3);
		assert_int_equal(step_as_woken(&s), RELAY_NOTHING);
		assert_int_equal(step(&s), RELAY_NOTHING);
		assert_true(s.relay.write_waits || s.relay.read_waits);
		assert_it_sleeps(&s);
		clear_the_way(&s, stuffed);
		assert_int_equal(step_as_woken(&s), RELAY_NOTHING);
		assert_int_equal(SSL_read(s.peer, data, sizeof(data)), 3);
		assert_memory_equal(data, "+\r\n", 3);
		end(&s);
	}
}

static void an_end_waits_for_an_answer_that_is_stuck(void **state)
{
	(void)state;
	for (int is_closed = 0; is_closed < 2; is_closed++) {
		struct scene s;
		char c;

		shake_hands_and_take_tickets(&s);
		size_t stuffed = stuff_the_way(&s);

		for (int i = 0; i < 3; i++)
			ask_for_keys(&s);
		assert_int_equal(step_as_woken(&s), RELAY_NOTHING);
		assert_int_equal(shutdown(s.plain, SHUT_WR), 0);
		if (is_closed)
			fd_drop(&s.plain);
		assert_int_equal(step_as_woken(&s), RELAY_NOTHING);
		assert_it_sleeps(&s);
		clear_the_way(&s, stuffed);
		assert_int_equal(step_as_woken(&s), RELAY_NOTHING);
		assert_int_equal(SSL_read(s.peer, &c, 1), 0);
		assert_int_equal(SSL_get_error(s.peer, 0), SSL_ERROR_ZERO_RETURN);
		say(&s, "hello");
		assert_int_equal(step_as_woken(&s), RELAY_NOTHING);
		if (!is_closed)
			assert_plain_has(&s, "hello");
		end(&s);
	}
}

/* SSL_write() has begun the answer, SSL_read() finds that nobody hears it. */
static void an_answer_that_nobody_hears_any_more_stops_nothing(void **state)
{
	struct scene s;

	(void)state;
	shake_hands_and_take_tickets(&s);
	size_t stuffed = stuff_the_way(&s);

	ask_for_keys(&s);
	say(&s, "hello");
	assert_int_equal(step_as_woken(&s), RELAY_NOTHING);
	assert_int_equal(write(s.plain, "+\r\n", 3), 3);
	assert_int_equal(step_as_woken(&s), RELAY_NOTHING);
	assert_true(s.relay.write_waits);
	assert_int_equal(shutdown(s.tcp, SHUT_RD), 0);
	assert_int_equal(step(&s), RELAY_NOTHING);
	clear_the_way(&s, stuffed);
	assert_int_equal(step_as_woken(&s), RELAY_NOTHING);
	say(&s, ", world");
	assert_int_equal(step_as_woken(&s), RELAY_NOTHING);
	assert_plain_has(&s, "hello, world");
	end(&s);
}

static void keys_asked_for_behind_our_end_are_nothing(void **state)
{
	struct scene s;

	(void)state;
	shake_hands_and_take_tickets(&s);
	assert_int_equal(shutdown(s.plain, SHUT_WR), 0);
	assert_int_equal(step_as_woken(&s), RELAY_NOTHING);
	for (int i = 0; i < 3; i++)
		ask_for_keys(&s);
	say(&s, "hello");
	assert_int_equal(step_as_woken(&s), RELAY_NOTHING);
	assert_plain_has(&s, "hello");
	end(&s);
}

/* The peer has left, and whatever of ours finds that out first: what the peer had said arrives. */
static void what_a_peer_said_before_it_left_arrives(void **state)
{
	static const char *const last_words[] = { "", "x", "+ more than an answer\r\n" };

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(last_words) / sizeof(last_words[0]); i++) {
		const char *words = last_words[i / 2];
		struct scene s;

		shake_hands(&s); /* with the tickets unread, its leaving is a reset */
		for (int n = 0; n < 100; n++)
			ask_for_keys(&s);
		say(&s, "hello");
		fd_drop(&s.tcp);
		assert_int_equal(write(s.plain, words, strlen(words)), strlen(words));
		if (words[0] == '\0')
			assert_int_equal(shutdown(s.plain, SHUT_WR), 0);
		if (i % 2 == 0)
			assert_int_equal(relay_step(&s.relay, 0, EPOLLIN, &s.failure),
					 RELAY_NOTHING);
		(void)step_as_woken(&s);
		assert_int_equal(ERR_peek_error(), 0);
		assert_plain_has(&s, "hello");
		end(&s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_asked_for_while_a_record_is_stuck_do_not_break_it),
		cmocka_unit_test(less_than_an_answer_that_is_stuck_does_not_break_it),
		cmocka_unit_test(an_end_waits_for_an_answer_that_is_stuck),
		cmocka_unit_test(an_answer_that_nobody_hears_any_more_stops_nothing),
		cmocka_unit_test(keys_asked_for_behind_our_end_are_nothing),
		cmocka_unit_test(what_a_peer_said_before_it_left_arrives),
	};

	return cmocka_run_group_tests(tests, make_contexts, free_contexts);
}
