/* imapproxy.conf: the old syntax, every type with its bounds, and the exact text of what is
 * reported. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/span.h"
#include "tests/unit/config_scene.h"

static void assert_clean(const char *text)
{
	int errors = parse(text);

	if (errors != 0 || warnings != 0 || *reports)
		fail_msg("'%s' is not clean: %s", text, reports);
}

static void assert_error(const char *text, const char *line)
{
	char wanted[512];

	(void)snprintf(wanted, sizeof(wanted), "E %s\n", line);
	assert_int_equal(parse(text), 1);
	assert_string_equal(reports, wanted);
}

static void assert_warning(const char *text, const char *line)
{
	char wanted[512];

	(void)snprintf(wanted, sizeof(wanted), "W %s\n", line);
	assert_int_equal(parse(text), 0);
	assert_int_equal(warnings, 1);
	assert_string_equal(reports, wanted);
}

static void every_default_is_a_value_that_the_parser_takes(void **unused)
{
	struct config_key key;
	char line[1200];

	(void)unused;
	for (size_t i = 0; config_key_at(i, &key); i++) {
		if (!*key.default_text)
			continue;
		(void)snprintf(line, sizeof(line), "%s %s", key.name, key.default_text);
		assert_clean(line);
	}
}

static void an_empty_file_gives_the_documented_defaults(void **unused)
{
	(void)unused;
	assert_clean("");
	assert_string_equal(c.server_hostname, "localhost");
	assert_int_equal(c.server_port, 143);
	assert_int_equal(c.cache_size, 3072);
	assert_int_equal(c.cache_expiration_time, 300);
	assert_int_equal(c.connect_retries, 10);
	assert_int_equal(c.connect_delay, 5);
	assert_string_equal(c.listen_address, "0.0.0.0");
	assert_int_equal(c.spare_processes.least, 8);
	assert_int_equal(c.spare_processes.most, 64);
	assert_int_equal(c.syslog_facility, LOG_MAIL);
	assert_int_equal(c.syslog_prioritymask, LOG_DEBUG);
	assert_int_equal(c.foreground_mode, 0);
	assert_string_equal(c.run_directory, "");
	assert_string_equal(c.stat_filename, "/var/run/pimpstats");
}

static void every_key_has_a_meaning_that_is_a_sentence(void **unused)
{
	struct config_key key;
	size_t count = 0;

	(void)unused;
	for (size_t i = 0; config_key_at(i, &key); i++, count++) {
		assert_true(key.meaning[strlen(key.meaning) - 1] == '.');
		assert_non_null(key.unit);
	}
	assert_true(count > 40);
	assert_false(config_key_at(count, &key));
}

static void a_key_may_be_in_any_case_and_behind_blanks(void **unused)
{
	(void)unused;
	assert_clean("   \t Cache_SIZE 100");
	assert_int_equal(c.cache_size, 100);
}

static void tabs_separate_as_spaces_do(void **unused)
{
	(void)unused;
	assert_clean("cache_size\t100\nspare_processes \t 2\t3\n");
	assert_int_equal(c.cache_size, 100);
	assert_int_equal(c.spare_processes.least, 2);
	assert_int_equal(c.spare_processes.most, 3);
}

static void blanks_around_a_value_are_cut_and_those_within_kept(void **unused)
{
	(void)unused;
	assert_clean("hide_capabilities   QRESYNC  NOTIFY \t \n");
	assert_string_equal(c.hide_capabilities, "QRESYNC  NOTIFY");
}

static void quotes_are_a_part_of_the_value(void **unused)
{
	(void)unused;
	assert_clean("stat_filename \"/x y\"\n");
	assert_string_equal(c.stat_filename, "\"/x y\"");
}

static void a_comment_begins_anywhere(void **unused)
{
	(void)unused;
	assert_clean("# cache_size x\ncache_size 7#8\n   # nothing\nserver_hostname mail#.example "
		     "# c\n");
	assert_int_equal(c.cache_size, 7);
	assert_string_equal(c.server_hostname, "mail");
}

static void carriage_returns_at_line_ends_do_not_matter(void **unused)
{
	(void)unused;
	assert_clean("cache_size 7\r\n\r\n# x\r\nserver_hostname mail.example\r\n");
	assert_int_equal(c.cache_size, 7);
	assert_string_equal(c.server_hostname, "mail.example");
}

static void the_last_line_may_lack_its_line_feed(void **unused)
{
	(void)unused;
	assert_clean("cache_size 7\nserver_port 144");
	assert_int_equal(c.server_port, 144);
}

static void lines_of_blanks_are_skipped(void **unused)
{
	(void)unused;
	assert_clean("\n   \n\t\n \r\n");
}

static void the_line_that_set_a_key_is_known(void **unused)
{
	(void)unused;
	assert_clean("# x\ncache_size 1\n\nTLS_NO_TLSV1.1 yes\ncache_size 2\n");
	assert_int_equal(config_line_of(&c, "cache_size"), 5);
	assert_int_equal(config_line_of(&c, "tls_no_tlsv1_1"), 4);
	assert_int_equal(config_line_of(&c, "server_port"), 0);
	assert_int_equal(config_line_of(&c, "no_such_key"), 0);
}

static void the_last_of_two_equal_keys_wins(void **unused)
{
	(void)unused;
	assert_clean("cache_size 7\nserver_hostname a\nCACHE_SIZE 8\nserver_hostname b\n");
	assert_int_equal(c.cache_size, 8);
	assert_string_equal(c.server_hostname, "b");
}

static void a_key_without_a_value_is_an_error(void **unused)
{
	(void)unused;
	assert_error("\n\ncache_size", "f:3: cache_size: the value is missing");
	assert_error("server_hostname   # none", "f:1: server_hostname: the value is missing");
	assert_error("preauth_command \n", "f:1: preauth_command: the value is missing");
}

static void every_problem_is_reported_with_its_line(void **unused)
{
	(void)unused;
	assert_int_equal(
		parse("cache_size x\n\n# c\nconnect_timeout 0\nfoo bar\nforeground_mode maybe\n"),
		3);
	assert_int_equal(warnings, 1);
	assert_non_null(strstr(reports, "E f:1: cache_size: "));
	assert_non_null(strstr(reports, "E f:4: connect_timeout: "));
	assert_non_null(strstr(reports, "W f:5: foo: "));
	assert_non_null(strstr(reports, "E f:6: foreground_mode: "));
}

static void numbers_have_bounds_and_a_unit(void **unused)
{
	(void)unused;
	assert_clean("connect_timeout 1");
	assert_clean("connect_timeout 300");
	assert_int_equal(c.connect_timeout, 300);
	assert_error("connect_timeout 0",
		     "f:1: connect_timeout: '0' is not allowed: give a number from 1 "
		     "to 300 (seconds)");
	assert_error("connect_timeout 301",
		     "f:1: connect_timeout: '301' is not allowed: give a number "
		     "from 1 to 300 (seconds)");
	assert_error("cache_size 0",
		     "f:1: cache_size: '0' is not allowed: give a number from 1 to 1000000");
}

static void what_is_no_plain_number_is_an_error(void **unused)
{
	static const char *const values[] = {"-1",	  "+1",	 "1x",
					     "x1",	  "1 2", "0x10",
					     "1.5",	  "1k",	 "99999999999999999999999",
					     "4294967297"};
	char line[100];

	(void)unused;
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		(void)snprintf(line, sizeof(line), "cache_size %s", values[i]);
		assert_int_equal(parse(line), 1);
		assert_int_equal(c.cache_size, 3072);
	}
}

static void bytes_may_be_given_in_k_and_m(void **unused)
{
	(void)unused;
	assert_clean("max_line_login 8k");
	assert_int_equal(c.max_line_login, 8192);
	assert_clean("max_line_login 1K");
	assert_int_equal(c.max_line_login, 1024);
	assert_error("max_line_login 1M",
		     "f:1: max_line_login: '1M' is not allowed: give a number from 512 "
		     "to 8192 (bytes)");
	assert_int_equal(parse("max_line_login k"), 1);
	assert_int_equal(parse("max_line_login 8kk"), 1);
	assert_int_equal(parse("max_line_login 4194304k"), 1);
}

static void a_port_may_be_a_service_name(void **unused)
{
	(void)unused;
	assert_clean("server_port imap2\nlisten_port imaps\n");
	assert_int_equal(c.listen_port, 993);
	assert_int_equal(c.server_port, 143);
	assert_error("server_port 65536",
		     "f:1: server_port: '65536' is not allowed: give a number from 1 to "
		     "65535 or a service name");
	assert_int_equal(parse("server_port no-such-service"), 1);
	assert_int_equal(parse("server_port 0"), 1);
}

static void booleans_are_understood_as_the_old_program_did(void **unused)
{
	static const struct {
		const char *value;
		uint32_t on;
	} cases[] = {{"yes", 1}, {"YES", 1}, {"yesterday", 1}, {"y", 1}, {"Y", 1},    {"true", 1},
		     {"no", 0},	 {"No", 0},  {"none", 0},      {"n", 0}, {"false", 0}};
	char line[100];

	(void)unused;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		(void)snprintf(line, sizeof(line), "send_tcp_keepalives %s", cases[i].value);
		assert_clean(line);
		assert_int_equal(c.send_tcp_keepalives, cases[i].on);
	}
}

static void on_and_1_mean_yes_with_a_warning(void **unused)
{
	(void)unused;
	assert_warning("run_listener on",
		       "f:1: run_listener: 'on' is taken for yes (the old imapproxyd took "
		       "it for no)");
	assert_int_equal(c.run_listener, 1);
	assert_warning("foreground_mode 1",
		       "f:1: foreground_mode: '1' is taken for yes (the old imapproxyd "
		       "took it for no)");
	assert_clean("run_listener off");
	assert_int_equal(c.run_listener, 0);
	assert_clean("run_listener 0");
}

static void other_booleans_are_errors(void **unused)
{
	(void)unused;
	assert_error("foreground_mode maybe",
		     "f:1: foreground_mode: 'maybe' is not allowed: give yes or no");
	assert_int_equal(parse("foreground_mode ye"), 1);
	assert_int_equal(parse("foreground_mode yy"), 1);
	assert_int_equal(parse("foreground_mode 2"), 1);
}

static void names_are_one_of_a_list(void **unused)
{
	(void)unused;
	assert_clean(
		"syslog_facility LOG_LOCAL3\nsyslog_prioritymask LOG_WARNING\nipversion_only 6");
	assert_int_equal(c.syslog_facility, LOG_LOCAL3);
	assert_int_equal(c.syslog_prioritymask, LOG_WARNING);
	assert_int_equal(c.ipversion_only, 6);
	assert_error("ipversion_only 5",
		     "f:1: ipversion_only: '5' is not allowed: give one of 0 4 6");
	assert_int_equal(parse("syslog_facility LOG_NOWHERE"), 1);
	assert_non_null(strstr(reports, "give one of LOG_USER LOG_MAIL LOG_DAEMON"));
	assert_non_null(strstr(reports, "LOG_LOCAL7\n"));
	assert_clean("auth_mechanisms plain  XOAUTH2\nauth_mechanisms none");
	assert_error("auth_mechanisms PLAIN DIGEST-MD5",
		     "f:1: auth_mechanisms: 'DIGEST-MD5' is not allowed: give none, or some of "
		     "PLAIN LOGIN XOAUTH2 OAUTHBEARER SCRAM-SHA-256 SCRAM-SHA-1 CRAM-SHA256 "
		     "CRAM-SHA1 CRAM-MD5 EXTERNAL APOP");
	(void)parse("auth_mechanisms CRAM-MD5");
	assert_non_null(strstr(reports, "there is no line 'directory': they are not offered"));
	assert_clean("auth_mechanisms CRAM-MD5 scram-sha-256\ndirectory userdb:/x");
}

static void pairs_are_two_numbers_the_smaller_first(void **unused)
{
	static const char *const bad[] = {"1", "2 1", "1 2 3", "0 1", "1 5000", "a b", "1,2"};
	char line[100];

	(void)unused;
	assert_clean("spare_processes 3   3");
	assert_int_equal(c.spare_processes.least, 3);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		(void)snprintf(line, sizeof(line), "spare_processes %s", bad[i]);
		assert_int_equal(parse(line), 1);
		assert_int_equal(c.spare_processes.least, 8);
		assert_int_equal(c.spare_processes.most, 64);
	}
	assert_error("spare_processes 2 1",
		     "f:1: spare_processes: '2 1' is not allowed: give two numbers "
		     "from 1 to 4096, the smaller first");
}

static void texts_are_bounded(void **unused)
{
	char line[400] = "server_hostname ";
	size_t n = strlen(line);

	(void)unused;
	memset(line + n, 'a', 255);
	assert_clean(line);
	line[n + 255] = 'a';
	assert_error(line, "f:1: server_hostname: the value is longer than 255 bytes");
}

static void the_mail_host_must_be_one(void **unused)
{
	static const char *const wrong[] = {
		"[::1", "::1]", "[]", "[[::1]]", "mail:143", "imap://mail", "mail two",
		"m\xc3\xa4il", ":", "::g", "[::1]:143",
	};
	char line[100], report[200];

	(void)unused;
	assert_clean("server_hostname [2001:db8::1]");
	assert_string_equal(c.server_hostname, "2001:db8::1");
	assert_clean("server_hostname fe80::1%eth0");
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		(void)snprintf(line, sizeof(line), "\nserver_hostname %s\n", wrong[i]);
		(void)snprintf(report, sizeof(report),
			       "f:2: server_hostname: '%s' is not allowed: give one name or "
			       "address; its port is said with server_port",
			       wrong[i]);
		assert_error(line, report);
	}
}

static void over_long_lines_and_nul_bytes_are_errors(void **unused)
{
	static char longer[5000];

	(void)unused;
	memset(longer, 'x', sizeof(longer) - 1);
	assert_error(longer, "f:1: the line is longer than 4096 bytes");
	assert_int_equal(parse_bytes("cache_size 1\0\ncache_size 5\n", 26), 1);
	assert_string_equal(reports, "E f:1: the line holds a NUL byte\n");
	assert_int_equal(c.cache_size, 5);
}

static void couriers_foreign_is_known_and_does_nothing(void **unused)
{
	(void)unused;
	for (int value = 0; value <= 1; value++) {
		char text[60];

		(void)snprintf(text, sizeof(text), "\nimap_proxy_foreign %d\n", value);
		assert_warning(text, "f:2: imap_proxy_foreign: has no effect; clients are always "
				     "told the capabilities of the mail host that they are on");
	}
	assert_error("imap_proxy_foreign yes",
		     "f:1: imap_proxy_foreign: 'yes' is not allowed: give one of 0 1");
}

static void unknown_keys_are_warnings_with_the_nearest_key(void **unused)
{
	(void)unused;
	assert_warning("cache_sise 3",
		       "f:1: cache_sise: unknown key, ignored; did you mean cache_size?");
	assert_warning("Server_Hostnam x",
		       "f:1: Server_Hostnam: unknown key, ignored; did you mean server_hostname?");
	assert_warning("qqqqq x", "f:1: qqqqq: unknown key, ignored; see imapproxy.conf(5)");
	assert_warning("tls_no_tlsv1_1 yes",
		       "f:1: tls_no_tlsv1_1: unknown key, ignored; did you mean tls_no_tlsv1.1?");
	/* Not even its missing value matters: files in the wild carry such lines. */
	assert_warning("qqqqq", "f:1: qqqqq: unknown key, ignored; see imapproxy.conf(5)");
}

static void a_secret_behind_an_equals_sign_is_not_reported(void **unused)
{
	(void)unused;
	assert_int_equal(parse("auth_shared_secret=hunter2\nauth_sasl_plain_password:hunter2 x\n"),
			 0);
	assert_int_equal(warnings, 2);
	assert_null(strstr(reports, "hunter2"));
	assert_non_null(strstr(reports, "W f:1: auth_shared_secret: unknown key, ignored"));
}

static void what_is_printed_can_be_parsed_to_the_same(void **unused)
{
	static char first[16384], second[16384];
	struct config_key key;

	(void)unused;
	assert_clean(
		"cache_size 7\nlisten_port imaps\nspare_processes 1 2\nsyslog_facility LOG_LOCAL1\n"
		"run_listener no\nhide_capabilities A B\nmax_line_login 1k\nipversion_only 4\n");
	int length = config_print(&c, first, sizeof(first));

	assert_int_equal(length, strlen(first));
	assert_clean(first);
	assert_int_equal(config_print(&c, second, sizeof(second)), length);
	assert_string_equal(first, second);
	assert_non_null(strstr(first, "\nlisten_port 993\n"));
	assert_non_null(strstr(first, "\nspare_processes 1 2\n"));
	assert_non_null(strstr(first, "\n#run_directory\n"));
	for (size_t i = 0; config_key_at(i, &key); i++)
		assert_non_null(strstr(first, key.name));
}

static void printing_into_too_little_room_is_refused(void **unused)
{
	static char text[16384];

	(void)unused;
	assert_clean("");
	int length = config_print(&c, text, sizeof(text));

	assert_int_equal(config_print(&c, text, (size_t)length + 1), length);
	assert_int_equal(config_print(&c, text, (size_t)length), -ENOBUFS);
	assert_int_equal(config_print(&c, text, 1), -ENOBUFS);
}

static void secrets_are_printed_as_stars(void **unused)
{
	static char text[16384];

	(void)unused;
	assert_int_equal(parse("auth_shared_secret hunter2\n"), 0);
	assert_string_equal(c.auth_shared_secret, "hunter2");
	assert_true(config_print(&c, text, sizeof(text)) > 0);
	assert_null(strstr(text, "hunter2"));
	assert_non_null(strstr(text, "\nauth_shared_secret ***\n"));
	assert_null(strstr(reports, "hunter2"));
}

static void a_too_long_secret_is_not_reported(void **unused)
{
	char line[400] = "auth_shared_secret ";
	size_t n = strlen(line);

	(void)unused;
	memset(line + n, 's', 300);
	assert_error(line, "f:1: auth_shared_secret: the value is longer than 255 bytes");
}

static void a_master_separator_is_one_character_of_no_name(void **unused)
{
	(void)unused;
	assert_clean("master_separator *\n");
	assert_string_equal(c.master_separator, "*");
	assert_int_equal(parse("master_separator x\n"), 1);
	assert_int_equal(parse("master_separator 7\n"), 1);
	assert_error("master_separator **\n",
		     "f:1: master_separator: the value is longer than 1 bytes");
}

static void equal_and_different_keys_are_told_apart(void **unused)
{
	struct config other;
	struct config_key key;
	int differ = 0;

	(void)unused;
	assert_clean("cache_size 7\nserver_hostname x\nspare_processes 1 2\nrun_listener no\n");
	assert_int_equal(config_init(&other), 0);
	for (size_t i = 0; config_key_at(i, &key); i++) {
		assert_true(config_key_same(&c, &c, i));
		differ += !config_key_same(&c, &other, i);
	}
	assert_int_equal(differ, 4);
	config_wipe(&other);
}

static void the_run_directory_is_bounded_by_socket_addresses(void **unused)
{
	char line[200] = "run_directory /", path[200];
	size_t n = strlen(line);

	(void)unused;
	memset(line + n, 'r', 79);
	assert_clean(line);
	assert_int_equal(config_run_directory(&c, "/etc/imapproxy.conf", path, sizeof(path)), 0);
	assert_string_equal(path, line + n - 1);
	assert_int_equal(config_run_directory(&c, "/etc/imapproxy.conf", path, 80), -ENAMETOOLONG);
	line[n + 79] = 'r';
	assert_int_equal(parse(line), 1);
}

static void the_default_run_directory_depends_on_the_user(void **unused)
{
	char path[200], file[150];

	(void)unused;
	assert_clean("");
	if (geteuid() != 0) {
		assert_int_equal(config_run_directory(&c, "/home/u/x.conf", path, sizeof(path)), 0);
		assert_string_equal(path, "/home/u/keepwarm-run");
		assert_int_equal(config_run_directory(&c, "x.conf", path, sizeof(path)), 0);
		assert_string_equal(path, "./keepwarm-run");
		memset(file, 'd', sizeof(file) - 1);
		memcpy(file + 100, "/x.conf", sizeof("/x.conf"));
		assert_int_equal(config_run_directory(&c, file, path, sizeof(path)), -ENAMETOOLONG);
		return;
	}
	assert_int_equal(config_run_directory(&c, "/home/u/x.conf", path, sizeof(path)), 0);
	assert_string_equal(path, "/run/keepwarm");
	if (seteuid(65534) < 0)
		skip();
	assert_int_equal(config_run_directory(&c, "/home/u/x.conf", path, sizeof(path)), 0);
	assert_string_equal(path, "/home/u/keepwarm-run");
	memset(file, 'd', sizeof(file) - 1);
	memcpy(file + 100, "/x.conf", sizeof("/x.conf"));
	assert_int_equal(config_run_directory(&c, file, path, sizeof(path)), -ENAMETOOLONG);
	assert_int_equal(seteuid(0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_default_is_a_value_that_the_parser_takes),
		cmocka_unit_test(an_empty_file_gives_the_documented_defaults),
		cmocka_unit_test(every_key_has_a_meaning_that_is_a_sentence),
		cmocka_unit_test(a_key_may_be_in_any_case_and_behind_blanks),
		cmocka_unit_test(tabs_separate_as_spaces_do),
		cmocka_unit_test(blanks_around_a_value_are_cut_and_those_within_kept),
		cmocka_unit_test(quotes_are_a_part_of_the_value),
		cmocka_unit_test(a_comment_begins_anywhere),
		cmocka_unit_test(carriage_returns_at_line_ends_do_not_matter),
		cmocka_unit_test(the_last_line_may_lack_its_line_feed),
		cmocka_unit_test(lines_of_blanks_are_skipped),
		cmocka_unit_test(the_line_that_set_a_key_is_known),
		cmocka_unit_test(the_last_of_two_equal_keys_wins),
		cmocka_unit_test(a_key_without_a_value_is_an_error),
		cmocka_unit_test(every_problem_is_reported_with_its_line),
		cmocka_unit_test(numbers_have_bounds_and_a_unit),
		cmocka_unit_test(what_is_no_plain_number_is_an_error),
		cmocka_unit_test(bytes_may_be_given_in_k_and_m),
		cmocka_unit_test(a_port_may_be_a_service_name),
		cmocka_unit_test(booleans_are_understood_as_the_old_program_did),
		cmocka_unit_test(on_and_1_mean_yes_with_a_warning),
		cmocka_unit_test(other_booleans_are_errors),
		cmocka_unit_test(names_are_one_of_a_list),
		cmocka_unit_test(pairs_are_two_numbers_the_smaller_first),
		cmocka_unit_test(texts_are_bounded),
		cmocka_unit_test(the_mail_host_must_be_one),
		cmocka_unit_test(over_long_lines_and_nul_bytes_are_errors),
		cmocka_unit_test(couriers_foreign_is_known_and_does_nothing),
		cmocka_unit_test(unknown_keys_are_warnings_with_the_nearest_key),
		cmocka_unit_test(a_secret_behind_an_equals_sign_is_not_reported),
		cmocka_unit_test(what_is_printed_can_be_parsed_to_the_same),
		cmocka_unit_test(printing_into_too_little_room_is_refused),
		cmocka_unit_test(secrets_are_printed_as_stars),
		cmocka_unit_test(a_too_long_secret_is_not_reported),
		cmocka_unit_test(a_master_separator_is_one_character_of_no_name),
		cmocka_unit_test(equal_and_different_keys_are_told_apart),
		cmocka_unit_test(the_run_directory_is_bounded_by_socket_addresses),
		cmocka_unit_test(the_default_run_directory_depends_on_the_user),
	};

	return cmocka_run_group_tests(tests, NULL, wipe_config);
}
