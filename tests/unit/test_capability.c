/* Capability lists: the filter's rules, and where a list is found in a line and where it is not. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/sasl.h"
#include "proxyd/capability.h"

static void a_word_is_found_in_any_case_and_only_whole(void **unused)
{
	static const struct {
		const char *list, *name;
		bool found;
	} rows[] = {
		{"IMAP4rev1 IDLE UNSELECT", "IDLE", true},
		{"IMAP4rev1 IDLE UNSELECT", "IMAP4REV1", true},
		{"IMAP4rev1 IDLE UNSELECT", "unselect", true},
		{"  IDLE  ", "IDLE", true},
		{"IMAP4rev1 IDLE UNSELECT", "SELECT", false},
		{"IMAP4rev1 IDLE UNSELECT", "IDL", false},
		{"IMAP4rev1 IDLE UNSELECT", "IDLEX", false},
		{"AUTH=PLAIN", "AUTH", false},
		{"AUTH=PLAIN", "PLAIN", false},
		{"", "IDLE", false},
		{"   ", "IDLE", false},
		{"IDLE", "", false},
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(capability_has(span_str(rows[i].list), span_str(rows[i].name)),
				 rows[i].found);
}

static void assert_filtered(const char *list, const char *hide, const char *expected)
{
	char bytes[400];
	struct buf out = BUF_OVER(bytes);

	assert_int_equal(capability_filter(span_str(list), span_str(hide), &out), 0);
	assert_int_equal(out.len, strlen(expected));
	assert_memory_equal(buf_span(&out).p, expected, out.len);
}

static void what_is_settled_or_cannot_be_kept_up_is_left_out(void **unused)
{
	static const char *const words[] = {
		"AUTH=PLAIN",	   "auth=scram-sha-256", "SASL-IR",	   "STARTTLS",
		"LOGINDISABLED",   "COMPRESS=DEFLATE",	 "UNAUTHENTICATE", "X-UNAUTHENTICATE",
		"LOGIN-REFERRALS", "MAILBOX-REFERRALS",	 "XIMAPPROXY",	   "ximapproxy",
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		assert_filtered(words[i], "", "XIMAPPROXY");
}

static void everything_else_stays_in_its_order(void **unused)
{
	(void)unused;
	assert_filtered("IMAP4rev1 LITERAL+ AUTH=PLAIN IDLE ENABLE XFOO UNSELECT", "",
			"IMAP4rev1 LITERAL+ IDLE ENABLE XFOO UNSELECT XIMAPPROXY");
	assert_filtered("", "", "XIMAPPROXY");
	assert_filtered("  A   B  ", "", "A B XIMAPPROXY");
	assert_filtered("AUTHENTICATE COMPRESS STARTTL LOGIN", "",
			"AUTHENTICATE COMPRESS STARTTL LOGIN XIMAPPROXY");
}

static void hidden_words_are_left_out_whole_and_in_any_case(void **unused)
{
	(void)unused;
	assert_filtered("IMAP4rev1 NOTIFY IDLE IDLEX", "idle NOTIFY", "IMAP4rev1 IDLEX XIMAPPROXY");
	assert_filtered("IMAP4rev1", "XIMAPPROXY IMAP4", "IMAP4rev1 XIMAPPROXY");
}

static void a_list_that_does_not_fit_is_refused(void **unused)
{
	static const char expected[] = "IMAP4rev1 IDLE XIMAPPROXY";
	char bytes[sizeof(expected)];

	(void)unused;
	for (size_t room = 0; room < sizeof(expected) - 1; room++) {
		struct buf out = {.data = bytes, .cap = room};

		assert_int_equal(capability_filter(SPAN("IMAP4rev1 IDLE"), SPAN_NONE, &out),
				 -ENOBUFS);
	}
	struct buf out = {.data = bytes, .cap = sizeof(expected) - 1};

	assert_int_equal(capability_filter(SPAN("IMAP4rev1 IDLE"), SPAN_NONE, &out), 0);
}

static void the_proxys_own_list_passes_no_rule_it_should_not(void **unused)
{
	char bytes[CAPABILITY_OWN_MAX + 1];
	struct buf out = BUF_OVER(bytes);

	(void)unused;
	assert_int_equal(capability_add_own(true, true, ~0u, &out), 0);
	assert_true(out.len <= CAPABILITY_OWN_MAX);
	assert_true(capability_has(buf_span(&out), SPAN("XIMAPPROXY")));
	assert_false(capability_has(buf_span(&out), SPAN("IDLE")));
	bytes[out.len] = '\0';
	assert_filtered(bytes, "", "IMAP4rev1 LITERAL+ ID ENABLE XIMAPPROXY");
}

static void assert_own(bool starttls, bool may_log_in, uint32_t mechanisms, const char *expected)
{
	char bytes[CAPABILITY_OWN_MAX];
	struct buf out = BUF_OVER(bytes);

	assert_int_equal(capability_add_own(starttls, may_log_in, mechanisms, &out), 0);
	assert_true(span_eq(buf_span(&out), span_str(expected)));
	for (size_t room = 0; room < strlen(expected); room++) {
		out = (struct buf){.data = bytes, .cap = room};
		assert_int_equal(capability_add_own(starttls, may_log_in, mechanisms, &out),
				 -ENOBUFS);
	}
}

static void the_proxys_own_list_has_the_mechanisms_of_the_site(void **unused)
{
	(void)unused;
	assert_own(false, true, SASL_PLAIN | SASL_LOGIN,
		   "IMAP4rev1 LITERAL+ SASL-IR ID ENABLE AUTH=PLAIN AUTH=LOGIN XIMAPPROXY");
	assert_own(false, true, 0, "IMAP4rev1 LITERAL+ SASL-IR ID ENABLE XIMAPPROXY");
	assert_own(false, true, SASL_TOKENS,
		   "IMAP4rev1 LITERAL+ SASL-IR ID ENABLE AUTH=XOAUTH2 AUTH=OAUTHBEARER "
		   "XIMAPPROXY");
}

static void tls_changes_the_proxys_own_list(void **unused)
{
	(void)unused;
	assert_own(true, true, SASL_PLAIN,
		   "IMAP4rev1 LITERAL+ SASL-IR ID ENABLE STARTTLS AUTH=PLAIN XIMAPPROXY");
	assert_own(true, false, SASL_PLAIN,
		   "IMAP4rev1 LITERAL+ SASL-IR ID ENABLE STARTTLS LOGINDISABLED XIMAPPROXY");
	assert_own(false, false, SASL_PLAIN,
		   "IMAP4rev1 LITERAL+ SASL-IR ID ENABLE LOGINDISABLED XIMAPPROXY");
}

static void a_list_is_found_in_each_of_its_places(void **unused)
{
	static const struct {
		const char *line, *list;
	} rows[] = {
		{"* CAPABILITY IMAP4rev1 IDLE", "IMAP4rev1 IDLE"},
		{"* capability IMAP4rev1", "IMAP4rev1"},
		{"* OK [CAPABILITY IMAP4rev1 IDLE] ready", "IMAP4rev1 IDLE"},
		{"* ok [Capability A]", "A"},
		{"* PREAUTH [CAPABILITY A B] x", "A B"},
		{"a1 OK [CAPABILITY A B] Logged in [x]", "A B"},
		{"* CAPABILITY ", ""},
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct span list;

		assert_true(capability_in_line(span_str(rows[i].line), &list));
		assert_true(span_eq(list, span_str(rows[i].list)));
	}
}

static void a_list_is_not_found_in_text(void **unused)
{
	static const char *const lines[] = {
		"",
		"*",
		"* ",
		"* OK",
		"* OK ",
		"* OK [",
		"* CAPABILITY",
		"* CAPABILITYX A",
		"* OK [CAPABILITY",
		"* OK [CAPABILITY]",
		"* OK [CAPABILITY A",
		"* OK ready [CAPABILITY A]",
		"* OK  [CAPABILITY A]",
		"* OK [ALERT] [CAPABILITY A]",
		"* NO [CAPABILITY A] x",
		"* BAD [CAPABILITY A]",
		"* BYE [CAPABILITY A]",
		"a NO [CAPABILITY A]",
		"+ [CAPABILITY A]",
		"* LIST () \"/\" [CAPABILITY A]",
		"* OK [CAPABILITYX A]",
		"* STATUS CAPABILITY A",
		"CAPABILITY A",
		"* 1 CAPABILITY A",
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct span list = SPAN("untouched");

		assert_false(capability_in_line(span_str(lines[i]), &list));
		assert_true(span_eq(list, SPAN("untouched")));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_word_is_found_in_any_case_and_only_whole),
		cmocka_unit_test(what_is_settled_or_cannot_be_kept_up_is_left_out),
		cmocka_unit_test(everything_else_stays_in_its_order),
		cmocka_unit_test(hidden_words_are_left_out_whole_and_in_any_case),
		cmocka_unit_test(a_list_that_does_not_fit_is_refused),
		cmocka_unit_test(the_proxys_own_list_passes_no_rule_it_should_not),
		cmocka_unit_test(the_proxys_own_list_has_the_mechanisms_of_the_site),
		cmocka_unit_test(tls_changes_the_proxys_own_list),
		cmocka_unit_test(a_list_is_found_in_each_of_its_places),
		cmocka_unit_test(a_list_is_not_found_in_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
