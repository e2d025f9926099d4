/* tlsrelayd's pure parts: names, the choice of a worker, the dialogue before TLS, tickets; and the
 * archive of root's files. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/bundle.h"
#include "tlsrelayd/link.h"
#include "tlsrelayd/names.h"
#include "tlsrelayd/pool.h"
#include "tlsrelayd/starttls.h"
#include "tlsrelayd/tickets.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* --- names --- */

static void names_are_found_whole_before_by_wildcard(void **state)
{
	static const struct {
		const char *name;
		size_t which;
	} rows[] = {
		{ "mail.example.org", 1 }, { "MAIL.Example.ORG", 1 }, { "mail.example.org.", 1 },
		{ "pop.example.org", 2 },  { "a.b.example.org", 0 },  { "example.org", 0 },
		{ ".example.org", 0 },	   { "*.example.org", 0 },    { "", 0 },
		{ ".", 0 },		   { "org", 0 },	      { "b.example.net", 3 },
		{ "c d.example.org", 0 },  { "\xff.example.org", 0 },
	};
	struct names *n = names_new();

	(void)state;
	assert_int_equal(names_add(n, SPAN("mail.example.org"), 1), 0);
	assert_int_equal(names_add(n, SPAN("*.Example.org"), 2), 0);
	assert_int_equal(names_add(n, SPAN("*.example.net"), 3), 0);
	assert_int_equal(names_add(n, SPAN("mail.example.org"), 3), 0);
	assert_int_equal(names_add(n, SPAN(""), 3), 0);
	for (size_t i = 0; i < COUNT(rows); i++)
		assert_int_equal(names_find(n, span_str(rows[i].name)), rows[i].which);
	names_free(n);
}

static void a_name_that_is_too_long_is_nobodys(void **state)
{
	struct names *n = names_new();
	char name[400];

	(void)state;
	memset(name, 'a', sizeof(name));
	assert_int_equal(names_add(n, (struct span){ name, sizeof(name) }, 1), 0);
	assert_int_equal(names_find(n, (struct span){ name, sizeof(name) }), 0);
	assert_int_equal(names_add(n, (struct span){ name, 255 }, 1), 0);
	assert_int_equal(names_find(n, (struct span){ name, 255 }), 1);
	names_free(n);
}

/* --- the choice of a worker --- */

static void connections_spread_before_they_fill(void **state)
{
	struct pool_row rows[4] = { { 0 } };

	(void)state;
	assert_int_equal(pool_choose(rows, 0, 3, 2, true), POOL_NEW);
	assert_int_equal(pool_choose(rows, 0, 3, 2, false), POOL_FULL);
	rows[0] = (struct pool_row){ true, 0 };
	assert_int_equal(pool_choose(rows, 1, 3, 2, true), 0);
	rows[0].connections = 1;
	assert_int_equal(pool_choose(rows, 1, 3, 2, true), POOL_NEW);
	assert_int_equal(pool_choose(rows, 1, 3, 2, false), 0);
	rows[1] = (struct pool_row){ true, 2 };
	assert_int_equal(pool_choose(rows, 2, 3, 2, true), 0);
	rows[0].connections = rows[1].connections = 3;
	assert_int_equal(pool_choose(rows, 2, 3, 2, true), POOL_NEW);
	assert_int_equal(pool_choose(rows, 2, 3, 2, false), POOL_FULL);
	rows[2] = (struct pool_row){ false, 0 };
	assert_int_equal(pool_choose(rows, 3, 3, 2, false), POOL_FULL);
}

static void the_last_worker_is_never_surplus(void **state)
{
	struct pool_row rows[3] = { { true, 0 }, { false, 0 }, { false, 0 } };

	(void)state;
	assert_false(pool_is_surplus(rows, 3, 0));
	rows[1].takes = true;
	rows[1].connections = 1;
	assert_true(pool_is_surplus(rows, 3, 0));
	assert_false(pool_is_surplus(rows, 3, 1));
	assert_false(pool_is_surplus(rows, 3, 2));
}

/* --- the dialogue before TLS --- */

static enum starttls_verdict say(struct starttls *s, const char *text)
{
	return starttls_take(s, span_str(text));
}

static void starttls_begins_exactly_behind_the_ok(void **state)
{
	struct starttls s = { 0 };

	(void)state;
	assert_int_equal(say(&s, "* OK [CAPABI"), STARTTLS_MORE);
	assert_int_equal(say(&s, "LITY STARTTLS] hello\r"), STARTTLS_MORE);
	assert_int_equal(say(&s, "\n"), STARTTLS_ASK);
	assert_int_equal(say(&s, "* CAPABILITY IMAP4rev1\r\n* NO careful\r\n"), STARTTLS_MORE);
	assert_int_equal(say(&s, "s1 ok Begin\r\n"), STARTTLS_BEGIN);
}

static void what_is_not_exactly_that_ends_it(void **state)
{
	static const struct {
		const char *greeting, *answer;
		enum starttls_verdict verdict;
	} rows[] = {
		{ "* PREAUTH x\r\n", NULL, STARTTLS_PREAUTH },
		{ "* BYE x\r\n", NULL, STARTTLS_REFUSED },
		{ "* OKAY x\r\n", NULL, STARTTLS_NONSENSE },
		{ "\r\n", NULL, STARTTLS_NONSENSE },
		{ "HTTP/1.1 400 Bad Request\r\n", NULL, STARTTLS_NONSENSE },
		{ "* OK x\r\n* OK y\r\n", NULL, STARTTLS_INJECTED },
		{ "* OK x\r\ns", NULL, STARTTLS_INJECTED },
		{ "* OK x\r\n", "s1 OK\r\n.", STARTTLS_INJECTED },
		{ "* OK x\r\n", "s1 OK x\r\n* OK\r\n", STARTTLS_INJECTED },
		{ "* OK x\r\n", "s1 OKAY\r\n", STARTTLS_NONSENSE },
		{ "* OK x\r\n", "s2 OK\r\n", STARTTLS_NONSENSE },
		{ "* OK x\r\n", "s1 NO\r\n", STARTTLS_REFUSED },
		{ "* OK x\r\n", "s1 BAD x\r\n", STARTTLS_REFUSED },
		{ "* OK x\r\n", "* BYE x\r\n", STARTTLS_REFUSED },
		{ "* OK x\r\n", "+ go on\r\n", STARTTLS_NONSENSE },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct starttls s = { 0 };
		enum starttls_verdict verdict = say(&s, rows[i].greeting);

		if (rows[i].answer) {
			assert_int_equal(verdict, STARTTLS_ASK);
			verdict = say(&s, rows[i].answer);
		}
		assert_int_equal(verdict, rows[i].verdict);
	}
}

static void pop3_has_a_dialogue_of_its_own(void **state)
{
	static const struct {
		const char *greeting, *answer;
		enum starttls_verdict verdict;
	} rows[] = {
		{ "+OK ready <1@x>\r\n", "+OK Begin\r\n", STARTTLS_BEGIN },
		{ "+ok\n", "+OK\r\n", STARTTLS_BEGIN },
		{ "+OK x\r\n", "-ERR no TLS\r\n", STARTTLS_REFUSED },
		{ "+OK x\r\n", "+OK\r\n+", STARTTLS_INJECTED },
		{ "+OK x\r\n", "+OKAY\r\n", STARTTLS_NONSENSE },
		{ "+OK x\r\n", "s1 OK\r\n", STARTTLS_NONSENSE },
		{ "+OK x\r\n", "* OK\r\n", STARTTLS_NONSENSE },
		{ "+OK x\r\n", "+ go on\r\n", STARTTLS_NONSENSE },
		{ "+OK x\r\n+OK y\r\n", NULL, STARTTLS_INJECTED },
		{ "-ERR [SYS/TEMP] x\r\n", NULL, STARTTLS_REFUSED },
		{ "* OK IMAP4rev1\r\n", NULL, STARTTLS_NONSENSE },
		{ "\r\n", NULL, STARTTLS_NONSENSE },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct starttls s = { .pop3 = true };
		enum starttls_verdict verdict = say(&s, rows[i].greeting);

		if (rows[i].answer) {
			assert_int_equal(verdict, STARTTLS_ASK);
			assert_true(span_eq(starttls_command(&s), SPAN("STLS\r\n")));
			verdict = say(&s, rows[i].answer);
		}
		assert_int_equal(verdict, rows[i].verdict);
	}
}

static void the_dialogue_is_bounded(void **state)
{
	struct starttls s = { 0 };
	char line[STARTTLS_LINE_MAX + 1];

	(void)state;
	memset(line, 'x', sizeof(line));
	assert_int_equal(starttls_take(&s, (struct span){ line, sizeof(line) - 1 }), STARTTLS_MORE);
	assert_int_equal(say(&s, "x"), STARTTLS_NONSENSE);
	s = (struct starttls){ 0 };
	assert_int_equal(say(&s, "* OK\r\n"), STARTTLS_ASK);
	for (int i = 0; i < STARTTLS_LINES_MAX; i++)
		assert_int_equal(say(&s, "* OK still here\r\n"), STARTTLS_MORE);
	assert_int_equal(say(&s, "* OK still here\r\n"), STARTTLS_NONSENSE);
}

/* --- tickets --- */

static size_t take(struct tickets *t, const char *host, uint32_t port, uint64_t generation,
		   char *ret)
{
	char ticket[TICKET_MAX];
	size_t n = tickets_take(t, host, port, generation, ticket);

	*ret = n > 0 ? ticket[0] : '\0';
	return n;
}

static void a_ticket_is_used_once_and_where_it_was_made(void **state)
{
	struct tickets *t = tickets_new();
	char c;

	(void)state;
	tickets_put(t, "a", 993, 1, SPAN("1"));
	assert_int_equal(take(t, "b", 993, 1, &c), 0);
	assert_int_equal(take(t, "a", 143, 1, &c), 0);
	assert_int_equal(take(t, "a", 993, 2, &c), 0);
	assert_int_equal(take(t, "a", 993, 1, &c), 1);
	assert_int_equal(c, '1');
	assert_int_equal(take(t, "a", 993, 1, &c), 0);
	tickets_free(t);
}

static void the_newest_ticket_comes_first_and_the_oldest_goes(void **state)
{
	struct tickets *t = tickets_new();
	char c;

	(void)state;
	for (char i = 'a'; i <= 'z'; i++)
		tickets_put(t, "a", 993, 1, (struct span){ &i, 1 });
	for (char i = 'z'; i > 'z' - TICKETS_PER_HOST; i--) {
		assert_int_equal(take(t, "a", 993, 1, &c), 1);
		assert_int_equal(c, i);
	}
	assert_int_equal(take(t, "a", 993, 1, &c), 0);
	tickets_free(t);
}

static void the_host_used_least_recently_makes_room(void **state)
{
	struct tickets *t = tickets_new();
	char name[32], c;

	(void)state;
	for (int i = 0; i < TICKETS_HOSTS; i++) {
		(void)snprintf(name, sizeof(name), "host%d", i);
		tickets_put(t, name, 993, 1, SPAN("x"));
	}
	tickets_put(t, "host0", 993, 1, SPAN("y"));
	tickets_put(t, "one more", 993, 1, SPAN("z"));
	assert_int_equal(take(t, "host1", 993, 1, &c), 0);
	assert_int_equal(take(t, "host0", 993, 1, &c), 1);
	assert_int_equal(c, 'y');
	assert_int_equal(take(t, "one more", 993, 1, &c), 1);
	tickets_free(t);
}

static void a_ticket_that_is_too_large_is_not_kept(void **state)
{
	struct tickets *t = tickets_new();
	char bytes[TICKET_MAX + 1] = { 'x' }, c;

	(void)state;
	tickets_put(t, "a", 993, 1, (struct span){ bytes, sizeof(bytes) });
	assert_int_equal(take(t, "a", 993, 1, &c), 0);
	tickets_put(t, "a", 993, 1, (struct span){ bytes, TICKET_MAX });
	assert_int_equal(take(t, "a", 993, 1, &c), TICKET_MAX);
	tickets_free(t);
}

/* --- the archive --- */

static void add_entry(int fd, const char *path, const char *data)
{
	const uint32_t lengths[2] = { (uint32_t)strlen(path), (uint32_t)strlen(data) };

	assert_int_equal(write(fd, lengths, sizeof(lengths)), sizeof(lengths));
	assert_int_equal(write(fd, path, lengths[0]), lengths[0]);
	assert_int_equal(write(fd, data, lengths[1]), lengths[1]);
}

static void assert_found(int fd, const char *path, const char *wanted)
{
	char *data = NULL;
	size_t length = 0;

	assert_int_equal(bundle_find(fd, path, &data, &length), 0);
	assert_string_equal(data, wanted);
	assert_int_equal(length, strlen(wanted));
	bundle_wipe(data, length);
}

static void the_archive_is_read_from_its_start_each_time(void **state)
{
	int fd = memfd_create("archive", MFD_CLOEXEC);
	size_t length;
	char *data;

	(void)state;
	add_entry(fd, "/etc/a.pem", "first");
	add_entry(fd, "/etc/empty", "");
	add_entry(fd, "/etc/b.pem", "second");
	assert_found(fd, "/etc/b.pem", "second");
	assert_found(fd, "/etc/a.pem", "first");
	assert_found(fd, "/etc/empty", "");
	assert_int_equal(bundle_find(fd, "/etc/c.pem", &data, &length), -ENOENT);
	assert_int_equal(bundle_find(fd, "/etc/a", &data, &length), -ENOENT);
	assert_int_equal(bundle_find(-1, "/etc/a.pem", &data, &length), -ENOENT);
	close(fd);
}

static void a_damaged_archive_is_refused(void **state)
{
	static const uint32_t rows[][2] = {
		{ 10, BUNDLE_DATA_MAX + 1 }, { 5000, 1 }, { 10, 100 }, { UINT32_MAX, UINT32_MAX },
	};
	size_t length;
	char *data;

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		int fd = memfd_create("archive", MFD_CLOEXEC);

		assert_int_equal(write(fd, rows[i], 8), 8);
		assert_int_equal(write(fd, "/etc/a.pem", 10), 10);
		assert_int_equal(bundle_find(fd, "/etc/a.pem", &data, &length), -EBADMSG);
		close(fd);
	}
	int fd = memfd_create("archive", MFD_CLOEXEC);

	assert_int_equal(write(fd, "12345", 5), 5);
	assert_int_equal(bundle_find(fd, "/etc/a.pem", &data, &length), -EBADMSG);
	close(fd);
}

static void only_ordinary_files_are_read(void **state)
{
	size_t length;
	char *data;

	(void)state;
	assert_int_equal(bundle_read_file("/", &data, &length), -EISDIR);
	assert_int_equal(bundle_read_file("/dev/zero", &data, &length), -EINVAL);
	assert_int_equal(bundle_read_file("/no/such", &data, &length), -ENOENT);
}

/* The kernel tells that what we said was left unread, and tells it first. A job that stays unread
 * is a client that nobody serves. */
static void what_the_other_side_said_before_it_died_is_heard(void **unused)
{
	static struct link_job job;
	static struct link_report report;
	int links[2], fds[2], pair[2];

	(void)unused;
	for (int master = 0; master < 2; master++) {
		job = (struct link_job){.kind = LINK_ACCEPT};
		report = (struct link_report){.word = LINK_READY,
					      .failure.reason = TLS_UNAVAILABLE};
		assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, links), 0);
		assert_int_equal(pipe(pair), 0);
		assert_int_equal(link_send_job(links[0], &job, pair), 0);
		assert_int_equal(link_send_report(links[1], &report), 0);
		close(links[1 - master]);
		if (master) {
			assert_int_equal(link_receive_job(links[1], &job, fds), 0);
			close(fds[0]);
			close(fds[1]);
			assert_int_equal(link_receive_job(links[1], &job, fds), -ECONNRESET);
		} else {
			assert_int_equal(link_receive_report(links[0], &report), 0);
			assert_int_equal(link_receive_report(links[0], &report), -ECONNRESET);
		}
		close(links[master]);
		close(pair[0]);
		close(pair[1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_found_whole_before_by_wildcard),
		cmocka_unit_test(a_name_that_is_too_long_is_nobodys),
		cmocka_unit_test(connections_spread_before_they_fill),
		cmocka_unit_test(the_last_worker_is_never_surplus),
		cmocka_unit_test(starttls_begins_exactly_behind_the_ok),
		cmocka_unit_test(pop3_has_a_dialogue_of_its_own),
		cmocka_unit_test(what_is_not_exactly_that_ends_it),
		cmocka_unit_test(the_dialogue_is_bounded),
		cmocka_unit_test(a_ticket_is_used_once_and_where_it_was_made),
		cmocka_unit_test(the_newest_ticket_comes_first_and_the_oldest_goes),
		cmocka_unit_test(the_host_used_least_recently_makes_room),
		cmocka_unit_test(a_ticket_that_is_too_large_is_not_kept),
		cmocka_unit_test(the_archive_is_read_from_its_start_each_time),
		cmocka_unit_test(a_damaged_archive_is_refused),
		cmocka_unit_test(only_ordinary_files_are_read),
		cmocka_unit_test(what_the_other_side_said_before_it_died_is_heard),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
