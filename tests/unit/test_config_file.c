/* imapproxy.conf as a file: by path, by descriptor, or not at all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/config.h"
#include "lib/span.h"

static struct config c;
static char reports[1024];
static int warnings;

static void collect(void *context, bool is_error, const char *line)
{
	size_t used = strlen(reports);

	assert_ptr_equal(context, &c);
	(void)snprintf(reports + used, sizeof(reports) - used, "%c %s\n", is_error ? 'E' : 'W',
		       line);
}

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_is_loaded_by_path_and_by_descriptor),
		cmocka_unit_test(a_file_that_cannot_be_read_is_one_error),
		cmocka_unit_test(problems_without_a_reporter_are_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
