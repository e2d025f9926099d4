/* What SQL and LDAP directories are asked: nothing that a client says may be more than a value. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lookupd/ldapquery.h"
#include "lookupd/sqlquery.h"

static struct authrc rc;
static struct why why;
static char text[SQL_QUERY_MAX];

static int parse(const char *settings)
{
	authrc_wipe(&rc);
	return authrc_parse(&rc, strdup(settings), strlen(settings), &why);
}

/* Marks what was quoted. */
static int quote(void *context, struct span value, struct buf *out)
{
	(void)context;
	return buf_add_char(out, '<') || buf_add(out, value) || buf_add_char(out, '>') ? -ENOBUFS
										       : 0;
}

static const char *query_of(const char *settings, const char *user)
{
	struct buf out = { .data = text, .cap = sizeof(text) - 1 };

	assert_int_equal(parse(settings), 0);
	assert_int_equal(sql_build(&rc, "MYSQL_", "imap", span_str(user), quote, NULL, &out), 0);
	text[out.len] = '\0';
	return text;
}

static const char *filter_of(const char *settings, struct span user)
{
	struct buf out = { .data = text, .cap = sizeof(text) - 1 };

	assert_int_equal(parse(settings), 0);
	assert_int_equal(ldap_filter_build(&rc, user, &out), 0);
	text[out.len] = '\0';
	return text;
}

static void settings_are_read_as_courier_writes_them(void **unused)
{
	(void)unused;
	assert_int_equal(parse("##VERSION: $Id$\n\n##NAME: A:0\n#A\t\tno\nA\t\tone two \t\r\n"
			       "A second\nB\n  C x \\\n\ty\nD 12\nE 12x"),
			 0);
	assert_string_equal(authrc_get(&rc, "A", "-"), "one two");
	assert_string_equal(authrc_get(&rc, "B", "-"), "");
	assert_string_equal(authrc_get(&rc, "C", "-"), "x   \ty");
	assert_string_equal(authrc_get(&rc, "F", "-"), "-");
	assert_int_equal(authrc_number(&rc, "D", 7), 12);
	assert_int_equal(authrc_number(&rc, "E", 7), 7);
	assert_int_equal(parse("A\\B c\\d\\"), 0);
	assert_string_equal(authrc_get(&rc, "A\\B", "-"), "c\\d\\");
}

static void odd_settings_are_refused(void **unused)
{
	char many[AUTHRC_SETTINGS_MAX * 8 + 16] = "";

	(void)unused;
	for (int i = 0; i <= AUTHRC_SETTINGS_MAX; i++)
		(void)snprintf(many + strlen(many), 8, "S%d x\n", i % 1000);
	assert_int_equal(parse(many), -EINVAL);
	authrc_wipe(&rc);
	assert_int_equal(authrc_parse(&rc, calloc(1, 4), 3, &why), -EINVAL);
}

static void the_query_is_couriers(void **unused)
{
	(void)unused;
	assert_string_equal(
		query_of("MYSQL_USER_TABLE passwd\nMYSQL_CRYPT_PWFIELD crypt\nMYSQL_CLEAR_PWFIELD "
			 "clear\nMYSQL_NAME_FIELD name\nMYSQL_AUXOPTIONS_FIELD "
			 "CONCAT(\"mailhost=\",mailhost)",
			 "my@example.com"),
		"SELECT id, crypt, clear, uid, gid, home, '', '', name, "
		"CONCAT(\"mailhost=\",mailhost) FROM passwd WHERE id = '<my@example.com>' AND "
		"(1=1)");
	assert_string_equal(query_of("MYSQL_USER_TABLE t\nMYSQL_AUXOPTIONS o\nMYSQL_LOGIN_FIELD l\n"
				     "MYSQL_WHERE_CLAUSE a=1 OR b=1\nDEFAULT_DOMAIN d",
				     "my"),
			    "SELECT l, '', '', uid, gid, home, '', '', '', o FROM t WHERE l = "
			    "'<my><@><d>' AND (a=1 OR b=1)");
}

static void variables_of_an_own_query_are_quoted_values(void **unused)
{
	(void)unused;
	assert_string_equal(query_of("MYSQL_SELECT_CLAUSE f('$(local_part)', \\\n"
				     "'$(domain)','$(service)','$(x)', $ 1 $(",
				     "a@b@c"),
			    "f('<a@b>',   '<c>','<imap>','', $ 1 $(");
	assert_string_equal(
		query_of("DEFAULT_DOMAIN d\nMYSQL_SELECT_CLAUSE $(local_part) $(domain)",
			 "$(domain)"),
		"<$(domain)> <d>");
}

static void settings_that_cannot_ask_are_refused(void **unused)
{
	(void)unused;
	assert_int_equal(parse("MYSQL_PORT 1"), 0);
	assert_int_equal(sql_check(&rc, "MYSQL_", &why), -EINVAL);
	assert_string_equal(why.text, "MYSQL_USER_TABLE or MYSQL_SELECT_CLAUSE is missing");
	assert_int_equal(parse("MYSQL_USER_TABLE x"), 0);
	assert_int_equal(sql_check(&rc, "MYSQL_", &why), 0);
}

static enum found account_of(struct account *a, const char *const *values, size_t count)
{
	struct span columns[SQL_COLUMNS];

	for (size_t i = 0; i < count; i++)
		columns[i] = values[i] ? span_str(values[i]) : (struct span){ NULL, 0 };
	assert_int_equal(account_init(a, SPAN("typed")), 0);
	return sql_account(columns, count, a, &why);
}

static void rows_become_accounts(void **unused)
{
	const char *row[SQL_COLUMNS] = { "my",	 NULL, "",   "1",  "1",
					 "home", NULL, NULL, NULL, "mailhost=h" };
	struct account a;

	(void)unused;
	assert_int_equal(account_of(&a, row, SQL_COLUMNS), FOUND);
	assert_string_equal(a.user, "my");
	assert_string_equal(a.hosts[0].name, "h");
	assert_string_equal(a.password, "");
	row[0] = NULL;
	row[9] = NULL; /* CONCAT of a NULL */
	assert_int_equal(account_of(&a, row, SQL_COLUMNS), FOUND);
	assert_string_equal(a.user, "typed");
	assert_int_equal(a.host_count, 0);
	assert_int_equal(account_of(&a, row, 6), FOUND);
	assert_int_equal(account_of(&a, row, 5), FOUND_TROUBLE);
	static const struct {
		int column;
		const char *value;
	} none[] = { { 3, "0" },  { 4, "0" }, { 3, "x" }, { 4, "-1" },
		     { 3, NULL }, { 5, "" },  { 5, NULL } };

	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		const char *before = row[none[i].column];

		row[none[i].column] = none[i].value;
		assert_int_equal(account_of(&a, row, SQL_COLUMNS), FOUND_NOT);
		row[none[i].column] = before;
	}
	row[9] = "mailhost=a/b";
	assert_int_equal(account_of(&a, row, SQL_COLUMNS), FOUND_TROUBLE);
}

static void a_name_is_a_value_in_a_filter(void **unused)
{
	(void)unused;
	assert_string_equal(filter_of("", SPAN("anna")), "(mail=anna)");
	assert_string_equal(filter_of("LDAP_MAIL uid\nLDAP_FILTER (objectClass=x)\nLDAP_DOMAIN d.e",
				      SPAN("anna")),
			    "(&(objectClass=x)(uid=anna@d.e))");
	assert_string_equal(filter_of("LDAP_DOMAIN d", SPAN("anna@x")), "(mail=anna@x)");
	assert_string_equal(filter_of("", SPAN("*)(uid=\\a\0b)|&\xc3\xbc c")),
			    "(mail=\\2a\\29\\28uid=\\5ca\\00b\\29|&\\c3\\bc c)");
}

static const char *mapped(const char *settings, const char *user)
{
	struct buf out = { .data = text, .cap = sizeof(text) - 1 };

	assert_int_equal(parse(settings), 0);
	assert_true(ldap_has_emailmap(&rc));
	if (ldap_emailmap_build(&rc, span_str(user), &out) < 0)
		return "none";
	text[out.len] = '\0';
	return text;
}

static void an_email_map_is_asked_for_the_handle_first(void **unused)
{
	static const char settings[] = "LDAP_EMAILMAP (&(uid=@user@)(r=@realm@)(x=@USER))\n"
				       "LDAP_FILTER (a=b)\nLDAP_MAIL m\n";
	char more[200];
	struct buf out = { .data = text, .cap = sizeof(text) - 1 };

	(void)unused;
	assert_string_equal(mapped(settings, "anna@d.e"), "(&(uid=anna)(r=d.e)(x=@USER))");
	assert_string_equal(mapped(settings, "*)(@realm@"),
			    "(&(uid=\\2a\\29\\28)(r=realm@)(x=@USER))");
	assert_string_equal(mapped(settings, "anna"), "none");
	(void)snprintf(more, sizeof(more), "%sLDAP_DOMAIN f.g\nLDAP_EMAILMAP_MAIL h\n", settings);
	assert_string_equal(mapped(more, "anna"), "(&(uid=anna)(r=f.g)(x=@USER))");
	assert_int_equal(ldap_handle_build(&rc, SPAN("a*"), &out), 0);
	text[out.len] = '\0';
	assert_string_equal(text, "(&(a=b)(h=a\\2a))");
	assert_int_equal(parse(settings), 0);
	out.len = 0;
	assert_int_equal(ldap_handle_build(&rc, SPAN("a"), &out), 0);
	text[out.len] = '\0';
	assert_string_equal(text, "(&(a=b)(m=a))");
}

static void options_of_attributes(void **unused)
{
	struct ldap_options o;
	struct account a;
	char longer[200];

	(void)unused;
	assert_int_equal(ldap_options_parse("mailHost=mailhost, x = y ,flag", &o), 0);
	assert_int_equal(o.count, 3);
	assert_string_equal(o.pairs[0].attribute, "mailHost");
	assert_string_equal(o.pairs[0].option, "mailhost");
	assert_string_equal(o.pairs[2].option, "flag");
	memset(longer, 'a', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(ldap_options_parse(longer, &o), -EINVAL);
	assert_int_equal(ldap_options_parse("", &o), 0);
	assert_int_equal(o.count, 0);
	assert_int_equal(account_init(&a, SPAN("anna")), 0);
	assert_int_equal(ldap_option_add(&a, "mailhost", SPAN("h")), 0);
	assert_int_equal(ldap_option_add(&a, "wb", SPAN("x,disableimap=0")), -EINVAL);
	assert_string_equal(a.options, "mailhost=h");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(settings_are_read_as_courier_writes_them),
		cmocka_unit_test(odd_settings_are_refused),
		cmocka_unit_test(the_query_is_couriers),
		cmocka_unit_test(variables_of_an_own_query_are_quoted_values),
		cmocka_unit_test(settings_that_cannot_ask_are_refused),
		cmocka_unit_test(rows_become_accounts),
		cmocka_unit_test(a_name_is_a_value_in_a_filter),
		cmocka_unit_test(an_email_map_is_asked_for_the_handle_first),
		cmocka_unit_test(options_of_attributes),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	authrc_wipe(&rc);
	return failed;
}
