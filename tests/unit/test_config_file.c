/* imapproxy.conf as a file: by path, by descriptor, or not at all; and what only several values or
 * keys together show. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/span.h"
#include "tests/unit/config_scene.h"

static void a_file_is_loaded_by_path_and_by_descriptor(void **unused)
{
	char name[] = "/tmp/keepwarm-config-XXXXXX";
	static const char text[] = "cache_size 9\n";
	int fd = mkstemp(name);

	(void)unused;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
	config_wipe(&c);
	assert_int_equal(config_load(&c, name, -1, collect, &c, &warnings), 0);
	assert_int_equal(c.cache_size, 9);
	config_wipe(&c);
	/* From its start, wherever its offset is; the path is a name only. */
	assert_int_equal(config_load(&c, "/nowhere", fd, collect, &c, &warnings), 0);
	assert_int_equal(c.cache_size, 9);
	close(fd);
	assert_int_equal(unlink(name), 0);
}

static void a_file_that_cannot_be_read_is_one_error(void **unused)
{
	(void)unused;
	config_wipe(&c);
	reports[0] = '\0';
	assert_int_equal(config_load(&c, "/nowhere/x.conf", -1, collect, &c, NULL), 1);
	assert_string_equal(reports,
			    "E /nowhere/x.conf: cannot be read: No such file or directory\n");
	assert_null(c.server_hostname);
	reports[0] = '\0';
	assert_int_equal(config_load(&c, "/tmp", -1, collect, &c, NULL), 1);
	assert_string_equal(reports, "E /tmp: cannot be read: Is a directory\n");
	config_wipe(&c);
}

static void problems_without_a_reporter_are_counted(void **unused)
{
	(void)unused;
	config_wipe(&c);
	assert_int_equal(config_init(&c), 0);
	assert_int_equal(config_parse(&c, "f", "cache_size x\n", 13, NULL, NULL, NULL), 1);
	config_wipe(&c);
}

static void a_master_login_takes_three_keys(void **unused)
{
	(void)unused;
	assert_int_equal(parse("auth_sasl_plain_username u\nauth_sasl_plain_password p\n"
			       "auth_shared_secret s\n"),
			 0);
	assert_string_equal(reports, "");
	assert_int_equal(parse("auth_sasl_plain_username u\nauth_shared_secret s\n"), 0);
	assert_string_equal(reports,
			    "W f:2: auth_sasl_plain_username, auth_sasl_plain_password, "
			    "auth_shared_secret: not all three are set, so none has an effect\n");
	assert_int_equal(parse("auth_sasl_plain_username u\nauth_sasl_plain_password p\n"
			       "auth_shared_secret s\nrun_listener no\n"),
			 0);
	assert_int_equal(warnings, 1);
	config_wipe(&c);
}

static void a_port_for_tls_is_a_warning(void **unused)
{
	(void)unused;
	assert_int_equal(parse("server_hostname h\nserver_port 993\n"), 0);
	assert_string_equal(reports, "W f:2: server_port: 993 is for TLS from the first byte on; "
				     "set server_tls implicit\n");
	config_wipe(&c);
}

static void a_list_of_networks_is_checked(void **unused)
{
	(void)unused;
	assert_int_equal(parse("allow_addresses 10.0.0.0/8, ::1\ndeny_addresses none\n"), 0);
	assert_string_equal(reports, "");
	assert_int_equal(parse("\nallow_addresses 10.0.0.0/8 10.0.0.0/33\n"), 1);
	assert_string_equal(reports,
			    "E f:2: allow_addresses: '10.0.0.0/33' is not allowed: give all, none, "
			    "or networks like 10.0.0.0/8 2001:db8::/32 ::1\n");
	assert_int_equal(parse("deny_addresses 10.0.0.1/8\n"), 1);
	assert_string_equal(reports, "E f:1: deny_addresses: '10.0.0.1/8' is not allowed: bits are "
				     "set behind the network's length\n");
	config_wipe(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_is_loaded_by_path_and_by_descriptor),
		cmocka_unit_test(a_file_that_cannot_be_read_is_one_error),
		cmocka_unit_test(problems_without_a_reporter_are_counted),
		cmocka_unit_test(a_master_login_takes_three_keys),
		cmocka_unit_test(a_port_for_tls_is_a_warning),
		cmocka_unit_test(a_list_of_networks_is_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
