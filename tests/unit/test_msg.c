/* The codec of the local messages and the sockets they travel on: every row of the table there and
 * back, and every way to break the rules refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/fd.h"
#include "lib/msgsock.h"

static char data[MSG_MAX];
static char texts[MSG_MAX];

/* --- every row --- */

/* Different values for each field: seed counts up. Texts are parts of `texts`. */
#define FILL_U32(N, name) m->N.name = 0x01020304u * ++seed;
#define FILL_U64(N, name) m->N.name = 0x0102030405060708u * ++seed;
#define FILL_TEXT(N, name, longest)                                                                \
	m->N.name = (struct span){texts + ++seed, full ? (longest) : seed % 8};
#define SAME_U32(N, name)	    assert_true(a->N.name == b->N.name);
#define SAME_U64(N, name)	    assert_true(a->N.name == b->N.name);
#define SAME_TEXT(N, name, longest) assert_true(span_eq(a->N.name, b->N.name));

#define ROW_FUNCTIONS(name, number, senders, descriptors, FIELDS)                                  \
	static void fill_##name(struct msg *m, bool full)                                          \
	{                                                                                          \
		unsigned seed = 0;                                                                 \
                                                                                                   \
		FIELDS(name, FILL_U32, FILL_U64, FILL_TEXT)                                        \
		(void)full;                                                                        \
		(void)seed;                                                                        \
	}                                                                                          \
	static void compare_##name(const struct msg *a, const struct msg *b)                       \
	{                                                                                          \
		FIELDS(name, SAME_U32, SAME_U64, SAME_TEXT)                                        \
	}
MSG_TABLE(ROW_FUNCTIONS)

static const struct {
	const char *name;
	enum msg_type type;
	unsigned senders;
	unsigned descriptors;
	void (*fill)(struct msg *, bool full);
	void (*compare)(const struct msg *, const struct msg *);
} rows[] = {
#define ROW(name, number, senders, descriptors, FIELDS)                                            \
	{#name, number, senders, descriptors, fill_##name, compare_##name},
	MSG_TABLE(ROW)};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

static const enum msg_role roles[] = {ROLE_BROKER, ROLE_SESSION, ROLE_LISTENER, ROLE_DOOR,
				      ROLE_LOOKUP, ROLE_ERRAND, ROLE_ADMIN, ROLE_TLS};

/* One of the row's senders. */
static enum msg_role sender_of(size_t row)
{
	for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++)
		if (rows[row].senders & roles[i])
			return roles[i];
	fail_msg("%s has no sender", rows[row].name);
	return 0;
}

static size_t encode_row(size_t row, struct msg *m, bool full)
{
	memset(m, 0, sizeof(*m));
	m->type = rows[row].type;
	m->serial = 4711;
	rows[row].fill(m, full);
	int length = msg_encode(m, data, sizeof(data));

	if (length < 8)
		fail_msg("%s: %d", rows[row].name, length);
	return (size_t)length;
}

static int decode_row(size_t row, size_t length, struct msg *m)
{
	return msg_decode((struct span){data, length}, sender_of(row), rows[row].descriptors, m);
}

static void assert_survives(bool full)
{
	for (size_t i = 0; i < ROWS; i++) {
		struct msg sent, received;
		size_t length = encode_row(i, &sent, full);

		assert_int_equal(decode_row(i, length, &received), 0);
		assert_int_equal(received.type, rows[i].type);
		assert_int_equal(received.serial, 4711);
		rows[i].compare(&sent, &received);
	}
}

static void every_message_survives_the_way(void **unused)
{
	(void)unused;
	assert_survives(false);
}

static void every_message_survives_with_its_longest_texts(void **unused)
{
	(void)unused;
	assert_survives(true);
}

static void rows_have_their_own_numbers_and_names(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < ROWS; i++) {
		assert_string_equal(msg_name(rows[i].type), rows[i].name);
		assert_int_equal(msg_descriptors(rows[i].type), rows[i].descriptors);
		assert_true(rows[i].type > 0 && rows[i].type < 256);
		for (size_t j = 0; j < i; j++)
			assert_true(rows[i].type != rows[j].type);
	}
	assert_string_equal(msg_name((enum msg_type)255), "?");
	assert_int_equal(msg_descriptors((enum msg_type)255), 0);
}

/* --- what is refused --- */

static void a_message_cut_anywhere_is_refused(void **unused)
{
	struct msg m;

	(void)unused;
	for (size_t i = 0; i < ROWS; i++) {
		size_t length = encode_row(i, &m, false);

		for (size_t cut = 0; cut < length; cut++)
			assert_int_equal(decode_row(i, cut, &m), -EBADMSG);
	}
}

static void trailing_bytes_are_refused(void **unused)
{
	struct msg m;

	(void)unused;
	for (size_t i = 0; i < ROWS; i++) {
		size_t length = encode_row(i, &m, false);

		data[length] = '\0';
		assert_int_equal(decode_row(i, length + 1, &m), -EBADMSG);
	}
}

static void another_version_is_refused(void **unused)
{
	struct msg m;
	size_t length = encode_row(0, &m, false);

	(void)unused;
	data[0] = MSG_VERSION + 1;
	assert_int_equal(decode_row(0, length, &m), -EPROTONOSUPPORT);
	data[0] = 0;
	assert_int_equal(decode_row(0, length, &m), -EPROTONOSUPPORT);
}

static void an_unknown_type_is_refused(void **unused)
{
	struct msg m;
	size_t length = encode_row(0, &m, false);

	(void)unused;
	data[1] = 0;
	assert_int_equal(decode_row(0, length, &m), -EBADMSG);
	data[1] = (char)255;
	assert_int_equal(decode_row(0, length, &m), -EBADMSG);
	m.type = (enum msg_type)255;
	assert_int_equal(msg_encode(&m, data, sizeof(data)), -EINVAL);
}

static void set_reserved_bytes_are_refused(void **unused)
{
	struct msg m;
	size_t length = encode_row(0, &m, false);

	(void)unused;
	data[2] = 1;
	assert_int_equal(decode_row(0, length, &m), -EBADMSG);
	data[2] = 0;
	data[3] = 1;
	assert_int_equal(decode_row(0, length, &m), -EBADMSG);
}

static void only_the_rows_senders_may_send_it(void **unused)
{
	struct msg m;

	(void)unused;
	for (size_t i = 0; i < ROWS; i++) {
		size_t length = encode_row(i, &m, false);

		for (size_t j = 0; j < sizeof(roles) / sizeof(roles[0]); j++) {
			int r = msg_decode((struct span){data, length}, roles[j],
					   rows[i].descriptors, &m);

			assert_int_equal(r, rows[i].senders & roles[j] ? 0 : -EPERM);
		}
	}
}

static void the_number_of_descriptors_is_exact(void **unused)
{
	struct msg m;

	(void)unused;
	for (size_t i = 0; i < ROWS; i++) {
		size_t length = encode_row(i, &m, false);

		for (unsigned n = 0; n < 4; n++) {
			int r = msg_decode((struct span){data, length}, sender_of(i), n, &m);

			assert_int_equal(r, n == rows[i].descriptors ? 0 : -EBADMSG);
		}
	}
}

static void too_long_texts_are_not_sent(void **unused)
{
	struct msg m = {.type = MSG_REFUSED};

	(void)unused;
	m.REFUSED.text = (struct span){texts, 200};
	assert_true(msg_encode(&m, data, sizeof(data)) > 200);
	m.REFUSED.text.n = 201;
	assert_int_equal(msg_encode(&m, data, sizeof(data)), -ENOBUFS);
	m.REFUSED.text.n = 65536 + 5;
	assert_int_equal(msg_encode(&m, data, sizeof(data)), -ENOBUFS);
	m.REFUSED.text.n = 10;
	assert_int_equal(msg_encode(&m, data, 20), -ENOBUFS);
}

static void too_long_texts_are_not_taken(void **unused)
{
	struct msg m = {.type = MSG_END};
	uint16_t claimed;
	int length;

	(void)unused;
	m.END.text = (struct span){texts, 200};
	length = msg_encode(&m, data, sizeof(data));
	/* header 8, reason 4, then the length of the text */
	claimed = 201;
	memcpy(data + 12, &claimed, sizeof(claimed));
	assert_int_equal(msg_decode((struct span){data, (size_t)length + 1}, ROLE_BROKER, 0, &m),
			 -EBADMSG);
	claimed = 0xffff;
	memcpy(data + 12, &claimed, sizeof(claimed));
	assert_int_equal(msg_decode((struct span){data, (size_t)length}, ROLE_BROKER, 0, &m),
			 -EBADMSG);
	claimed = 199;
	memcpy(data + 12, &claimed, sizeof(claimed));
	assert_int_equal(msg_decode((struct span){data, (size_t)length}, ROLE_BROKER, 0, &m),
			 -EBADMSG);
}

/* --- on sockets --- */

static int pair[2];
static int spare;

static int open_pair(void **unused)
{
	(void)unused;
	spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return spare < 0 ? -1 : msgsock_pair(pair);
}

static int close_pair(void **unused)
{
	(void)unused;
	fd_drop(&pair[0]);
	fd_drop(&pair[1]);
	fd_drop(&spare);
	return 0;
}

/* The lowest free descriptor: the same before and after when nothing leaks. */
static int lowest_free(void)
{
	int fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);

	close(fd);
	return fd;
}

static void send_raw(size_t length, int descriptors)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(8 * sizeof(int))];
	} control = {0};
	struct iovec iov = {data, length};
	struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};

	if (descriptors > 0) {
		header.msg_control = control.bytes;
		header.msg_controllen = CMSG_SPACE((size_t)descriptors * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&header);

		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN((size_t)descriptors * sizeof(int));
		for (int i = 0; i < descriptors; i++)
			memcpy(CMSG_DATA(c) + (size_t)i * sizeof(int), &spare, sizeof(int));
	}
	assert_int_equal(sendmsg(pair[0], &header, 0), length);
}

static void a_descriptor_travels_with_its_message(void **unused)
{
	struct msg sent = {.type = MSG_LEASED, .serial = 9}, received;
	struct stat a, b;
	int fd = -1;

	(void)unused;
	sent.LEASED.host = SPAN("mail.example");
	assert_int_equal(msgsock_send(pair[0], &sent, spare), 0);
	assert_int_equal(msgsock_receive(pair[1], ROLE_BROKER, data, &received, &fd), 0);
	assert_true(span_eq(received.LEASED.host, SPAN("mail.example")));
	assert_true(fd >= 0 && fd != spare);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(fstat(fd, &a), 0);
	assert_int_equal(fstat(spare, &b), 0);
	assert_true(a.st_ino == b.st_ino && a.st_rdev == b.st_rdev);
	close(fd);
}

static void unasked_descriptors_are_refused_and_closed(void **unused)
{
	struct msg m = {.type = MSG_OUTCOME};
	int before = lowest_free(), fd = -1;

	(void)unused;
	for (int n = 1; n <= 8; n++) {
		int length = msg_encode(&m, data, sizeof(data));

		send_raw((size_t)length, n);
		assert_int_equal(msgsock_receive(pair[1], ROLE_SESSION, data, &m, &fd), -EBADMSG);
		assert_int_equal(fd, -1);
		assert_int_equal(lowest_free(), before);
		m.type = MSG_OUTCOME;
	}
}

static void a_missing_or_second_descriptor_is_refused_and_closed(void **unused)
{
	struct msg m = {.type = MSG_GIVE};
	int before = lowest_free(), fd = -1;
	int length = msg_encode(&m, data, sizeof(data));

	(void)unused;
	send_raw((size_t)length, 0);
	assert_int_equal(msgsock_receive(pair[1], ROLE_SESSION, data, &m, &fd), -EBADMSG);
	send_raw((size_t)length, 2);
	assert_int_equal(msgsock_receive(pair[1], ROLE_SESSION, data, &m, &fd), -EBADMSG);
	send_raw((size_t)length, 3);
	assert_int_equal(msgsock_receive(pair[1], ROLE_SESSION, data, &m, &fd), -EBADMSG);
	assert_int_equal(fd, -1);
	assert_int_equal(lowest_free(), before);
}

static void a_datagram_longer_than_any_message_is_refused(void **unused)
{
	static char longer[MSG_MAX + 1];
	struct msg m;
	int fd = -1;

	(void)unused;
	assert_int_equal(send(pair[0], longer, sizeof(longer), 0), sizeof(longer));
	assert_int_equal(msgsock_receive(pair[1], ROLE_SESSION, data, &m, &fd), -EBADMSG);
}

static void nothing_there_and_the_end_are_told_apart(void **unused)
{
	struct msg m = {.type = MSG_WORKER};
	int fd = -1;

	(void)unused;
	assert_int_equal(msgsock_receive(pair[1], ROLE_LOOKUP, data, &m, &fd), -EAGAIN);
	fd_drop(&pair[0]);
	assert_int_equal(msgsock_receive(pair[1], ROLE_LOOKUP, data, &m, &fd), -ECONNRESET);
	m.type = MSG_WORKER;
	assert_int_equal(msgsock_send(pair[1], &m, -1), -EPIPE);
}

/* The kernel tells that what we said was left unread, and tells it first. */
static void the_last_words_of_a_peer_that_has_not_read_ours_are_heard(void **unused)
{
	struct msg m = {.type = MSG_WORKER};
	int fd = -1;

	(void)unused;
	assert_int_equal(msgsock_send(pair[1], &m, -1), 0);
	assert_int_equal(msgsock_send(pair[0], &m, -1), 0);
	fd_drop(&pair[0]);
	assert_int_equal(msgsock_receive(pair[1], ROLE_LOOKUP, data, &m, &fd), 0);
	assert_int_equal(m.type, MSG_WORKER);
	assert_int_equal(msgsock_receive(pair[1], ROLE_LOOKUP, data, &m, &fd), -ECONNRESET);
	assert_int_equal(msgsock_receive(pair[1], ROLE_LOOKUP, data, &m, &fd), -ECONNRESET);
}

static void a_peer_that_does_not_read_blocks_nobody(void **unused)
{
	struct msg m = {.type = MSG_WORKER};
	int r = 0;

	(void)unused;
	for (int i = 0; r == 0 && i < 100000; i++)
		r = msgsock_send(pair[0], &m, -1);
	assert_int_equal(r, -EAGAIN);
}

static void connecting_to_nobody_is_an_error(void **unused)
{
	static char longer[200];

	(void)unused;
	assert_int_equal(msgsock_connect("/nowhere/socket"), -ENOENT);
	memset(longer, 'x', sizeof(longer) - 1);
	assert_int_equal(msgsock_connect(longer), -ENAMETOOLONG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define SOCKET_TEST(f) cmocka_unit_test_setup_teardown(f, open_pair, close_pair)
		cmocka_unit_test(every_message_survives_the_way),
		cmocka_unit_test(every_message_survives_with_its_longest_texts),
		cmocka_unit_test(rows_have_their_own_numbers_and_names),
		cmocka_unit_test(a_message_cut_anywhere_is_refused),
		cmocka_unit_test(trailing_bytes_are_refused),
		cmocka_unit_test(another_version_is_refused),
		cmocka_unit_test(an_unknown_type_is_refused),
		cmocka_unit_test(set_reserved_bytes_are_refused),
		cmocka_unit_test(only_the_rows_senders_may_send_it),
		cmocka_unit_test(the_number_of_descriptors_is_exact),
		cmocka_unit_test(too_long_texts_are_not_sent),
		cmocka_unit_test(too_long_texts_are_not_taken),
		SOCKET_TEST(a_descriptor_travels_with_its_message),
		SOCKET_TEST(unasked_descriptors_are_refused_and_closed),
		SOCKET_TEST(a_missing_or_second_descriptor_is_refused_and_closed),
		SOCKET_TEST(a_datagram_longer_than_any_message_is_refused),
		SOCKET_TEST(nothing_there_and_the_end_are_told_apart),
		SOCKET_TEST(the_last_words_of_a_peer_that_has_not_read_ours_are_heard),
		SOCKET_TEST(a_peer_that_does_not_read_blocks_nobody),
		cmocka_unit_test(connecting_to_nobody_is_an_error),
	};

	for (size_t i = 0; i < sizeof(texts); i++)
		texts[i] = (char)(i * 7);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
