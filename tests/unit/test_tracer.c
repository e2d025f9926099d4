/* A traced session's side: what is told to the writer, in which records, and what happens when that
 * is slow or gone.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/clock.h"
#include "lib/trace.h"
#include "proxyd/io.h"
#include "proxyd/tracer.h"

static int writer = -1;
static bool traced;
static char text[TRACE_BYTES + 100];

static int begin(void **unused)
{
	int pair[2];

	(void)unused;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -1;
	writer = pair[0];
	tracer_begin(pair[1], &traced);
	memset(text, 'x', sizeof(text));
	return traced ? 0 : -1;
}

static int end(void **unused)
{
	(void)unused;
	if (traced)
		tracer_end();
	close(writer);
	return traced ? -1 : 0;
}

/* The next record; -1 when there is none. */
static ssize_t take(struct trace_head *head, char *bytes, size_t cap)
{
	char record[sizeof(*head) + TRACE_BYTES];
	ssize_t n = recv(writer, record, sizeof(record), 0);

	if (n < 0)
		return -1;
	assert_true((size_t)n >= sizeof(*head));
	memcpy(head, record, sizeof(*head));
	n -= (ssize_t)sizeof(*head);
	memcpy(bytes, record + sizeof(*head), (size_t)n < cap ? (size_t)n : cap);
	return n;
}

static void assert_record(uint8_t side, bool continued, struct span expected)
{
	static char bytes[TRACE_BYTES];
	struct trace_head head;
	ssize_t n = take(&head, bytes, sizeof(bytes));

	assert_true(n >= 0);
	assert_int_equal(head.side, side);
	assert_int_equal(head.continued, continued);
	assert_int_equal(head.lost, 0);
	assert_true(span_eq((struct span){ bytes, (size_t)n }, expected));
}

static void assert_none(void)
{
	char byte;

	assert_int_equal(recv(writer, &byte, 1, MSG_PEEK), -1);
	assert_int_equal(errno, EAGAIN);
}

static void only_whole_lines_are_told(void **unused)
{
	(void)unused;
	tracer_server(SPAN("* 1 EXI"));
	assert_none();
	tracer_server(SPAN("STS\r\n* 2 RECENT\r\na O"));
	assert_record(TRACE_SERVER, false, SPAN("* 1 EXISTS\r\n* 2 RECENT\r\n"));
	assert_none();
	tracer_server(SPAN("K\r\n"));
	assert_record(TRACE_SERVER, false, SPAN("a OK\r\n"));
}

static void what_waits_is_told_at_rest_and_goes_on_behind_that(void **unused)
{
	(void)unused;
	tracer_server(SPAN("* 1 EXI"));
	tracer_rest();
	assert_record(TRACE_SERVER, false, SPAN("* 1 EXI"));
	tracer_server(SPAN("STS\r\n"));
	assert_record(TRACE_SERVER, true, SPAN("STS\r\n"));
}

static void what_the_proxy_answers_is_told_behind_the_line(void **unused)
{
	(void)unused;
	tracer_proxy(SPAN("a BAD\r\n"));
	assert_none();
	tracer_logout(SPAN("a COMPRESS\r\n"));
	tracer_flush(false);
	assert_record(TRACE_CLIENT, false, SPAN("a COMPRESS\r\n"));
	assert_record(TRACE_PROXY, false, SPAN("a BAD\r\n"));
	tracer_proxy(SPAN("b BAD\r\n"));
	tracer_server(SPAN("* 1 EXISTS\r\n"));
	assert_record(TRACE_PROXY, false, SPAN("b BAD\r\n"));
	assert_record(TRACE_SERVER, false, SPAN("* 1 EXISTS\r\n"));
}

static void a_line_that_is_too_long_is_cut(void **unused)
{
	(void)unused;
	tracer_server((struct span){ text, TRACE_BYTES + 50 });
	assert_record(TRACE_SERVER, false, (struct span){ text, TRACE_BYTES });
	tracer_server(SPAN("\r\n"));
	memcpy(text + 50, "\r\n", 2);
	assert_record(TRACE_SERVER, true, (struct span){ text, 52 });
}

static void what_is_left_is_told_at_the_end(void **unused)
{
	char byte;

	(void)unused;
	tracer_server(SPAN("* 1 EXI"));
	tracer_end();
	assert_false(traced);
	assert_record(TRACE_SERVER, false, SPAN("* 1 EXI"));
	assert_int_equal(recv(writer, &byte, 1, 0), 0);
}

static void a_writer_that_is_gone_ends_it(void **unused)
{
	(void)unused;
	assert_int_equal(shutdown(writer, SHUT_RD), 0);
	tracer_server(SPAN("a OK\r\n"));
	assert_false(traced);
}

/* So many records found no room; *ret_ms: how long that took. */
static unsigned fill(int64_t *ret_ms)
{
	int64_t start = clock_ms();

	memcpy(text + TRACE_BYTES - 1, "\n", 1);
	for (int i = 0; i < 200; i++)
		tracer_server((struct span){ text, TRACE_BYTES });
	*ret_ms = clock_ms() - start;
	return 200;
}

static void a_writer_that_is_slow_costs_records_and_little_time(void **unused)
{
	static char bytes[TRACE_BYTES];
	struct trace_head head;
	int64_t took;
	unsigned told = fill(&took), taken = 0;

	(void)unused;
	assert_true(took < 1000); /* 180 waits would be 18 s */
	while (take(&head, bytes, sizeof(bytes)) >= 0) {
		assert_int_equal(head.lost, 0);
		taken++;
	}
	assert_true(taken > 2 && taken < told);
	tracer_server(SPAN("a OK\r\n"));
	assert_int_equal(take(&head, bytes, sizeof(bytes)), 6);
	assert_int_equal(head.lost, told - taken);
}

static void what_was_lost_last_is_said_at_the_end(void **unused)
{
	static char bytes[TRACE_BYTES];
	struct trace_head head;
	int64_t took;
	unsigned told = fill(&took), taken = 0;

	(void)unused;
	while (taken < 3 && take(&head, bytes, sizeof(bytes)) >= 0)
		taken++;
	tracer_end();
	for (ssize_t n; (n = take(&head, bytes, sizeof(bytes))) > 0;)
		taken++;
	assert_int_equal(head.lost, told - taken);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(only_whole_lines_are_told, begin, end),
		cmocka_unit_test_setup_teardown(
			what_the_proxy_answers_is_told_behind_the_line, begin, end),
		cmocka_unit_test_setup_teardown(what_waits_is_told_at_rest_and_goes_on_behind_that,
						begin, end),
		cmocka_unit_test_setup_teardown(a_line_that_is_too_long_is_cut, begin, end),
		cmocka_unit_test_setup_teardown(what_is_left_is_told_at_the_end, begin, end),
		cmocka_unit_test_setup_teardown(a_writer_that_is_gone_ends_it, begin, end),
		cmocka_unit_test_setup_teardown(
			a_writer_that_is_slow_costs_records_and_little_time, begin, end),
		cmocka_unit_test_setup_teardown(what_was_lost_last_is_said_at_the_end, begin, end),
	};

	io_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
