/* The verb table and the words of CONDSTORE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxyd/verbs.h"

static const struct {
	const char *name;
	enum verb_class class;
} rows[] = {
#define ROW(name, class) {#name, VERB_##class},
	VERB_TABLE(ROW)};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

static enum verb_class class_of(const char *verb, const char *second, const char *site)
{
	return verb_class_of(span_str(verb), span_str(second), span_str(site));
}

static void every_row_is_found_in_any_case(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < ROWS; i++) {
		char lower[40];
		size_t n = strlen(rows[i].name);

		for (size_t j = 0; j < n; j++)
			lower[j] = (char)(rows[i].name[j] | (j % 2 ? 0x20 : 0));
		enum verb_class expected = rows[i].class == VERB_UID ? VERB_NEVER : rows[i].class;

		assert_int_equal(class_of(rows[i].name, "", ""), expected);
		assert_int_equal(verb_class_of((struct span){lower, n}, SPAN_NONE, SPAN_NONE),
				 expected);
	}
}

static void no_verb_has_two_rows(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < ROWS; i++)
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(rows[i].name, rows[j].name);
}

static void a_verb_cut_short_or_made_longer_is_unknown(void **unused)
{
	static const char *const known[] = {"ID", "UID", "LIST", "MOVE", "SORT"};

	(void)unused;
	for (size_t i = 0; i < ROWS; i++) {
		char longer[40];
		size_t n = strlen(rows[i].name);

		memcpy(longer, rows[i].name, n);
		longer[n] = 'X';
		assert_int_equal(verb_class_of((struct span){longer, n + 1}, SPAN_NONE, SPAN_NONE),
				 VERB_NEVER);
		bool another = false;

		for (size_t j = 0; j < sizeof(known) / sizeof(known[0]); j++)
			another |= span_eq(span_str(known[j]), (struct span){longer, n - 1});
		if (!another && n > 2)
			for (size_t j = 0; j < ROWS; j++)
				another |= span_eq(span_str(rows[j].name),
						   (struct span){longer, n - 1});
		if (!another)
			assert_int_equal(
				verb_class_of((struct span){longer, n - 1}, SPAN_NONE, SPAN_NONE),
				VERB_NEVER);
	}
}

static void what_is_not_listed_is_never_given_back(void **unused)
{
	static const char *const verbs[] = {"",		 " ",	     "X",   "XCONVUPDATES",
					    "PROXYAUTH", "XMOVE", "{5}", "\"NOOP\"",
					    "NOOP\t",	 "UIDFETCH"};

	(void)unused;
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		assert_int_equal(class_of(verbs[i], "FETCH", ""), VERB_NEVER);
}

static void the_second_word_decides_for_uid(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < ROWS; i++)
		assert_int_equal(class_of("uId", rows[i].name, ""),
				 rows[i].class == VERB_SAFE ? VERB_SAFE : VERB_NEVER);
	assert_int_equal(class_of("UID", "", ""), VERB_NEVER);
	assert_int_equal(class_of("UID", "XFOO", ""), VERB_NEVER);
	assert_int_equal(class_of("NOTIFY", "FETCH", ""), VERB_NEVER);
	assert_int_equal(class_of("RLIST", "", "RLIST"), VERB_NEVER);
	assert_int_equal(class_of("SELECT", "FETCH", ""), VERB_SELECT);
}

static void the_sites_own_verbs_are_safe(void **unused)
{
	(void)unused;
	assert_int_equal(class_of("XFOO", "", "XFOO"), VERB_SAFE);
	assert_int_equal(class_of("xfoo", "", " XBAR  XFOO "), VERB_SAFE);
	assert_int_equal(class_of("XFO", "", "XFOO"), VERB_NEVER);
	assert_int_equal(class_of("XFOOX", "", "XFOO"), VERB_NEVER);
	assert_int_equal(class_of("", "", "XFOO"), VERB_NEVER);
	assert_int_equal(class_of("XFOO XBAR", "", "XFOO XBAR"), VERB_NEVER);
	assert_int_equal(class_of("XFOO", "", "   "), VERB_NEVER);
}

static void the_sites_own_verbs_do_not_change_known_ones(void **unused)
{
	static const char all[] = "SELECT ENABLE LOGOUT IDLE";

	(void)unused;
	assert_int_equal(class_of("SELECT", "", all), VERB_SELECT);
	assert_int_equal(class_of("ENABLE", "", all), VERB_FINGERPRINT);
	assert_int_equal(class_of("LOGOUT", "", all), VERB_LOGOUT);
	assert_int_equal(class_of("IDLE", "", all), VERB_IDLE);
}

static void the_words_of_condstore_are_found_anywhere_in_a_line(void **unused)
{
	static const char *const lines[] = {
		"MODSEQ",
		"a FETCH 1 (MODSEQ)",
		"a STATUS x (HIGHESTMODSEQ)",
		"a SELECT x (CONDSTORE)",
		"condstore",
		"a FETCH 1 FLAGS (CHANGEDSINCE 1)",
		"a STORE 1 (uNCHANGEDsINCE 1) FLAGS x",
		"a SELECT x (QRESYNC (1 2))",
		"mmodseq",
		"cCONDSTORE",
		"x qqresync",
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		assert_true(verb_line_enables(span_str(lines[i])));
}

static void how_condstore_is_turned_on_is_told_from_names_that_look_like_it(void **unused)
{
	static const struct {
		const char *line;
		enum condstore how;
	} ways[] = {
		{ "a STATUS x (HIGHESTMODSEQ)", CONDSTORE_BY_STATUS },
		{ "a status \"a (b\" (MESSAGES highestmodseq)", CONDSTORE_BY_STATUS },
		{ "a STATUS MODSEQ (MESSAGES)", CONDSTORE_NOT },
		{ "a STATUS \"x (HIGHESTMODSEQ)\" (MESSAGES)", CONDSTORE_NOT },
		{ "a STATUS x (MESSAGES)", CONDSTORE_NOT },
		{ "a STATUS x (HIGHESTMODSEQ", CONDSTORE_BY_THE_WAY },
		{ "a STATUS MODSEQ)", CONDSTORE_BY_THE_WAY },
		{ "a SELECT x (CONDSTORE)", CONDSTORE_BY_SELECT },
		{ "a EXAMINE x (condstore)", CONDSTORE_BY_SELECT },
		{ "a SELECT x (QRESYNC (1 1) CONDSTORE)", CONDSTORE_BY_THE_WAY },
		{ "a SELECT CONDSTORE", CONDSTORE_BY_THE_WAY },
		{ "a FETCH 1 MODSEQ", CONDSTORE_BY_THE_WAY },
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		struct span line = span_str(ways[i].line), rest = span_from(line, 2);

		assert_int_equal(verb_condstore(span_word(&rest, ' '), line), ways[i].how);
	}
}

static void other_lines_enable_nothing(void **unused)
{
	static const char *const lines[] = {
		"",	     "a FETCH 1 FLAGS", "MODSE",     "M ODSEQ",	  "CONDSTOR", "CHANGEDSINC",
		"QRESYN",    "a SELECT x",	"MODSE\xd1", "\xcdODSEQ", "-ODSEQ",   "MOD SEQ",
		"CONDST0RE",
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		assert_false(verb_line_enables(span_str(lines[i])));
}

static void a_word_cut_off_at_the_end_enables_nothing(void **unused)
{
	static const char line[] = "a SELECT x (CONDSTORE";

	(void)unused;
	for (size_t n = 0; n < sizeof(line); n++)
		assert_int_equal(verb_line_enables((struct span){line, n}), n >= sizeof(line) - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_row_is_found_in_any_case),
		cmocka_unit_test(no_verb_has_two_rows),
		cmocka_unit_test(a_verb_cut_short_or_made_longer_is_unknown),
		cmocka_unit_test(what_is_not_listed_is_never_given_back),
		cmocka_unit_test(the_second_word_decides_for_uid),
		cmocka_unit_test(the_sites_own_verbs_are_safe),
		cmocka_unit_test(the_sites_own_verbs_do_not_change_known_ones),
		cmocka_unit_test(the_words_of_condstore_are_found_anywhere_in_a_line),
		cmocka_unit_test(how_condstore_is_turned_on_is_told_from_names_that_look_like_it),
		cmocka_unit_test(other_lines_enable_nothing),
		cmocka_unit_test(a_word_cut_off_at_the_end_enables_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
