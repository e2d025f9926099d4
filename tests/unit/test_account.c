/* Account records: what a directory may say, and what becomes of it on the way to the broker. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lookupd/account.h"

static struct config c;
static struct account a;
static char text[ROUTE_TEXT_MAX];

static void fresh(void)
{
	assert_int_equal(account_init(&a, SPAN("anna")), 0);
}

/* The route of these mail hosts under these settings; NULL: they are refused, "": there is none. */
static const char *route_for(enum msg_service service, const char *hosts, const char *settings)
{
	struct buf out = { .data = text, .cap = sizeof(text) - 1 };

	config_wipe(&c);
	assert_int_equal(config_init(&c), 0);
	assert_int_equal(config_parse(&c, "f", settings, strlen(settings), NULL, NULL, NULL), 0);
	fresh();
	if (account_add_hosts(&a, span_str(hosts)) < 0)
		return NULL;
	int r = account_routes(&a, &c, service, &out);

	assert_true(r == 0 || r == -ENOENT);
	text[r == 0 ? out.len : 0] = '\0';
	return text;
}

static const char *route_of(const char *hosts, const char *settings)
{
	return route_for(SERVICE_IMAP, hosts, settings);
}

static void each_service_has_its_hosts_and_ports(void **unused)
{
	static const struct {
		enum msg_service service;
		const char *hosts, *settings, *route;
	} rows[] = {
		{ SERVICE_POP3, "mail", "", "0 110 mail" },
		{ SERVICE_POP3, "mail", "pop3_server_port 1110\nserver_port 1143", "0 1110 mail" },
		{ SERVICE_POP3, "mail", "server_tls implicit", "2 995 mail" },
		{ SERVICE_POP3, "mail", "server_tls implicit\npop3_server_port 9", "2 9 mail" },
		{ SERVICE_POP3, "mail", "server_tls starttls", "1 110 mail" },
		{ SERVICE_POP3, "mail:7", "", "0 7 mail" },
		{ SERVICE_POP3, "", "server_hostname home", "0 110 home" },
		{ SERVICE_POP3, "pop3://a imap://b c", "", "0 110 a 0 110 c" },
		{ SERVICE_IMAP, "pop3://a imap://b c", "", "0 143 b 0 143 c" },
		{ SERVICE_POP3, "POP3S://a/ pop3s://b:7", "", "2 995 a 2 7 b" },
		{ SERVICE_POP3, "pop3://a", "server_tls implicit", "1 110 a" },
		{ SERVICE_POP3, "imap://a imaps://b", "", "" },
		{ SERVICE_IMAP, "pop3s://a", "", "" },
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_string_equal(route_for(rows[i].service, rows[i].hosts, rows[i].settings),
				    rows[i].route);
}

static void hosts_are_read_in_all_their_forms(void **unused)
{
	static const struct {
		const char *hosts, *settings, *route;
	} rows[] = {
		{ "mail", "", "0 143 mail" },
		{ "mail:1143", "", "0 1143 mail" },
		{ "mail", "server_port 1143", "0 1143 mail" },
		{ "[2001:db8::1]:1143", "", "0 1143 2001:db8::1" },
		{ "[2001:db8::1]", "", "0 143 2001:db8::1" },
		{ "2001:db8::1", "", "0 143 2001:db8::1" },
		{ "imaps://mail", "", "2 993 mail" },
		{ "IMAPS://mail:1993/", "", "2 1993 mail" },
		{ "imaps://[::1]:1993", "", "2 1993 ::1" },
		{ "imap://mail", "server_port 1143", "0 143 mail" },
		{ "imap://mail", "server_tls starttls", "1 143 mail" },
		{ "imap://mail", "server_tls implicit", "1 143 mail" },
		{ "mail", "server_tls implicit", "2 993 mail" },
		{ "mail:1143", "server_tls starttls", "1 1143 mail" },
		{ "imaps://mail", "server_tls starttls", "2 993 mail" },
		{ " a  b;c;;d ", "", "0 143 a 0 143 b 0 143 c 0 143 d" },
		{ "", "server_hostname home\nserver_port 9", "0 9 home" },
		{ "", "server_hostname [::1]", "0 143 ::1" },
		{ "", "server_hostname fe80::1%eth0", "0 143 fe80::1%eth0" },
		{ "", "server_hostname [127.0.0.1]", "0 143 127.0.0.1" },
		{ "1 2 3 4 5 6 7 8", "",
		  "0 143 1 0 143 2 0 143 3 0 143 4 0 143 5 0 143 6 0 143 7 0 143 8" },
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_string_equal(route_of(rows[i].hosts, rows[i].settings), rows[i].route);
}

static void a_host_that_is_ourselves_is_local(void **unused)
{
	static const char server[] = "proxy_hostname us\nlocal_server unix:/s\n"
				     "pop3_local_server h:1110\n";
	static const struct {
		enum msg_service service;
		const char *hosts, *settings, *route;
	} rows[] = {
		/* a port on which we listen leads to us, whether there is a local server or not */
		{ SERVICE_IMAP, "US.", "", "local" },
		{ SERVICE_IMAP, "us:143 a", "", "local 0 143 a" },
		{ SERVICE_IMAP, "us:1143", "", "0 1143 us" },
		{ SERVICE_IMAP, "us", "server_port 1143\n", "0 1143 us" },
		{ SERVICE_IMAP, "us", "listen_port 1143\n", "0 143 us" },
		{ SERVICE_POP3, "us", "", "0 110 us" },
		{ SERVICE_POP3, "us", "pop3_listen_port 110\n", "local" },
		{ SERVICE_IMAP, "imaps://us", "", "2 993 us" },
		{ SERVICE_IMAP, "imap://us", "", "local" },
		/* a name without a port is on the local server, if there is one */
		{ SERVICE_IMAP, "us", "listen_port 1143\nL", "local" },
		{ SERVICE_IMAP, "us", "server_port 1143\nL", "local" },
		{ SERVICE_POP3, "us", "L", "local" },
		{ SERVICE_POP3, "us", "local_server unix:/s\n", "0 110 us" },
		{ SERVICE_IMAP, "imaps://us us:1143", "L", "2 993 us 0 1143 us" },
		{ SERVICE_IMAP, "other", "L", "0 143 other" },
		/* server_hostname always has a port */
		{ SERVICE_IMAP, "", "server_hostname us\nserver_port 1143\nL", "0 1143 us" },
		{ SERVICE_IMAP, "", "server_hostname us\nL", "local" },
		{ SERVICE_IMAP, "", "no_mailhost local\nL", "0 143 localhost" },
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *mark = strchr(rows[i].settings, 'L');
		char settings[300];
		const int n = (int)(mark ? (size_t)(mark - rows[i].settings)
					 : strlen(rows[i].settings));

		(void)snprintf(settings, sizeof(settings), "%.*s%s", n, rows[i].settings,
			       mark ? server : "proxy_hostname us\n");
		assert_string_equal(route_for(rows[i].service, rows[i].hosts, settings),
				    rows[i].route);
	}
	fresh();
	a.is_local = true; /* as no_mailhost has it, where a directory knows the account */
	struct buf out = { .data = text, .cap = sizeof(text) - 1 };

	assert_int_equal(account_routes(&a, &c, SERVICE_IMAP, &out), 0);
	assert_true(span_eq(buf_span(&out), SPAN("local")));
}

static void what_is_no_host_is_refused(void **unused)
{
	static const char *const bad[] = {
		"a/b",
		"unix:/run/imap",
		"user@mail",
		"imap://u:p@mail",
		"mail:0",
		"mail:65536",
		"mail:",
		"mail:x",
		"[::1",
		"[]",
		"imaps://",
		"a\tb",
		"m\"x",
		"http://mail",
		"m\xc3\xbc",
		"imaps://mail/x",
		":143",
		"a b c d e f g h i",
	};
	char longer[300];

	(void)unused;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_null(route_of(bad[i], ""));
	memset(longer, 'a', sizeof(longer));
	longer[255] = '\0';
	assert_non_null(route_of(longer, ""));
	longer[255] = 'a';
	longer[256] = '\0';
	assert_null(route_of(longer, ""));
}

static void the_longest_route_fits_into_its_message(void **unused)
{
	char hosts[8 * 257];

	(void)unused;
	memset(hosts, 'a', sizeof(hosts));
	for (size_t i = 1; i <= 8; i++)
		hosts[i * 256 - 1] = i < 8 ? ' ' : '\0';
	assert_int_equal(strlen(route_of(hosts, "server_port 65535")), 8 * (8 + 255) + 7);
}

static void options_are_couriers(void **unused)
{
	struct span value;

	(void)unused;
	fresh();
	assert_int_equal(account_add_options(&a, SPAN("x=1,disableimap=t,flag,y=a=b,x=2")), 0);
	assert_true(account_option(&a, "x", &value) && span_eq(value, SPAN("1")));
	assert_true(account_option(&a, "y", &value) && span_eq(value, SPAN("a=b")));
	assert_true(account_option(&a, "flag", &value) && value.n == 0);
	assert_false(account_option(&a, "X", &value));
	assert_false(account_option(&a, "disable", &value));
	assert_true(account_option_is_on(&a, "disableimap"));
	assert_true(account_option_is_on(&a, "x"));
	assert_false(account_option_is_on(&a, "flag"));
	assert_false(account_option_is_on(&a, "y"));
	fresh();
	assert_int_equal(account_add_options(&a, SPAN("a=0,b=00,c=010,d=yes,e=no,f=-1,g=Y")), 0);
	for (const char *name = "abef"; *name; name++)
		assert_false(account_option_is_on(&a, (char[2]){ *name }));
	for (const char *name = "cdg"; *name; name++)
		assert_true(account_option_is_on(&a, (char[2]){ *name }));
}

static void mail_hosts_come_from_options_and_may_be_said_twice(void **unused)
{
	(void)unused;
	fresh();
	assert_int_equal(account_add_options(&a, SPAN("mailhost=a b,x=1,mailhost=c")), 0);
	assert_int_equal(account_add_options(&a, SPAN("mailhost=d")), 0);
	assert_int_equal(a.host_count, 4);
	assert_string_equal(a.hosts[3].name, "d");
	assert_string_equal(a.options, "mailhost=a b,x=1,mailhost=c,mailhost=d");
	fresh();
	assert_int_equal(account_add_options(&a, SPAN("mailhost=")), 0);
	assert_int_equal(account_add_options(&a, SPAN("mailhost")), 0);
	assert_int_equal(a.host_count, 0);
	assert_int_equal(account_add_options(&a, SPAN("mailhost=a/b")), -EINVAL);
}

static void values_that_are_odd_or_huge_are_refused(void **unused)
{
	static char huge[ACCOUNT_OPTIONS_MAX + 2];

	(void)unused;
	memset(huge, 'x', sizeof(huge));
	fresh();
	assert_int_equal(account_set_user(&a, SPAN("a\nb")), -EINVAL);
	assert_int_equal(account_set_user(&a, SPAN("a\0b")), -EINVAL);
	assert_int_equal(account_set_user(&a, (struct span){ huge, 513 }), -EINVAL);
	assert_int_equal(account_set_user(&a, (struct span){ huge, 512 }), 0);
	assert_int_equal(account_set_password(&a, (struct span){ huge, 513 }), -EINVAL);
	assert_int_equal(account_set_hash(&a, (struct span){ huge, 257 }), -EINVAL);
	assert_int_equal(account_add_options(&a, (struct span){ huge, 2049 }), -EINVAL);
	assert_string_equal(a.options, "");
	assert_int_equal(account_add_options(&a, (struct span){ huge, 2048 }), 0);
	assert_int_equal(account_add_options(&a, SPAN("y")), -EINVAL);
	assert_int_equal(strlen(a.options), 2048);
	assert_int_equal(account_init(&a, (struct span){ huge, 513 }), -EINVAL);
	assert_int_equal(account_init(&a, SPAN("a\0b")), -EINVAL);
}

static void fields_of_authdaemond_are_understood(void **unused)
{
	(void)unused;
	fresh();
	assert_int_equal(account_set_field(&a, SPAN("ADDRESS"), SPAN("anna@x")), 0);
	assert_int_equal(account_set_field(&a, SPAN("PASSWD"), SPAN("$1$")), 0);
	assert_int_equal(account_set_field(&a, SPAN("PASSWD2"), SPAN("clear")), 0);
	assert_int_equal(account_set_field(&a, SPAN("OPTIONS"), SPAN("mailhost=h")), 0);
	assert_int_equal(account_set_field(&a, SPAN("HOME"), SPAN("/x")), 0);
	assert_string_equal(a.user, "anna@x");
	assert_string_equal(a.hash, "$1$");
	assert_string_equal(a.password, "clear");
	assert_string_equal(a.hosts[0].name, "h");
	account_wipe(&a);
	for (size_t i = 0; i < sizeof(a); i++)
		assert_int_equal(((const char *)&a)[i], 0);
}

static void a_route_is_read_as_it_was_written_and_nothing_else(void **unused)
{
	static const char *const bad[] = { "3 143 a", "0 0 a",	 "0 65536 a", "0 143",
					   "0",	      "x 1 a",	 "0 1 a/b",   "0 1 a 0",
					   "locale",  "local:/", "unix:/a",   "0 1 unix:/a" };
	struct span rest = SPAN("0 143 a local 2 993 ::1");
	struct route r;

	(void)unused;
	assert_int_equal(route_next(&rest, &r), 1);
	assert_true(span_eq(r.host, SPAN("a")) && r.port == 143 && r.tls == TLS_NONE && !r.local);
	assert_int_equal(route_next(&rest, &r), 1);
	assert_true(r.local && r.host.n == 0 && r.port == 0);
	assert_int_equal(route_next(&rest, &r), 1);
	assert_true(span_eq(r.host, SPAN("::1")) && r.port == 993 && r.tls == TLS_IMPLICIT);
	assert_int_equal(route_next(&rest, &r), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		rest = span_str(bad[i]);
		int got = route_next(&rest, &r);

		assert_int_equal(got == 1 ? route_next(&rest, &r) : got, -EBADMSG);
	}
}

static void a_route_that_does_not_fit_is_left_out_whole(void **unused)
{
	char small[12];
	struct buf out = BUF_OVER(small);
	const struct route r = { .host = SPAN("host"), .port = 1 };

	(void)unused;
	assert_int_equal(route_add(&out, &r), 0);
	assert_int_equal(route_add(&out, &r), -ENOBUFS);
	assert_true(span_eq(buf_span(&out), SPAN("0 1 host")));
}

static void default_options_fill_in_what_is_missing(void **unused)
{
	static const struct {
		const char *own, *defaults, *all;
		size_t hosts;
	} cases[] = {
		{ "", "", "", 0 },
		{ "", "a=1,b", "a=1,b", 0 },
		{ "a=2", "a=1,b", "a=2,b", 0 },
		{ "a", "a=1,b=2", "a,b=2", 0 },
		{ "mailhost=one", "mailhost=two,a=1", "mailhost=one,a=1", 1 },
		{ "", "mailhost=one,mailhost=two", "mailhost=one,mailhost=two", 2 },
		{ "mailhost=", "mailhost=one", "mailhost=", 0 },
		{ "ab=1", "a=1", "ab=1,a=1", 0 },
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(account_init(&a, SPAN("anna")), 0);
		assert_int_equal(account_add_options(&a, span_str(cases[i].own)), 0);
		assert_int_equal(account_add_defaults(&a, span_str(cases[i].defaults)), 0);
		assert_string_equal(a.options, cases[i].all);
		assert_int_equal(a.host_count, cases[i].hosts);
	}
	assert_int_equal(account_init(&a, SPAN("anna")), 0);
	assert_int_equal(account_add_hosts(&a, SPAN("one")), 0);
	assert_int_equal(account_add_defaults(&a, SPAN("mailhost=two")), 0);
	assert_int_equal(a.host_count, 1);
	assert_int_equal(account_add_defaults(&a, SPAN("x=1,mailhost=no/host")), 0);
	a.host_count = 0;
	assert_int_equal(account_add_defaults(&a, SPAN("mailhost=no/host")), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(default_options_fill_in_what_is_missing),
		cmocka_unit_test(hosts_are_read_in_all_their_forms),
		cmocka_unit_test(each_service_has_its_hosts_and_ports),
		cmocka_unit_test(a_host_that_is_ourselves_is_local),
		cmocka_unit_test(what_is_no_host_is_refused),
		cmocka_unit_test(the_longest_route_fits_into_its_message),
		cmocka_unit_test(options_are_couriers),
		cmocka_unit_test(mail_hosts_come_from_options_and_may_be_said_twice),
		cmocka_unit_test(values_that_are_odd_or_huge_are_refused),
		cmocka_unit_test(fields_of_authdaemond_are_understood),
		cmocka_unit_test(a_route_is_read_as_it_was_written_and_nothing_else),
		cmocka_unit_test(a_route_that_does_not_fit_is_left_out_whole),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	config_wipe(&c);
	return failed;
}
