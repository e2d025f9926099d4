/* PROXY headers: what is one, what it says, and that no byte behind it is its. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "proxyd/proxy_header.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define TCP4 "\x21\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x12\x67\x00\x8f"

struct row {
	struct span bytes;
	bool own;
	const char *client;
	uint32_t client_port;
	const char *local;
	uint32_t local_port;
};

#define V6 "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0"
#define MAPPED "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\x00\x02"

static const struct row good[] = {
	{ SPAN("PROXY TCP4 192.0.2.1 192.0.2.2 4711 143\r\n"), false, "192.0.2.1", 4711,
	  "192.0.2.2", 143 },
	{ SPAN("PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n"), false, "0.0.0.0", 0,
	  "255.255.255.255", 65535 },
	{ SPAN("PROXY TCP6 2001:DB8::1 ::1 65535 993\r\n"), false, "2001:db8::1", 65535, "::1",
	  993 },
	{ SPAN("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
	       "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
	  false, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535,
	  "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535 },
	{ SPAN("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 2\r\n"), false, "192.0.2.1", 1,
	  "192.0.2.2", 2 },
	{ SPAN("PROXY UNKNOWN\r\n"), true, "", 0, "", 0 },
	{ SPAN("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
	       "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
	  true, "", 0, "", 0 },
	{ SPAN(SIGNATURE TCP4), false, "192.0.2.1", 4711, "192.0.2.2", 143 },
	{ SPAN(SIGNATURE "\x21\x11\x00\x10\xc0\x00\x02\x01\xc0\x00\x02\x02\x12\x67\x00\x8f\x04\x00"
			 "\x01\x00"),
	  false, "192.0.2.1", 4711, "192.0.2.2", 143 },
	{ SPAN(SIGNATURE "\x21\x21\x00\x24" V6 "\x01" V6 "\x02\x12\x67\x03\xe1"), false,
	  "2001:db8::1", 4711, "2001:db8::2", 993 },
	{ SPAN(SIGNATURE "\x21\x21\x00\x24" MAPPED "\x01" MAPPED "\x02\x12\x67\x03\xe1"), false,
	  "192.0.2.1", 4711, "192.0.2.2", 993 },
	{ SPAN(SIGNATURE "\x20\x00\x00\x00"), true, "", 0, "", 0 },
	{ SPAN(SIGNATURE "\x20\x99\x00\x02\x01\x02"), true, "", 0, "", 0 }, /* LOCAL: ignored */
	{ SPAN(SIGNATURE "\x21\x00\x00\x03\x04\x00\x00"), true, "", 0, "", 0 },
};

static void headers_are_read(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		struct proxy_header h;

		if (proxy_header_read(good[i].bytes, &h) != (int)good[i].bytes.n)
			fail_msg("row %zu is not read", i);
		assert_int_equal(h.own, good[i].own);
		assert_string_equal(h.client, good[i].client);
		assert_string_equal(h.local, good[i].local);
		assert_int_equal(h.client_port, good[i].client_port);
		assert_int_equal(h.local_port, good[i].local_port);
	}
}

/* Each beginning wants more, and what stands behind is not the header's. */
static void every_byte_of_a_header_is_its_own_and_no_other(void **state)
{
	char bytes[300];

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		struct span whole = good[i].bytes;
		struct proxy_header h;

		for (size_t n = 0; n < whole.n; n++)
			if (proxy_header_read((struct span){ whole.p, n }, &h) != 0)
				fail_msg("row %zu ends after %zu bytes", i, n);
		memcpy(bytes, whole.p, whole.n);
		memcpy(bytes + whole.n, "\x16\x03\x01\r\nPROXY \r\n", 13);
		assert_int_equal(proxy_header_read((struct span){ bytes, whole.n + 13 }, &h),
				 (int)whole.n);
	}
}

static void a_unix_socket_is_its_own(void **state)
{
	char bytes[16 + 216] = SIGNATURE "\x21\x31\x00\xd8/run/client";
	struct proxy_header h;

	(void)state;
	assert_int_equal(proxy_header_read((struct span){ bytes, sizeof(bytes) }, &h),
			 (int)sizeof(bytes));
	assert_true(h.own);
	assert_int_equal(proxy_header_read((struct span){ bytes, sizeof(bytes) - 1 }, &h), 0);
}

static void what_is_no_header_is_refused(void **state)
{
	static const struct span bad[] = {
		SPAN("a001 LOGIN anna secret\r\n"),
		SPAN("P "),
		SPAN("\x16\x03\x01\x02"),
		SPAN("proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n"),
		SPAN("PROXY \r\n"),
		SPAN("PROXY\r\n"),
		SPAN("PROXY TCP4\r\n"),
		SPAN("PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n"),
		SPAN("PROXY UNKNOWNS\r\n"),
		SPAN("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n"),
		SPAN("PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n"),
		SPAN("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n"),
		SPAN("PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n"),
		SPAN("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n"),
		SPAN("PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n"),
		SPAN("PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n"),
		SPAN("PROXY TCP4 192.0.2.1 192.0.2.2 000001 2\r\n"),
		SPAN("PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n"),
		SPAN("PROXY TCP4 192.0.2.1\0 192.0.2.2 1 2\r\n"),
		SPAN("PROXY TCP4 2001:db8::1 ::1 1 2\r\n"),
		SPAN("PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n"),
		SPAN("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ::1 1 2\r\n"),
		SPAN("PROXY TCP4 mail.example.org 192.0.2.2 1 2\r\n"),
		SPAN("\r\n\r\n\0\r\nQUIT\r"),
		SPAN(SIGNATURE "\x11"),				  /* version 1 */
		SPAN(SIGNATURE "\x22"),				  /* a command that is none */
		SPAN(SIGNATURE "\x21\x12\x00\x0c"),		  /* datagrams */
		SPAN(SIGNATURE "\x21\x10\x00\x0c"),
		SPAN(SIGNATURE "\x21\x41\x00\x0c"),
		SPAN(SIGNATURE "\x21\x11\x00\x0b"),		  /* too short for its addresses */
		SPAN(SIGNATURE "\x21\x21\x00\x23"),
		SPAN(SIGNATURE "\x21\x31\x00\xd7"),
		SPAN(SIGNATURE "\x20\x00\x07\xf1"),		  /* too long */
		SPAN(SIGNATURE "\x21\x11\xff\xff"),
	};

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct proxy_header h;

		if (proxy_header_read(bad[i], &h) != -EINVAL)
			fail_msg("row %zu is no header", i);
	}
}

static void there_is_a_bound(void **state)
{
	char bytes[PROXY_HEADER_MAX] = SIGNATURE "\x20\x00\x07\xf0";
	struct proxy_header h;

	(void)state;
	assert_int_equal(proxy_header_read((struct span){ bytes, sizeof(bytes) }, &h),
			 PROXY_HEADER_MAX);
	memset(bytes, 'x', sizeof(bytes));
	memcpy(bytes, "PROXY UNKNOWN ", 14);
	assert_int_equal(proxy_header_read((struct span){ bytes, 106 }, &h), 0);
	assert_int_equal(proxy_header_read((struct span){ bytes, 107 }, &h), -EINVAL);
	memcpy(bytes + 105, "\r\n", 2);
	assert_int_equal(proxy_header_read((struct span){ bytes, 107 }, &h), 107);
	memcpy(bytes + 105, "x\r\n", 3);
	assert_int_equal(proxy_header_read((struct span){ bytes, 108 }, &h), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(headers_are_read),
		cmocka_unit_test(every_byte_of_a_header_is_its_own_and_no_other),
		cmocka_unit_test(a_unix_socket_is_its_own),
		cmocka_unit_test(what_is_no_header_is_refused),
		cmocka_unit_test(there_is_a_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
