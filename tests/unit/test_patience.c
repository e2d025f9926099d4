/* What a directory may hold a worker up for, and what not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "lookupd/directories.h"
#include "lookupd/patience.h"

static unsigned longest;

/* Takes the C library's place. */
unsigned alarm(unsigned seconds)
{
	longest = seconds > longest ? seconds : longest;
	return 0;
}

static char path[] = "/tmp/keepwarm-unit-XXXXXX";

static void write_accounts(void)
{
	const char line[] = "anna\thome=/nowhere|uid=1|gid=1|options=mailhost=mail.example\n";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(fchmod(fd, 0600), 0);
	assert_int_equal(write(fd, line, sizeof(line) - 1), sizeof(line) - 1);
	(void)close(fd);
}

static enum found find(const char *place)
{
	static struct account account;
	struct config c;
	char value[100];
	struct directories *d;
	struct why why;
	unsigned line;

	assert_int_equal(config_init(&c), 0);
	(void)snprintf(value, sizeof(value), "%s", place);
	c.directory.count = 1;
	c.directory.items[0] = value;
	c.directory.lines[0] = 1;
	assert_int_equal(directories_new(&c, &d), 0);
	longest = 0;
	const struct driver_question q = { .service = "imap", .user = SPAN("anna"), .client = "" };
	enum found found = directories_ask(d, &q, &account, &line, &why);

	directories_free(d);
	c.directory.count = 0; /* value is not the configuration's to free */
	config_wipe(&c);
	return found;
}

/* All of it, however large, by all workers at once, and on whatever disk: whoever is ended over
 * that never comes to an end. */
static void a_text_file_may_take_its_time(void **unused)
{
	char place[100];

	(void)unused;
	write_accounts();
	(void)snprintf(place, sizeof(place), "userdb:%s", path);
	patience_watch();
	assert_int_equal(find("lmdb:/nowhere"), FOUND_TROUBLE);
	assert_int_equal(longest, PATIENCE_SECONDS);
	assert_int_equal(find(place), FOUND);
	(void)unlink(path);
	assert_int_equal(longest, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(a_text_file_may_take_its_time) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
