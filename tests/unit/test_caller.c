/* Who is calling: ID and XCLIENT as they are said and heard, and the broker's PROXY header. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cachebrokerd/caller.h"
#include "proxyd/caller.h"
#include "proxyd/imap_args.h"
#include "proxyd/proxy_header.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

struct heard {
	const char *text;
	const char *address;
	uint32_t port, hops;
	const char *kept;
};

static void assert_heard(const struct caller_said *said, const struct heard *row)
{
	struct span address = { said->address, said->address_length };

	if (!span_eq(address, span_str(row->address)) || said->port != row->port ||
	    said->hops != row->hops)
		fail_msg("%s: %.*s %u %u", row->text, (int)address.n, address.p, said->port,
			 said->hops);
}

static void an_id_list_is_read_and_loses_what_is_a_proxys_to_say(void **state)
{
	static const struct heard rows[] = {
		{ "NIL", "", 0, 0, "NIL" },
		{ "()", "", 0, 0, "()" },
		{ "(\"name\" \"x\")", "", 0, 0, "(\"name\" \"x\")" },
		{ "(\"name\" NIL \"os\" \"a)\\\"b\")", "", 0, 0,
		  "(\"name\" NIL \"os\" \"a)\\\"b\")" },
		{ "(\"x-originating-ip\" \"192.0.2.1\" \"x-originating-port\" \"4711\")",
		  "192.0.2.1", 4711, 0, "()" },
		{ "(\"X-Originating-IP\" \"2001:db8::1\" \"name\" \"x\" \"x-session-id\" \"y\")",
		  "2001:db8::1", 0, 0, "(\"name\" \"x\")" },
		{ "(\"a\" \"b\" \"x-connected-ip\" \"1.2.3.4\" \"c\" NIL \"x-proxy-ttl\" \"4\")",
		  "", 0, 1, "(\"a\" \"b\" \"c\" NIL)" },
		{ "(\"x-forward-user\" \"y\" \"x-connected-port\" NIL)", "", 0, 0, "()" },
		{ "(\"x-originating-ip\" NIL \"x-proxy-ttl\" NIL)", "", 0, 0, "()" },
		{ "(\"x-originating-ip\" \"mail.example\" \"x-originating-port\" \"65536\")", "", 0,
		  0, "()" },
		{ "(\"x-originating-ip\" \"192.0.2.1 \")", "", 0, 0, "()" },
		{ "(\"x-originating-ip\" \"2001:db8:1111:2222:3333:4444:5555:6666:7777:8888\")", "",
		  0, 0, "()" },
		{ "(\"x-proxy-ttl\" \"5\")", "", 0, 1, "()" },
		{ "(\"x-proxy-ttl\" \"3\")", "", 0, 2, "()" },
		{ "(\"x-proxy-ttl\" \"2\")", "", 0, 3, "()" },
		{ "(\"x-proxy-ttl\" \"0\")", "", 0, 5, "()" },
		{ "(\"x-proxy-ttl\" \"1\" \"x-proxy-ttl\" \"4\")", "", 0, 4, "()" },
		{ "(\"x-proxy-ttl\" \"-1\")", "", 0, 0, "()" },
		{ "(\"x-proxy-ttl\" \"4294967296\")", "", 0, 0, "()" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		char bytes[300], list[300];
		struct buf out = BUF_OVER(bytes), made = BUF_OVER(list);
		struct caller_said said;

		assert_int_equal(imap_read_id(span_str(rows[i].text), &made), 0);
		assert_int_equal(caller_read_id(buf_span(&made), &said, &out), 0);
		assert_heard(&said, &rows[i]);
		if (!span_eq(buf_span(&out), span_str(rows[i].kept)))
			fail_msg("%s: %.*s is kept", rows[i].text, (int)out.len, bytes);
	}
}

static void xclient_is_read(void **state)
{
	static const struct heard rows[] = {
		{ "", "", 0, 0, "" },
		{ "ADDR=192.0.2.1 PORT=4711 SESSION=abc TTL=4", "192.0.2.1", 4711, 1, "" },
		{ "addr=2001:db8::1", "2001:db8::1", 0, 0, "" },
		{ "  TTL=2 PORT=x ADDR", "", 0, 3, "" },
		{ "ADDR= PORT= TTL= =", "", 0, 0, "" },
		{ "ADDR=192.0.2.1=", "", 0, 0, "" },
		{ "XADDR=192.0.2.1 ADDRX=192.0.2.1", "", 0, 0, "" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct caller_said said;

		caller_read_xclient(span_str(rows[i].text), &said);
		assert_heard(&said, &rows[i]);
	}
}

#define CLIENT { "192.0.2.1", 9 }

static void what_the_next_one_is_told(void **state)
{
	static const struct {
		struct caller_facts facts;
		const char *id, *xclient;
	} rows[] = {
		{ { .tell = true, .client = CLIENT, .client_port = 4711, .local = { "::1", 3 },
		    .local_port = 143 },
		  "(\"x-originating-ip\" \"192.0.2.1\" \"x-originating-port\" \"4711\" "
		  "\"x-connected-ip\" \"::1\" \"x-connected-port\" \"143\" \"x-proxy-ttl\" \"4\")",
		  "XCLIENT ADDR=192.0.2.1 PORT=4711 TTL=4\r\n" },
		{ { .tell = true, .hops = 1, .client = CLIENT, .local = { "", 0 } },
		  "(\"x-originating-ip\" \"192.0.2.1\" \"x-originating-port\" \"0\" "
		  "\"x-proxy-ttl\" \"3\")",
		  "XCLIENT ADDR=192.0.2.1 PORT=0 TTL=3\r\n" },
		{ { .tell = true, .hops = 2, .client = { "local", 5 }, .local = { "local", 5 } },
		  "(\"x-proxy-ttl\" \"2\")", "XCLIENT TTL=2\r\n" },
		{ { .hops = 4, .client = CLIENT }, "(\"x-proxy-ttl\" \"0\")", "XCLIENT TTL=0\r\n" },
		{ { .hops = UINT32_MAX - 1, .client = CLIENT }, "(\"x-proxy-ttl\" \"0\")",
		  "XCLIENT TTL=0\r\n" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		char bytes[CALLER_OUT_MAX];
		struct buf out = BUF_OVER(bytes);

		assert_int_equal(caller_add_id(&rows[i].facts, &out), 0);
		if (!span_eq(buf_span(&out), span_str(rows[i].id)))
			fail_msg("row %zu: %.*s", i, (int)out.len, bytes);
		out.len = 0;
		assert_int_equal(caller_add_xclient(&rows[i].facts, true, &out), 0);
		if (!span_eq(buf_span(&out), span_str(rows[i].xclient)))
			fail_msg("row %zu: %.*s", i, (int)out.len, bytes);
		out.len = 0;
		assert_int_equal(caller_add_xclient(&rows[i].facts, false, &out), 0);
		assert_false(span_ihas(buf_span(&out), SPAN("ADDR")));
	}
}

/* The longest facts fit. */
static void there_is_room_for_all(void **state)
{
	const struct span longest = SPAN("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255");
	const struct caller_facts facts = { .tell = true, .client = longest, .local = longest,
					    .client_port = UINT32_MAX, .local_port = UINT32_MAX };
	char bytes[CALLER_OUT_MAX];
	struct buf out = BUF_OVER(bytes);

	(void)state;
	assert_int_equal(longest.n, CALLER_ADDRESS_MAX);
	assert_int_equal(caller_add_id(&facts, &out), 0);
	out.len = 0;
	assert_int_equal(caller_add_xclient(&facts, true, &out), 0);
}

/* What the broker writes, a session reads. */
static void the_brokers_header_is_one(void **state)
{
	static const struct {
		struct caller caller;
		const char *client, *local;
		size_t length;
	} rows[] = {
		{ { .client = "192.0.2.1", .local = "192.0.2.2" }, "192.0.2.1", "192.0.2.2", 28 },
		{ { .client = "2001:db8::1", .local = "2001:db8::2" }, "2001:db8::1", "2001:db8::2",
		  52 },
		{ { .client = "2001:db8::1", .local = "192.0.2.2" }, "2001:db8::1", "192.0.2.2",
		  52 },
		{ { .client = "local", .local = "local" }, NULL, NULL, 16 },
		{ { .client = "", .local = "192.0.2.2" }, NULL, NULL, 16 },
	};
	unsigned char out[CALLER_HEADER_MAX];
	struct proxy_header h;

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct caller c = rows[i].caller;

		c.client_port = 4711;
		c.local_port = 143;
		size_t n = caller_write_header(&c, out);

		assert_int_equal(n, rows[i].length);
		assert_int_equal(proxy_header_read((struct span){ (char *)out, n }, &h), (int)n);
		assert_int_equal(h.own, !rows[i].client);
		if (h.own)
			continue;
		assert_string_equal(h.client, rows[i].client);
		assert_string_equal(h.local, rows[i].local);
		assert_int_equal(h.client_port, 4711);
		assert_int_equal(h.local_port, 143);
	}
}

static void only_a_trusted_client_calls_for_another(void **state)
{
	const struct caller at = { .client = "10.0.0.1", .local = "10.0.0.2", .client_port = 1 };
	struct msg_LEASE lease = { .origin = SPAN("192.0.2.1"), .origin_port = 4711, .hops = 2 };
	struct caller c;

	(void)state;
	caller_set(&c, &at, false, &lease);
	assert_string_equal(c.client, "10.0.0.1");
	assert_int_equal(c.client_port, 1);
	assert_int_equal(c.hops, 2);
	caller_set(&c, &at, true, &lease);
	assert_string_equal(c.client, "192.0.2.1");
	assert_int_equal(c.client_port, 4711);
	assert_string_equal(c.local, "10.0.0.2");
	lease.origin = SPAN("192.0.2.1\r\n");
	lease.origin_port = 70000;
	caller_set(&c, &at, true, &lease);
	assert_string_equal(c.client, "10.0.0.1");
	assert_int_equal(c.client_port, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_id_list_is_read_and_loses_what_is_a_proxys_to_say),
		cmocka_unit_test(xclient_is_read),
		cmocka_unit_test(what_the_next_one_is_told),
		cmocka_unit_test(there_is_room_for_all),
		cmocka_unit_test(the_brokers_header_is_one),
		cmocka_unit_test(only_a_trusted_client_calls_for_another),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
