/* The protocol log's writer: order, jobs, who has left, and a file that cannot be written.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "cachebrokerd/protocol_log.h"
#include "lib/trace.h"

#define RECORDS 16
#define ROUNDS	20

static char folder[] = "/tmp/keepwarm-log-XXXXXX";
static char path[64];
static struct loop *loop;
static struct protocol_log *l;
static int results[4], failures;
static size_t result_count, expected; /* then the loop ends, for good */

static void on_failed(void *context, int error)
{
	(void)context;
	failures = error;
	if (expected == 0)
		loop_end(loop, 0);
}

static void on_done(void *context, int result)
{
	(void)context;
	assert_true(result_count < 4);
	results[result_count++] = result;
	if (result_count == expected)
		loop_end(loop, 0);
}

static int begin(void **unused)
{
	(void)unused;
	(void)memcpy(folder + sizeof(folder) - 7, "XXXXXX", 6);
	if (!mkdtemp(folder))
		return -1;
	(void)snprintf(path, sizeof(path), "%s/log", folder);
	failures = 0;
	return 0;
}

static int end(void **unused)
{
	(void)unused;
	(void)unlink(path);
	return rmdir(folder);
}

static void start(const char *file)
{
	result_count = expected = 0;
	assert_int_equal(loop_new(&loop), 0);
	l = protocol_log_new(loop, file, 0, on_failed, NULL);
	assert_non_null(l);
}

static void stop(void)
{
	protocol_log_free(l);
	loop_free(loop);
}

static void ask(enum protocol_job what)
{
	assert_int_equal(protocol_log_ask(l, what, SPAN("anna"), on_done, NULL), 0);
	expected++;
}

/* All that was asked is done, with this result. */
static void assert_done(int result)
{
	(void)loop_run(loop);
	assert_int_equal(result_count, expected);
	for (size_t i = 0; i < result_count; i++)
		assert_int_equal(results[i], result);
}

static int say(int sock, const char *text)
{
	char record[100];
	const struct trace_head head = { .side = TRACE_CLIENT };
	size_t n = strlen(text);

	memcpy(record, &head, sizeof(head));
	memcpy(record + sizeof(head), text, n);
	return send(sock, record, sizeof(head) + n, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static const char *content(void)
{
	static char text[100000];
	FILE *in = fopen(path, "re");

	assert_non_null(in);
	size_t n = fread(text, 1, sizeof(text) - 1, in);

	(void)fclose(in);
	text[n] = '\0';
	return text;
}

static void what_was_said_before_a_job_stands_before_it(void **unused)
{
	(void)unused;
	for (int round = 0; round < ROUNDS; round++) {
		int sock;

		(void)unlink(path);
		start(path);
		assert_int_equal(protocol_log_join(l, 7, SPAN("anna"), &sock), 0);
		for (int i = 0; i < RECORDS; i++)
			assert_int_equal(say(sock, i < RECORDS - 1 ? "a NOOP\r\n" : "last\r\n"), 0);
		ask(PROTOCOL_END);
		assert_done(0);
		close(sock);
		stop();
		const char *mark = strstr(content(), "tracing disabled");

		assert_non_null(mark);
		assert_null(strstr(mark, "CLIENT"));
		assert_non_null(strstr(content(), "\nlast\r\n"));
	}
}

static void what_was_said_before_the_end_is_written(void **unused)
{
	int sock;

	(void)unused;
	start(path);
	assert_int_equal(protocol_log_join(l, 7, SPAN("anna"), &sock), 0);
	assert_int_equal(say(sock, "a NOOP\r\n"), 0);
	stop();
	close(sock);
	assert_non_null(strstr(content(), "anna CLIENT: sd [7]\na NOOP\r\n"));
}

static void who_has_left_is_heard_to_his_last_word_and_says_no_more(void **unused)
{
	int one, two;

	(void)unused;
	start(path);
	assert_int_equal(protocol_log_join(l, 1, SPAN("anna"), &one), 0);
	assert_int_equal(protocol_log_join(l, 2, SPAN("bert"), &two), 0);
	assert_int_equal(say(one, "one\r\n"), 0);
	protocol_log_leave(l, 1);
	assert_int_equal(say(one, "no\r\n"), -EPIPE);
	assert_int_equal(say(two, "two\r\n"), 0);
	protocol_log_leave_user(l, SPAN("bert"));
	assert_true(say(two, "no\r\n") < 0);
	ask(PROTOCOL_END);
	assert_done(0);
	stop();
	close(one);
	close(two);
	assert_non_null(strstr(content(), "\none\r\n"));
	assert_non_null(strstr(content(), "\ntwo\r\n"));
	assert_null(strstr(content(), "\nno\r\n"));
}

/* The writer finds out that a session has gone a moment after it has. */
static int join_soon(int *ret_sock)
{
	int r = -EBUSY;

	for (int i = 0; i < 1000 && r == -EBUSY; i++) {
		r = protocol_log_join(l, 1, SPAN("anna"), ret_sock);
		if (r == -EBUSY)
			usleep(5000);
	}
	return r;
}

static void there_are_so_many_places_and_they_are_used_again(void **unused)
{
	int socks[PROTOCOL_SOURCES], one_more;

	(void)unused;
	start(path);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < PROTOCOL_SOURCES; i++)
			assert_int_equal(join_soon(&socks[i]), 0);
		assert_int_equal(protocol_log_join(l, 1, SPAN("anna"), &one_more), -EBUSY);
		for (int i = 0; i < PROTOCOL_SOURCES; i++)
			close(socks[i]);
	}
	stop();
}

static void a_file_that_cannot_be_written_ends_it_for_all(void **unused)
{
	int sock;

	(void)unused;
	start("/nonexistent/log");
	assert_int_equal(protocol_log_join(l, 1, SPAN("anna"), &sock), 0);
	assert_int_equal(say(sock, "a NOOP\r\n"), 0);
	(void)loop_run(loop);
	assert_int_equal(failures, -ENOENT);
	assert_true(say(sock, "b NOOP\r\n") < 0);
	close(sock);
	stop();
	start("/nonexistent/log");
	ask(PROTOCOL_BEGIN);
	ask(PROTOCOL_CLEAR);
	assert_done(-ENOENT);
	stop();
}

static void one_that_nobody_needed_has_made_nothing(void **unused)
{
	(void)unused;
	start(path);
	protocol_log_leave(l, 1);
	stop();
	assert_int_equal(access(path, F_OK), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_was_said_before_a_job_stands_before_it, begin,
						end),
		cmocka_unit_test_setup_teardown(what_was_said_before_the_end_is_written, begin,
						end),
		cmocka_unit_test_setup_teardown(
			who_has_left_is_heard_to_his_last_word_and_says_no_more, begin, end),
		cmocka_unit_test_setup_teardown(there_are_so_many_places_and_they_are_used_again,
						begin, end),
		cmocka_unit_test_setup_teardown(a_file_that_cannot_be_written_ends_it_for_all,
						begin, end),
		cmocka_unit_test_setup_teardown(one_that_nobody_needed_has_made_nothing, begin,
						end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
