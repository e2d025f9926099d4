/* lib/config_tls: what old and new keys about TLS mean together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/config_tls.h"

static struct config c;

static int parse(const char *text)
{
	config_wipe(&c);
	assert_int_equal(config_init(&c), 0);
	return config_parse(&c, "f", text, strlen(text), NULL, NULL, NULL);
}

static int teardown(void **unused)
{
	(void)unused;
	config_wipe(&c);
	return 0;
}

static void the_mode_of_tls_follows_from_old_and_new_keys(void **unused)
{
	static const struct {
		const char *text;
		enum tls_mode mode;
		bool verifies;
		unsigned port;
	} cases[] = {
		{ "", TLS_NONE, true, 143 },
		{ "force_tls yes\n", TLS_STARTTLS, false, 143 },
		{ "force_tls yes\ntls_verify_server yes\n", TLS_STARTTLS, true, 143 },
		{ "force_tls yes\nserver_tls starttls\n", TLS_STARTTLS, true, 143 },
		{ "force_tls yes\nserver_tls implicit\n", TLS_IMPLICIT, true, 993 },
		{ "server_tls starttls\n", TLS_STARTTLS, true, 143 },
		{ "server_tls implicit\n", TLS_IMPLICIT, true, 993 },
		{ "server_tls implicit\nserver_port 1993\n", TLS_IMPLICIT, true, 1993 },
		{ "server_tls implicit\ntls_verify_server no\n", TLS_IMPLICIT, false, 993 },
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(parse(cases[i].text), 0);
		assert_int_equal(config_tls_mode(&c), cases[i].mode);
		assert_int_equal(config_tls_verifies(&c), cases[i].verifies);
		assert_int_equal(config_server_port(&c), cases[i].port);
	}
}

static void the_oldest_version_of_tls_follows_from_old_and_new_keys(void **unused)
{
	(void)unused;
	assert_int_equal(parse(""), 0);
	assert_int_equal(config_tls_min_version(&c), 12);
	assert_int_equal(parse("tls_no_tlsv1.2 yes\n"), 0);
	assert_int_equal(config_tls_min_version(&c), 13);
	assert_int_equal(parse("tls_min_version 1.3\n"), 0);
	assert_int_equal(config_tls_min_version(&c), 13);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_mode_of_tls_follows_from_old_and_new_keys),
		cmocka_unit_test(the_oldest_version_of_tls_follows_from_old_and_new_keys),
	};

	return cmocka_run_group_tests(tests, NULL, teardown);
}
