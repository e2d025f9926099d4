/* The supervisor's ear: what a notification means, who sent it, which descriptors are kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "imapproxyd/fdstore.h"
#include "imapproxyd/notify.h"
#include "imapproxyd/wrappers.h"

static int new_fd(void)
{
	return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static void ready_is_understood_among_other_lines(void **state)
{
	struct notify_message m;

	(void)state;
	assert_int_equal(notify_parse(SPAN("STATUS=fine\nREADY=1\nMAINPID=1\n"), &m), 0);
	assert_true(m.ready);
	assert_false(m.stopping || m.store || m.remove);
}

static void lines_that_only_look_like_ready_are_not(void **state)
{
	struct notify_message m;

	(void)state;
	assert_int_equal(notify_parse(SPAN("READY=11\nXREADY=1\nREADY=\nready=1"), &m), 0);
	assert_false(m.ready);
	assert_int_equal(notify_parse(SPAN_NONE, &m), 0);
	assert_false(m.ready);
}

static void a_stored_descriptor_has_its_name_or_the_usual_one(void **state)
{
	struct notify_message m;

	(void)state;
	assert_int_equal(notify_parse(SPAN("FDSTORE=1\nFDNAME=door-7\nFDPOLL=0"), &m), 0);
	assert_true(m.store);
	assert_true(span_eq(m.name, SPAN("door-7")));
	assert_int_equal(notify_parse(SPAN("FDSTORE=1"), &m), 0);
	assert_true(span_eq(m.name, SPAN("stored")));
	assert_int_equal(notify_parse(SPAN("FDSTOREREMOVE=1\nFDNAME=door-7"), &m), 0);
	assert_true(m.remove);
}

static void names_that_would_break_the_list_are_refused(void **state)
{
	struct notify_message m;

	(void)state;
	assert_int_equal(notify_parse(SPAN("FDSTORE=1\nFDNAME=a:b"), &m), -EBADMSG);
	assert_int_equal(notify_parse(SPAN("FDSTORE=1\nFDNAME="), &m), -EBADMSG);
	assert_int_equal(notify_parse(SPAN("FDSTORE=1\nFDNAME=a b"), &m), -EBADMSG);
	assert_int_equal(notify_parse(SPAN("FDSTORE=1\nFDNAME=\001"), &m), -EBADMSG);
	assert_int_equal(
		notify_parse(SPAN("FDSTORE=1\nFDNAME=x23456789012345678901234567890123456789012345678"), &m),
		-EBADMSG);
	assert_int_equal(notify_parse(SPAN("FDSTORE=1\nFDSTOREREMOVE=1\nFDNAME=a"), &m), -EBADMSG);
}

static void the_store_keeps_order_and_removes_by_name(void **state)
{
	struct fdstore s = { 0 };
	int a = new_fd(), b = new_fd(), c = new_fd();

	(void)state;
	assert_int_equal(fdstore_add(&s, SPAN("one"), a), 0);
	assert_int_equal(fdstore_add(&s, SPAN("two"), b), 0);
	assert_int_equal(fdstore_add(&s, SPAN("one"), c), 0);
	assert_int_equal(fdstore_remove(&s, SPAN("none")), 0);
	assert_int_equal(fdstore_remove(&s, SPAN("one")), 2);
	assert_int_equal(s.count, 1);
	assert_string_equal(s.fds[0].name, "two");
	assert_false(is_open(a) || is_open(c));
	assert_true(is_open(b));
	fdstore_wipe(&s);
	assert_false(is_open(b));
}

static void a_full_store_leaves_the_descriptor_with_the_caller(void **state)
{
	struct fdstore s = { 0 };

	(void)state;
	for (int i = 0; i < FDSTORE_MAX; i++)
		assert_int_equal(fdstore_add(&s, SPAN("x"), new_fd()), 0);
	int more = new_fd();

	assert_int_equal(fdstore_add(&s, SPAN("x"), more), -ENOSPC);
	assert_true(is_open(more));
	close(more);
	fdstore_wipe(&s);
}

static void send_with(int sock, const char *text, const int *fds, size_t count)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(100 * sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (char *)(uintptr_t)text, strlen(text) };
	struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (count > 0) {
		header.msg_control = control.bytes;
		header.msg_controllen = CMSG_SPACE(count * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&header);

		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(c), fds, count * sizeof(int));
	}
	assert_int_equal(sendmsg(sock, &header, 0), strlen(text));
}

static void make_pair(int pair[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(notify_prepare(pair[0]), 0);
}

static void the_kernel_names_the_sender(void **state)
{
	char text[NOTIFY_MAX];
	struct notify_datagram d;
	int pair[2], fd = new_fd();

	(void)state;
	make_pair(pair);
	send_with(pair[1], "FDSTORE=1", &fd, 1);
	assert_int_equal(notify_receive(pair[0], text, &d), 0);
	assert_int_equal(d.sender, getpid());
	assert_int_equal(d.count, 1);
	assert_true(fcntl(d.fds[0], F_GETFD) & FD_CLOEXEC);
	assert_true(span_eq(d.text, SPAN("FDSTORE=1")));
	assert_int_equal(notify_receive(pair[0], text, &d), -EAGAIN);
	close(d.fds[0]);
	close(fd);
	close(pair[0]);
	close(pair[1]);
}

static void more_descriptors_than_fit_are_all_closed(void **state)
{
	char text[NOTIFY_MAX];
	struct notify_datagram d;
	int pair[2], fds[100], before, after;

	(void)state;
	make_pair(pair);
	for (size_t i = 0; i < 100; i++)
		fds[i] = pair[1];
	before = new_fd();
	send_with(pair[1], "FDSTORE=1", fds, 100);
	assert_int_equal(notify_receive(pair[0], text, &d), -EBADMSG);
	after = new_fd();
	assert_int_equal(after, before + 1);
	close(before);
	close(after);
	close(pair[0]);
	close(pair[1]);
}

static void a_datagram_that_is_too_long_is_refused(void **state)
{
	static char big[NOTIFY_MAX + 2];
	char text[NOTIFY_MAX];
	struct notify_datagram d;
	int pair[2];

	(void)state;
	memset(big, 'x', NOTIFY_MAX + 1);
	make_pair(pair);
	send_with(pair[1], big, NULL, 0);
	assert_int_equal(notify_receive(pair[0], text, &d), -EBADMSG);
	close(pair[0]);
	close(pair[1]);
}

static void rules_of_tcp_wrappers_are_found(void **state)
{
	(void)state;
	assert_null(wrappers_find(SPAN("# ALL: ALL\n\nsshd: ALL\nwall: 1.2.3.4\n")));
	assert_null(wrappers_find(SPAN("ALL without a colon")));
	assert_string_equal(wrappers_find(SPAN("sshd, imapproxyd : .example.org")), "imapproxyd");
	assert_string_equal(wrappers_find(SPAN("#x\nsshd in.imapproxyd@10.0.0.1: ALL")),
			    "in.imapproxyd");
	assert_string_equal(wrappers_find(SPAN("all: PARANOID")), "ALL");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(ready_is_understood_among_other_lines),
		cmocka_unit_test(lines_that_only_look_like_ready_are_not),
		cmocka_unit_test(a_stored_descriptor_has_its_name_or_the_usual_one),
		cmocka_unit_test(names_that_would_break_the_list_are_refused),
		cmocka_unit_test(the_store_keeps_order_and_removes_by_name),
		cmocka_unit_test(a_full_store_leaves_the_descriptor_with_the_caller),
		cmocka_unit_test(the_kernel_names_the_sender),
		cmocka_unit_test(more_descriptors_than_fit_are_all_closed),
		cmocka_unit_test(a_datagram_that_is_too_long_is_refused),
		cmocka_unit_test(rules_of_tcp_wrappers_are_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
