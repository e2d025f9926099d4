/* lib/config_tls: what old and new keys about TLS mean together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/config_tls.h"
#include "tests/unit/config_scene.h"

static void certificates_of_clients_need_more_than_one_key(void **unused)
{
	(void)unused;
	assert_int_equal(parse("auth_mechanisms PLAIN EXTERNAL\ntls_server_cert_file /c\n"
			       "tls_client_ca_file /a\nauth_sasl_plain_username m\n"
			       "auth_sasl_plain_password p\n"),
			 0);
	assert_string_equal(reports, "");
	assert_true(config_offers_external(&c));
	assert_int_equal(parse("auth_mechanisms PLAIN EXTERNAL\n"), 0);
	assert_non_null(strstr(reports, "EXTERNAL is offered to nobody without tls_client_"));
	assert_non_null(strstr(reports, "EXTERNAL: nobody could log in at the mail host"));
	assert_int_equal(parse("tls_client_ca_file /a\n"), 0);
	assert_non_null(strstr(reports, "W f:1: tls_client_ca_file: has no effect"));
	assert_false(config_offers_external(&c));
	assert_int_equal(parse("auth_sasl_plain_username m\nauth_sasl_plain_password p\n"), 0);
	assert_non_null(strstr(reports, "not all three are set"));
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

static void what_does_not_go_together_is_said_with_its_line(void **unused)
{
	static const struct {
		const char *text;
		const char *begin; /* of the one report; NULL: there is none */
	} cases[] = {
		{ "", NULL },
		{ "\nimaps_listen_port 993\n", "E f:2: imaps_listen_port: needs a certificate" },
		{ "imaps_listen_port 993\ntls_server_cert_file /a\n", NULL },
		{ "imaps_listen_port 993\ntls_server_cert_file /a\nlisten_port 993\n",
		  "E f:1: imaps_listen_port: is the same as listen_port" },
		{ "\npop3s_listen_port 995\n", "E f:2: pop3s_listen_port: needs a certificate" },
		{ "pop3s_listen_port 995\ntls_server_cert_file /a\npop3_listen_port 110\n", NULL },
		{ "pop3_listen_port 143\n", "E f:1: pop3_listen_port: is the same as listen_port" },
		{ "pop3_listen_port 95\npop3s_listen_port 95\ntls_server_cert_file /a\n",
		  "E f:2: pop3s_listen_port: is the same as another" },
		{ "require_tls yes\n", "E f:1: require_tls: " },
		{ "require_tls yes\ntls_server_cert_file /a\n", NULL },
		{ "tls_server_cert_file /a /b\ntls_server_key_file /a\n",
		  "E f:2: tls_server_key_file: there must be one" },
		{ "tls_server_key_file /a\n", "E f:1: tls_server_key_file: there must be one" },
		{ "tls_server_cert_file /a /b\ntls_server_key_file  /c  /d\n", NULL },
		{ "tls_server_cert_file /a /b\n", NULL },
		{ "force_tls yes\n", "W f:1: force_tls: certificates of mail hosts are not ver" },
		{ "server_tls none\nforce_tls yes\n", "E f:2: force_tls: yes wants TLS" },
		{ "force_tls yes\ntls_verify_server yes\n", NULL },
		{ "force_tls yes\nserver_tls starttls\n", NULL },
		{ "force_tls no\nserver_tls none\n", NULL },
		{ "server_tls implicit\ntls_verify_server no\n", "W f:2: tls_verify_server: cert" },
		{ "tls_verify_server no\n", NULL },
		{ "tls_verify_server yes\n", NULL },
		{ "tls_no_tlsv1 no\n", "W f:1: tls_no_tlsv1: TLS 1.0" },
		{ "tls_no_tlsv1.1 no\n", "W f:1: tls_no_tlsv1.1: TLS 1.1" },
		{ "tls_no_tlsv1 yes\ntls_no_tlsv1.1 yes\ntls_no_tlsv1.2 no\n", NULL },
		{ "tls_key_file /a\n", "W f:1: tls_key_file: has no effect" },
		{ "server_port 993\nserver_tls implicit\n", NULL },
		{ "server_port 993\n", "W f:1: server_port: 993 is for TLS" },
		{ "pop3_server_port 995\nserver_tls implicit\n", NULL },
		{ "pop3_server_port 995\n", "W f:1: pop3_server_port: 995 is for TLS" },
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *begin = cases[i].begin;

		assert_int_equal(parse(cases[i].text), begin && *begin == 'E');
		if (!begin)
			assert_string_equal(reports, "");
		else if (strncmp(reports, begin, strlen(begin)) != 0 ||
			 strchr(reports, '\n')[1] != '\0')
			fail_msg("%s says: %s", cases[i].text, reports);
	}
}

static void what_is_printed_means_the_same(void **unused)
{
	static const char *const cases[] = {
		"",
		"force_tls yes\n",
		"force_tls yes\ntls_verify_server yes\n",
		"server_tls implicit\n",
		"server_tls implicit\nserver_port 1993\ntls_verify_server no\n",
		"server_tls starttls\ntls_no_tlsv1.2 yes\n",
	};
	static char text[32768];

	(void)unused;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(parse(cases[i]), 0);
		enum tls_mode mode = config_tls_mode(&c);
		bool verifies = config_tls_verifies(&c);
		uint32_t port = config_server_port(&c), version = config_tls_min_version(&c);

		assert_true(config_print(&c, text, sizeof(text)) > 0);
		assert_int_equal(parse(text), 0);
		assert_int_equal(config_tls_mode(&c), mode);
		assert_int_equal(config_tls_verifies(&c), verifies);
		assert_int_equal(config_server_port(&c), port);
		assert_int_equal(config_tls_min_version(&c), version);
	}
}

static void tls_is_used_on_either_side(void **unused)
{
	static const struct {
		const char *text;
		bool used;
	} cases[] = {
		{ "", false },
		{ "tls_ca_file /a\nserver_tls none\n", false },
		{ "force_tls yes\n", true },
		{ "server_tls implicit\n", true },
		{ "tls_server_cert_file /a\n", true },
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(parse(cases[i].text), 0);
		assert_int_equal(config_tls_used(&c), cases[i].used);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(certificates_of_clients_need_more_than_one_key),
		cmocka_unit_test(the_mode_of_tls_follows_from_old_and_new_keys),
		cmocka_unit_test(the_oldest_version_of_tls_follows_from_old_and_new_keys),
		cmocka_unit_test(what_does_not_go_together_is_said_with_its_line),
		cmocka_unit_test(what_is_printed_means_the_same),
		cmocka_unit_test(tls_is_used_on_either_side),
	};

	return cmocka_run_group_tests(tests, NULL, wipe_config);
}
