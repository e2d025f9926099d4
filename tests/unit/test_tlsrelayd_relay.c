/* One connection of tlsrelayd, step by step, with OpenSSL as its peer over a socket pair. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/relay_scene.h"
#include "tlsrelayd/tickets.h"

#define MUCH (4u << 20)

/* The session of the client's end in DER, in memory of just its size. */
static unsigned char *write_session(const struct scene *s, size_t *n)
{
	unsigned char *bytes = NULL;
	char byte;

	assert_int_equal(SSL_read(s->peer, &byte, 1), -1); /* but for the tickets */
	SSL_SESSION *session = SSL_get1_session(s->peer);

	assert_non_null(SSL_SESSION_get0_peer(session));
	int length = i2d_SSL_SESSION(session, &bytes);

	assert_true(length > 0);
	*n = (size_t)length;
	SSL_SESSION_free(session);
	return bytes;
}

static void a_kept_session_has_no_certificate_and_all_else(void **state)
{
	unsigned char secret[2][64];
	struct scene s;
	size_t n;

	(void)state;
	shake_hands(&s);
	unsigned char *bytes = write_session(&s, &n);
	size_t left = tickets_drop_peer((char *)bytes, n);
	const unsigned char *at = bytes;
	SSL_SESSION *had = SSL_get1_session(s.peer);

	assert_true(left > 0 && left < n - 100);
	assert_int_equal(tickets_drop_peer((char *)bytes, left), left);
	SSL_SESSION *have = d2i_SSL_SESSION(NULL, &at, (long)left);

	assert_non_null(have);
	assert_ptr_equal(at, bytes + left);
	assert_null(SSL_SESSION_get0_peer(have));
	size_t length = SSL_SESSION_get_master_key(had, secret[0], sizeof(secret[0]));

	assert_true(length > 0);
	assert_int_equal(SSL_SESSION_get_master_key(have, secret[1], sizeof(secret[1])), length);
	assert_memory_equal(secret[0], secret[1], length);
	assert_ptr_equal(SSL_SESSION_get0_cipher(have), SSL_SESSION_get0_cipher(had));
	assert_int_equal(SSL_SESSION_get_time(have), SSL_SESSION_get_time(had));
	SSL_SESSION_free(had);
	SSL_SESSION_free(have);
	OPENSSL_free(bytes);
	end(&s);
}

static void what_is_no_whole_session_is_not_kept(void **state)
{
	struct scene s;
	size_t n;

	(void)state;
	shake_hands(&s);
	unsigned char *bytes = write_session(&s, &n);

	for (size_t cut = 0; cut < n; cut++) {
		char *part = malloc(cut + 1);

		memcpy(part, bytes, cut);
		assert_int_equal(tickets_drop_peer(part, cut), 0);
		if (cut >= 4) { /* the outer length is right, so one inside is not, or ends there */
			part[1] = (char)0x82;
			part[2] = (char)((cut - 4) >> 8);
			part[3] = (char)((cut - 4) & 0xff);
			assert_true(tickets_drop_peer(part, cut) <= cut);
		}
		free(part);
	}
	bytes[0] = 0x31;
	assert_int_equal(tickets_drop_peer((char *)bytes, n), 0);
	OPENSSL_free(bytes);
	end(&s);
}

static void an_idle_connection_holds_no_buffer_and_waits_for_both(void **state)
{
	struct relay_wants wants;
	struct scene s;
	char data[8];

	(void)state;
	shake_hands(&s);
	assert_int_equal(SSL_write(s.peer, "hello", 5), 5);
	assert_int_equal(step(&s), RELAY_NOTHING);
	assert_int_equal(read(s.plain, data, sizeof(data)), 5);
	assert_int_equal(write(s.plain, "hi", 2), 2);
	assert_int_equal(step(&s), RELAY_NOTHING);
	assert_int_equal(SSL_read(s.peer, data, sizeof(data)), 2);
	assert_null(s.relay.to_plain.data);
	assert_null(s.relay.to_tls.data);
	relay_wants(&s.relay, &wants);
	assert_int_equal(wants.tcp, EPOLLIN);
	assert_int_equal(wants.plain, EPOLLIN);
	assert_true(wants.watch_tcp && wants.watch_plain);
	end(&s);
}

/* An event is about one direction: the other is not tried in vain, and loses nothing by that. */
static void an_event_is_about_one_direction(void **state)
{
	struct scene s;
	char data[8];

	(void)state;
	shake_hands(&s);
	assert_int_equal(SSL_read(s.peer, data, 1), -1); /* but for the tickets */
	assert_int_equal(SSL_write(s.peer, "hello", 5), 5);
	assert_int_equal(write(s.plain, "hi", 2), 2);
	assert_int_equal(relay_step(&s.relay, 0, EPOLLIN, &s.failure), RELAY_NOTHING);
	assert_int_equal(SSL_read(s.peer, data, sizeof(data)), 2);
	assert_int_equal(read(s.plain, data, sizeof(data)), -1);
	assert_int_equal(write(s.plain, "hi", 2), 2);
	assert_int_equal(relay_step(&s.relay, EPOLLIN, 0, &s.failure), RELAY_NOTHING);
	assert_int_equal(read(s.plain, data, sizeof(data)), 5);
	assert_int_equal(SSL_read(s.peer, data, sizeof(data)), -1);
	assert_int_equal(relay_step(&s.relay, EPOLLIN, EPOLLIN, &s.failure), RELAY_NOTHING);
	assert_int_equal(SSL_read(s.peer, data, sizeof(data)), 2);
	end(&s);
}

/* Of what was read ahead epoll knows nothing: as long as there is some, an event that is there must
 * be waited for. */
static void step_until_nothing_is_ahead(struct scene *s)
{
	struct relay_wants wants;

	while (s->relay.tcp.rest.len > 0) {
		relay_wants(&s->relay, &wants);
		assert_true(wants.watch_plain && (wants.plain & EPOLLOUT));
		uint32_t hung = s->relay.plain_hung ? EPOLLHUP : 0;

		assert_int_equal(relay_step(&s->relay, 0, EPOLLOUT | hung, &s->failure),
				 RELAY_NOTHING);
	}
	assert_null(s->relay.tcp.rest.data);
}

/* More records than one step works off come at once. */
static void many_small_records_arrive_in_order(void **state)
{
	char sent[1000], got[1000];
	struct relay_wants wants;
	struct scene s;

	(void)state;
	shake_hands(&s);
	for (size_t i = 0; i < sizeof(sent); i++) {
		sent[i] = byte_of(i);
		if (i % 10 == 9)
			assert_int_equal(SSL_write(s.peer, sent + i - 9, 10), 10);
	}
	assert_int_equal(relay_step(&s.relay, EPOLLIN, 0, &s.failure), RELAY_NOTHING);
	assert_true(s.relay.tcp.rest.len > 0);
	step_until_nothing_is_ahead(&s);
	assert_int_equal(read(s.plain, got, sizeof(got)), sizeof(got));
	assert_memory_equal(got, sent, sizeof(got));
	relay_wants(&s.relay, &wants);
	assert_int_equal(wants.plain, EPOLLIN);
	end(&s);
}

/* A record in two pieces, with the next one's beginning behind the second: no piece is lost. */
static void records_in_pieces_arrive_whole(void **state)
{
	char bytes[400], data[100];
	BIO *wire = BIO_new(BIO_s_mem());
	struct scene s;

	(void)state;
	shake_hands(&s);
	SSL_set0_wbio(s.peer, wire);
	assert_int_equal(SSL_write(s.peer, "hello", 5), 5);
	assert_int_equal(SSL_write(s.peer, ", world", 7), 7);
	int n = BIO_read(wire, bytes, sizeof(bytes)), all = 0;

	for (int at = 0; at < n; at += 3) {
		int piece = n - at < 3 ? n - at : 3;

		assert_int_equal(write(s.tcp, bytes + at, (size_t)piece), piece);
		assert_int_equal(relay_step(&s.relay, EPOLLIN, 0, &s.failure), RELAY_NOTHING);
		assert_int_equal(s.relay.tcp.rest.len, 0);
		ssize_t r = read(s.plain, data + all, sizeof(data) - (size_t)all);

		all += r > 0 ? (int)r : 0;
	}
	assert_int_equal(all, 12);
	assert_memory_equal(data, "hello, world", 12);
	end(&s);
}

static void a_reader_that_is_stuck_stops_the_peer(void **state)
{
	static char data[16384];
	struct relay_wants wants;
	struct scene s;
	size_t sent = 0, got = 0;
	int n;

	(void)state;
	shake_hands(&s);
	do {
		for (size_t i = 0; i < sizeof(data); i++)
			data[i] = byte_of(sent + i);
		n = SSL_write(s.peer, data, sizeof(data));
		sent += n > 0 ? (size_t)n : 0;
		assert_int_equal(step(&s), RELAY_NOTHING);
		assert_true(s.relay.to_plain.len <= 16384);
		assert_true(s.relay.tcp.rest.len <= 17000);
	} while (n > 0 && sent < MUCH);
	assert_true(sent < MUCH);
	relay_wants(&s.relay, &wants);
	assert_int_equal(wants.tcp, 0);
	assert_int_equal(wants.plain, EPOLLOUT | EPOLLIN);
	while (got < sent) {
		ssize_t r = read(s.plain, data, sizeof(data));

		for (ssize_t i = 0; i < r; i++)
			assert_int_equal(data[i], byte_of(got + (size_t)i));
		got += r > 0 ? (size_t)r : 0;
		assert_int_equal(step(&s), RELAY_NOTHING);
	}
	end(&s);
}

static void a_peer_that_is_stuck_stops_the_plain_side(void **state)
{
	static char data[16384];
	struct relay_wants wants;
	struct scene s;
	size_t sent = 0, got = 0;
	ssize_t n;

	(void)state;
	shake_hands(&s);
	do {
		for (size_t i = 0; i < sizeof(data); i++)
			data[i] = byte_of(sent + i);
		n = write(s.plain, data, sizeof(data));
		sent += n > 0 ? (size_t)n : 0;
		assert_int_equal(step(&s), RELAY_NOTHING);
		assert_true(s.relay.to_tls.len <= 16384);
	} while (n > 0 && sent < MUCH);
	assert_true(sent < MUCH);
	relay_wants(&s.relay, &wants);
	assert_int_equal(wants.tcp, EPOLLIN | EPOLLOUT);
	assert_int_equal(wants.plain, 0);
	assert_true(wants.watch_plain);
	while (got < sent) {
		int r = SSL_read(s.peer, data, sizeof(data));

		for (int i = 0; i < r; i++)
			assert_int_equal(data[i], byte_of(got + (size_t)i));
		got += r > 0 ? (size_t)r : 0;
		assert_int_equal(step(&s), RELAY_NOTHING);
	}
	end(&s);
}

static void what_waits_for_a_reader_that_left_is_dropped(void **state)
{
	static char data[16384];
	struct relay_wants wants;
	struct scene s;

	(void)state;
	shake_hands(&s);
	while (SSL_write(s.peer, data, sizeof(data)) > 0)
		assert_int_equal(step(&s), RELAY_NOTHING);
	assert_true(s.relay.to_plain.len > 0);
	fd_drop(&s.plain);
	assert_int_equal(relay_step(&s.relay, 0, EPOLLHUP | EPOLLIN, &s.failure), RELAY_NOTHING);
	assert_null(s.relay.to_plain.data);
	step_until_nothing_is_ahead(&s);
	relay_wants(&s.relay, &wants);
	assert_false(wants.watch_plain);
	assert_int_equal(wants.tcp, EPOLLIN);
	end(&s);
}

static void both_ends_in_order_end_it(void **state)
{
	struct scene s;
	char c;

	(void)state;
	shake_hands(&s);
	assert_int_equal(SSL_shutdown(s.peer), 0);
	assert_int_equal(step(&s), RELAY_NOTHING);
	assert_true(s.relay.tls_ended);
	assert_false(s.relay.truncated);
	assert_int_equal(read(s.plain, &c, 1), 0);
	assert_int_equal(shutdown(s.plain, SHUT_WR), 0);
	assert_int_equal(step(&s), RELAY_ENDED);
	assert_int_equal(SSL_read(s.peer, &c, 1), 0);
	assert_int_equal(SSL_get_error(s.peer, 0), SSL_ERROR_ZERO_RETURN);
	end(&s);
}

static void an_end_behind_the_last_word_is_seen_with_it(void **state)
{
	struct scene s;
	char data[8];

	(void)state;
	shake_hands(&s);
	assert_int_equal(SSL_write(s.peer, "bye", 3), 3);
	assert_int_equal(SSL_shutdown(s.peer), 0);
	assert_int_equal(relay_step(&s.relay, EPOLLIN, 0, &s.failure), RELAY_NOTHING);
	assert_true(s.relay.tls_ended);
	assert_false(s.relay.truncated);
	assert_int_equal(read(s.plain, data, sizeof(data)), 3);
	assert_int_equal(read(s.plain, data, sizeof(data)), 0);
	end(&s);
}

static void an_end_without_close_notify_is_noted(void **state)
{
	struct scene s;
	char c;

	(void)state;
	shake_hands(&s);
	assert_int_equal(shutdown(s.tcp, SHUT_WR), 0);
	assert_int_equal(step(&s), RELAY_NOTHING);
	assert_true(s.relay.truncated);
	assert_int_equal(read(s.plain, &c, 1), 0);
	assert_int_equal(write(s.plain, "x", 1), 1);
	assert_int_equal(step(&s), RELAY_NOTHING);
	assert_int_equal(SSL_read(s.peer, &c, 1), 1);
	end(&s);
}

static void what_is_no_tls_breaks_it(void **state)
{
	struct scene s;

	(void)state;
	shake_hands(&s);
	assert_int_equal(write(s.tcp, "a LOGOUT\r\n", 10), 10);
	assert_int_equal(step(&s), RELAY_BROKEN);
	end(&s);
	begin(&s);
	assert_int_equal(write(s.tcp, "a LOGIN a b\r\n", 13), 13);
	assert_int_equal(step(&s), RELAY_FAILED);
	assert_string_equal(s.failure.text, "peer: does not speak TLS");
	end(&s);
}

static void a_handshake_that_nobody_waits_for_is_given_up(void **state)
{
	struct scene s;

	(void)state;
	begin(&s);
	assert_int_equal(step(&s), RELAY_NOTHING);
	fd_drop(&s.plain);
	assert_int_equal(relay_step(&s.relay, 0, EPOLLHUP, &s.failure), RELAY_FAILED);
	end(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_kept_session_has_no_certificate_and_all_else),
		cmocka_unit_test(what_is_no_whole_session_is_not_kept),
		cmocka_unit_test(an_idle_connection_holds_no_buffer_and_waits_for_both),
		cmocka_unit_test(an_event_is_about_one_direction),
		cmocka_unit_test(many_small_records_arrive_in_order),
		cmocka_unit_test(records_in_pieces_arrive_whole),
		cmocka_unit_test(a_reader_that_is_stuck_stops_the_peer),
		cmocka_unit_test(a_peer_that_is_stuck_stops_the_plain_side),
		cmocka_unit_test(what_waits_for_a_reader_that_left_is_dropped),
		cmocka_unit_test(both_ends_in_order_end_it),
		cmocka_unit_test(an_end_behind_the_last_word_is_seen_with_it),
		cmocka_unit_test(an_end_without_close_notify_is_noted),
		cmocka_unit_test(what_is_no_tls_breaks_it),
		cmocka_unit_test(a_handshake_that_nobody_waits_for_is_given_up),
	};

	return cmocka_run_group_tests(tests, make_contexts, free_contexts);
}
