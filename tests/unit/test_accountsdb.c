/* Writing the table of accounts: what happens to its file while somebody else is about to lock it.
 *
 * flock() stands here, between the library's call and the kernel's, and does what another import
 * may do in that moment.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "lookupd/accountsdb.h"

static char folder[64], table[80], fresh[90];
static int (*meanwhile)(void);

int flock(int fd, int operation)
{
	if (meanwhile)
		assert_int_equal(meanwhile(), 0);
	return (int)syscall(SYS_flock, fd, operation);
}

static int become_the_table(void)
{
	return rename(fresh, table);
}

static int go_away(void)
{
	return unlink(fresh);
}

static void write_text(const char *path, const char *text)
{
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void expect_text(const char *path, const char *text)
{
	char got[32] = "";
	FILE *file = fopen(path, "re");

	assert_non_null(file);
	assert_int_equal(fread(got, 1, sizeof(got) - 1, file), strlen(text));
	assert_string_equal(got, text);
	(void)fclose(file);
}

static void an_import_does_not_empty_what_has_become_the_table_meanwhile(void **unused)
{
	struct accountsdb *t = NULL;
	struct why why = { "" };

	(void)unused;
	write_text(fresh, "another import's");
	meanwhile = become_the_table;
	assert_int_equal(accountsdb_begin(table, -1, &t, &why), -EBUSY);
	assert_null(t);
	assert_non_null(strstr(why.text, "somebody else writes it"));
	expect_text(table, "another import's");
	assert_int_equal(access(fresh, F_OK), -1);
}

static void an_import_does_not_write_what_nobody_will_see(void **unused)
{
	struct accountsdb *t = NULL;
	struct why why = { "" };

	(void)unused;
	write_text(table, "the table");
	meanwhile = go_away;
	assert_int_equal(accountsdb_begin(table, -1, &t, &why), -EBUSY);
	assert_null(t);
	expect_text(table, "the table");
}

static void what_a_killed_import_left_is_in_nobodys_way(void **unused)
{
	struct accountsdb *t = NULL;
	struct why why = { "" };

	(void)unused;
	if (getenv("KEEPWARM_LEAK_CHECK"))
		skip(); /* valgrind has no room for LMDB's map */
	write_text(table, "the table");
	write_text(fresh, "half of one");
	meanwhile = NULL;
	assert_int_equal(accountsdb_begin(table, -1, &t, &why), 0);
	expect_text(table, "the table");
	assert_int_equal(accountsdb_finish(t, &why), 0);
	assert_int_equal(access(fresh, F_OK), -1);
}

static int make_folder(void **unused)
{
	(void)unused;
	(void)snprintf(folder, sizeof(folder), "/tmp/keepwarm-test-XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	(void)snprintf(table, sizeof(table), "%s/table", folder);
	(void)snprintf(fresh, sizeof(fresh), "%s.new", table);
	return 0;
}

static int remove_folder(void **unused)
{
	(void)unused;
	meanwhile = NULL;
	(void)unlink(table);
	(void)unlink(fresh);
	return rmdir(folder);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_import_does_not_empty_what_has_become_the_table_meanwhile),
		TEST(an_import_does_not_write_what_nobody_will_see),
		TEST(what_a_killed_import_left_is_in_nobodys_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
