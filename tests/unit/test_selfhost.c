/* Which mail host is this host, where its own server is, and what a configuration may say of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/localaddr.h"
#include "lib/place.h"
#include "lib/selfhost.h"
#include "tests/unit/config_scene.h"

static void places_are_read_in_all_their_forms(void **unused)
{
	static const struct {
		const char *value, *host;
		uint32_t port;
	} good[] = {
		{ "mail:1143", "mail", 1143 },	       { "127.0.0.1:1", "127.0.0.1", 1 },
		{ "[::1]:65535", "::1", 65535 },       { "unix:/a/b", "unix:/a/b", 0 },
		{ "unix:/a:143", "unix:/a:143", 0 },
	};
	static const char *const bad[] = {
		"",	 "mail",    ":143",   "mail:",	   "mail:0",  "mail:65536", "mail:x",
		"::1:1", "[::1]",   "[]:1",   "[mail]:1",  "unix:",   "unix:a",	    "unix:/a b",
		"/a",	 "UNIX:/a", "a/b:1",  "[1.2.3.4]:1", "unix:/a\tb", "[::1:1", "a b:1",
	};
	char path[200] = "unix:/";
	struct place place;

	(void)unused;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_null(place_read(good[i].value, &place));
		assert_true(span_eq(place.host, span_str(good[i].host)));
		assert_int_equal(place.port, good[i].port);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (!place_read(bad[i], &place))
			fail_msg("'%s' is read", bad[i]);
	memset(path + 6, 'a', 106);
	assert_null(place_read(path, &place));
	path[6 + 106] = 'a';
	assert_non_null(place_read(path, &place));
	assert_string_equal(place_path("unix:/a"), "/a");
	assert_null(place_path("unix"));
	assert_null(place_path("unix:"));
}

static void names_are_compared_as_names(void **unused)
{
	static const struct {
		const char *name;
		bool is_ours;
	} rows[] = {
		{ "node1.example.net", true },
		{ "NODE1.Example.NET.", true },
		{ "node1", true },
		{ "Node1.", true },
		{ "alias.example.org", true },
		{ "ALIAS.example.org.", true },
		{ "dotted", true },
		{ "192.0.2.9", true },
		{ "2001:DB8::9", true },
		{ "node1.example.org", false },
		{ "node", false },
		{ "node11", false },
		{ "alias", false },
		{ ".", false },
		{ "", false },
		{ "example.net", false },
		{ "192.0.2.90", false },
	};

	(void)unused;
	assert_int_equal(parse("proxy_hostname alias.example.org  dotted. 192.0.2.9 2001:db8::9"),
			 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (selfhost_has_name(&c, SPAN("node1.example.net"), span_str(rows[i].name)) !=
		    rows[i].is_ours)
			fail_msg("%s", rows[i].name);
	assert_int_equal(parse(""), 0);
	assert_false(selfhost_has_name(&c, SPAN_NONE, SPAN("")));
	assert_false(selfhost_has_name(&c, SPAN_NONE, SPAN("a")));
	assert_true(selfhost_has_name(&c, SPAN("a"), SPAN("A")));
}

static void ports_are_those_that_the_configuration_listens_on(void **unused)
{
	(void)unused;
	assert_int_equal(parse("pop3_listen_port 110\n"), 0);
	assert_true(selfhost_listens_on(&c, 143) && selfhost_listens_on(&c, 110));
	assert_false(selfhost_listens_on(&c, 993));
	assert_false(selfhost_listens_on(&c, 0));
	/* others listen: what is not said is not known */
	assert_int_equal(parse("run_listener no\n"), 0);
	assert_false(selfhost_listens_on(&c, 143));
	assert_int_equal(parse("run_listener no\nlisten_port 143\n"), 0);
	assert_true(selfhost_listens_on(&c, 143));
}

static bool is_reached(const char *address, uint32_t port, bool is_own)
{
	struct cidr_address a;

	assert_int_equal(cidr_address_parse(span_str(address), &a), 0);
	a = selfhost_dialled(&a);
	return selfhost_is_reached(&c, &a, port, is_own);
}

static void an_address_leads_to_us_where_a_listener_is(void **unused)
{
	static const struct {
		const char *settings, *address;
		uint32_t port;
		bool is_own, is_reached;
	} rows[] = {
		{ "", "127.0.0.1", 143, true, true },
		{ "", "127.0.0.1", 1143, true, false },
		{ "", "192.0.2.1", 143, false, false },
		{ "", "::1", 143, true, false }, /* 0.0.0.0 is IPv4 only */
		{ "listen_address ::\n", "::1", 143, true, true },
		{ "listen_address ::\n", "127.0.0.1", 143, true, true },
		{ "listen_address ::1\n", "127.0.0.1", 143, true, false },
		{ "listen_address ::1\n", "::", 143, true, true },
		{ "listen_address 127.0.0.1\n", "127.0.0.2", 143, true, false },
		{ "listen_address 127.0.0.1\n", "127.0.0.1", 143, true, true },
		{ "listen_address 127.0.0.1\n", "0.0.0.0", 143, true, true },
		{ "listen_address 192.0.2.1\n", "0.0.0.0", 143, true, false },
		{ "listen_address some.name\n", "192.0.2.1", 143, true, true },
		{ "listen_address some.name\n", "192.0.2.1", 143, false, false },
		{ "proxy_hostname 192.0.2.1\n", "192.0.2.1", 143, false, true },
		{ "proxy_hostname 192.0.2.1\n", "::ffff:192.0.2.1", 143, false, true },
		{ "proxy_hostname 192.0.2.1\n", "192.0.2.1", 1143, false, false },
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(parse(rows[i].settings), 0);
		if (is_reached(rows[i].address, rows[i].port, rows[i].is_own) != rows[i].is_reached)
			fail_msg("row %zu: %s", i, rows[i].address);
	}
}

/* Of sockets that the configuration knows nothing of. */
static void an_address_leads_to_us_where_a_socket_is(void **unused)
{
	static const struct {
		const char *place, *address;
		bool is_own, is_reached;
	} rows[] = {
		{ "0.0.0.0/1143", "127.0.0.1", true, true },
		{ "0.0.0.0/1143", "192.0.2.1", false, false },
		{ "0.0.0.0/1143", "192.0.2.7", false, true }, /* by proxy_hostname */
		{ "0.0.0.0/1143", "::1", true, false },
		{ "::/1143", "::1", true, true },
		{ "::/1143", "127.0.0.1", true, true },
		{ "127.0.0.1/1143", "127.0.0.1", true, true },
		{ "127.0.0.1/1143", "127.0.0.2", true, false },
		{ "127.0.0.1/143", "127.0.0.1", true, false },
		{ "some.name/1143", "127.0.0.1", true, false },
		{ "127.0.0.1/", "127.0.0.1", true, false },
		{ "127.0.0.1/01143x", "127.0.0.1", true, false },
		{ "127.0.0.1:1143", "127.0.0.1", true, false },
		{ "/1143", "127.0.0.1", true, false },
		{ "", "127.0.0.1", true, false },
	};

	(void)unused;
	assert_int_equal(parse("listen_address 192.0.2.9\nproxy_hostname 192.0.2.7\n"), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct cidr_address a;

		assert_int_equal(cidr_address_parse(span_str(rows[i].address), &a), 0);
		if (selfhost_reaches_socket(&c, span_str(rows[i].place), &a, 1143,
					    rows[i].is_own) != rows[i].is_reached)
			fail_msg("row %zu: %s", i, rows[i].place);
	}
	assert_true(selfhost_socket_has(SPAN("::1/993"), 993));
	assert_false(selfhost_socket_has(SPAN("::1/0"), 0));
}

static void every_address_of_127_is_this_machines(void **unused)
{
	static const struct {
		const char *address;
		bool is_own;
	} rows[] = { { "127.0.0.1", true },
		     { "127.200.3.4", true },
		     { "::1", true },
		     { "198.51.100.77", false },
		     { "2001:db8:77::1", false },
		     { "fe80::77", false } };
	struct cidr_address a;

	(void)unused;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(cidr_address_parse(span_str(rows[i].address), &a), 0);
		assert_int_equal(localaddr_is(&a), rows[i].is_own);
	}
}

static void each_service_has_its_own_server(void **unused)
{
	struct route r;

	(void)unused;
	assert_int_equal(parse("local_server unix:/run/imap\npop3_local_server [::1]:1110\n"), 0);
	assert_int_equal(selfhost_server(&c, SERVICE_IMAP, &r), 0);
	assert_true(r.local && r.port == 0 && r.tls == TLS_NONE);
	assert_true(span_eq(r.host, SPAN("unix:/run/imap")));
	assert_int_equal(selfhost_server(&c, SERVICE_POP3, &r), 0);
	assert_true(r.local && r.port == 1110 && span_eq(r.host, SPAN("::1")));
	assert_int_equal(parse(""), 0);
	assert_int_not_equal(selfhost_server(&c, SERVICE_POP3, &r), 0);
}

static void what_is_wrong_is_said_with_its_line(void **unused)
{
	static const struct {
		const char *text, *report;
	} rows[] = {
		{ "\nno_mailhost local\n",
		  "E f:2: no_mailhost: local needs local_server, this host's own server\n" },
		{ "local_server h:1143\nno_mailhost local\npop3s_listen_port 995\n"
		  "tls_server_cert_file /c\n",
		  "E f:2: no_mailhost: local needs pop3_local_server, too, where there is a "
		  "pop3_listen_port or pop3s_listen_port\n" },
		{ "local_server h\n", "E f:1: local_server: 'h' is not allowed: give HOST:PORT, "
				      "[ADDRESS]:PORT or unix:/PATH\n" },
		{ "local_server 127.0.0.7:143\n",
		  "E f:1: local_server: this proxy itself listens there; name the server behind "
		  "it\n" },
		{ "listen_address 192.0.2.1\npop3_listen_port 110\n"
		  "pop3_local_server 192.0.2.1:110\n",
		  "E f:3: pop3_local_server: this proxy itself listens there; name the server "
		  "behind it\n" },
		{ "proxy_hostname a b/c\n",
		  "E f:1: proxy_hostname: 'b/c' is not allowed: give names and addresses (without "
		  "brackets), separated by spaces\n" },
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(parse(rows[i].text), 1);
		assert_string_equal(reports, rows[i].report);
	}
	assert_int_equal(parse("no_mailhost local\nlocal_server unix:/s\n"), 0);
	assert_int_equal(parse("local_server 127.0.0.1:143\nlisten_address 192.0.2.1\n"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(places_are_read_in_all_their_forms),
		cmocka_unit_test(names_are_compared_as_names),
		cmocka_unit_test(an_address_leads_to_us_where_a_socket_is),
		cmocka_unit_test(ports_are_those_that_the_configuration_listens_on),
		cmocka_unit_test(an_address_leads_to_us_where_a_listener_is),
		cmocka_unit_test(every_address_of_127_is_this_machines),
		cmocka_unit_test(each_service_has_its_own_server),
		cmocka_unit_test(what_is_wrong_is_said_with_its_line),
	};

	return cmocka_run_group_tests(tests, NULL, wipe_config);
}
