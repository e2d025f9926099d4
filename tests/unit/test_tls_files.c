/* lib/tls_files and the archive that imapproxyd/tlsfiles makes of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "imapproxyd/tlsfiles.h"
#include "lib/fd.h"
#include "lib/tls_files.h"
#include "tests/unit/config_scene.h"

#define CONFIG_MAX 2048

static char folder[64];

/* Every @ of the text becomes the folder. */
static void parse_here(const char *text)
{
	char whole[CONFIG_MAX] = "";
	size_t used = 0;

	for (; *text; text++)
		used += (size_t)snprintf(whole + used, sizeof(whole) - used, "%.*s",
					 *text == '@' ? 64 : 1, *text == '@' ? folder : text);
	assert_int_equal(parse_bytes(whole, used), 0);
	reports[0] = '\0';
}

static void write_file(const char *name, const char *text, size_t n, mode_t mode)
{
	char path[128];

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	(void)unlink(path);
	AUTO_FD fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

	assert_true(fd >= 0);
	assert_int_equal(fchmod(fd, mode), 0);
	for (size_t done = 0; done < n;) {
		ssize_t wrote = write(fd, text + done, n - done);

		assert_true(wrote > 0);
		done += (size_t)wrote;
	}
}

static void expect(size_t i, const char *key, const char *path, bool secret)
{
	struct tls_file file;

	assert_true(tls_files_at(&c, i, &file));
	assert_string_equal(file.key, key);
	assert_true(span_eq(file.path, span_str(path)));
	assert_int_equal(file.secret, secret);
	assert_int_equal(file.directory, strcmp(key, "tls_ca_path") == 0);
}

static void files_are_those_of_the_side_that_has_tls(void **unused)
{
	struct tls_file file;

	(void)unused;
	parse_here("tls_ca_file /ca\ntls_cert_file /c\ntls_ca_path /p\n");
	assert_false(tls_files_at(&c, 0, &file));
	parse_here("tls_ca_file /ca\ntls_cert_file /c\ntls_ca_path /p\nserver_tls starttls\n");
	expect(0, "tls_cert_file", "/c", true);
	expect(1, "tls_ca_file", "/ca", false);
	expect(2, "tls_ca_path", "/p", false);
	assert_false(tls_files_at(&c, 3, &file));
	parse_here("tls_server_cert_file /a  /b\ntls_server_key_file /k /l\ntls_ca_file /ca\n");
	expect(0, "tls_server_cert_file", "/a", false);
	expect(1, "tls_server_cert_file", "/b", false);
	expect(2, "tls_server_key_file", "/k", true);
	expect(3, "tls_server_key_file", "/l", true);
	assert_false(tls_files_at(&c, 4, &file));
}

static void a_file_that_cannot_be_used_is_an_error(void **unused)
{
	static const char *const cases[][2] = {
		{ "@/none", "No such file" }, { "none", "begins with /" },
		{ "@", "no plain file" },     { "@/empty", "empty" },
		{ "@/fifo", "no plain file" }, { "@/large", "larger" },
	};
	static char large[TLS_FILE_MAX + 1];
	char text[128], path[128];

	(void)unused;
	write_file("empty", "", 0, 0600);
	write_file("large", large, sizeof(large), 0600);
	(void)snprintf(path, sizeof(path), "%s/fifo", folder);
	assert_int_equal(mkfifo(path, 0600), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		(void)snprintf(text, sizeof(text), "\ntls_server_cert_file %s\n", cases[i][0]);
		parse_here(text);
		assert_int_equal(tls_files_check(&c, "f", collect, &c, NULL), 1);
		assert_int_equal(strncmp(reports, "E f:2: tls_server_cert_file: ", 29), 0);
		if (!strstr(reports, cases[i][1]))
			fail_msg("%s: %s", cases[i][0], reports);
		assert_int_equal(tlsfiles_copy(&c, "f"), -EINVAL);
	}
}

static void a_key_that_everybody_can_read_is_a_warning(void **unused)
{
	int so_far = 0;

	(void)unused;
	write_file("cert", "C", 1, 0644);
	write_file("key", "K", 1, 0644);
	parse_here("tls_server_cert_file @/cert\ntls_server_key_file @/key\n");
	assert_int_equal(tls_files_check(&c, "f", collect, &c, &so_far), 0);
	assert_int_equal(so_far, 1);
	assert_int_equal(strncmp(reports, "W f:2: tls_server_key_file: every user", 38), 0);
	write_file("key", "K", 1, 0640);
	assert_int_equal(tls_files_check(&c, "f", collect, &c, &so_far), 0);
	assert_int_equal(so_far, 1);
	/* the key is in the certificate's file then */
	parse_here("tls_server_cert_file @/cert\n");
	assert_int_equal(tls_files_check(&c, "f", collect, &c, &so_far), 0);
	assert_int_equal(so_far, 2);
}

/* Reads the entry at *at of the archive: its data, and *ret_path. */
static struct span entry(const char *bytes, size_t n, size_t *at, struct span *ret_path)
{
	uint32_t head[2];

	assert_true(n - *at >= sizeof(head));
	memcpy(head, bytes + *at, sizeof(head));
	*at += sizeof(head);
	assert_true(n - *at >= (size_t)head[0] + head[1]);
	*ret_path = (struct span){ bytes + *at, head[0] };
	*at += head[0] + head[1];
	return (struct span){ bytes + *at - head[1], head[1] };
}

static void expect_entry(const char *bytes, size_t n, size_t *at, const char *name,
			 const char *data)
{
	char path[128];
	struct span found_path, found = entry(bytes, n, at, &found_path);

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	assert_true(span_eq(found_path, span_str(path)));
	assert_true(span_eq(found, span_str(data)));
}

static void the_archive_has_each_file_once_and_can_be_replaced(void **unused)
{
	char bytes[4096];
	size_t at = 0;

	(void)unused;
	write_file("cert", "the certificate", 15, 0644);
	write_file("key", "the key", 7, 0600);
	parse_here("tls_server_cert_file @/cert @/both\ntls_server_key_file @/key @/both\n");
	write_file("both", "both", 4, 0600);
	AUTO_FD archive = tlsfiles_copy(&c, "f");

	assert_true(archive >= 0);
	ssize_t n = pread(archive, bytes, sizeof(bytes), 0);

	assert_true(n > 0);
	expect_entry(bytes, (size_t)n, &at, "cert", "the certificate");
	expect_entry(bytes, (size_t)n, &at, "both", "both");
	expect_entry(bytes, (size_t)n, &at, "key", "the key");
	assert_int_equal(at, n);

	write_file("cert", "new", 3, 0644);
	parse_here("tls_server_cert_file @/cert\n");
	AUTO_FD fresh = tlsfiles_copy(&c, "f");

	assert_true(fresh >= 0);
	assert_int_equal(tlsfiles_replace(archive, fresh), 0);
	n = pread(archive, bytes, sizeof(bytes), 0);
	at = 0;
	assert_true(n > 0);
	expect_entry(bytes, (size_t)n, &at, "cert", "new");
	assert_int_equal(at, n);
}

static void without_tls_the_archive_is_empty(void **unused)
{
	struct stat st;

	(void)unused;
	parse_here("tls_ca_file @/none\n");
	AUTO_FD archive = tlsfiles_copy(&c, "f");

	assert_true(archive >= 0);
	assert_int_equal(fstat(archive, &st), 0);
	assert_int_equal(st.st_size, 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static int setup(void **unused)
{
	(void)unused;
	(void)snprintf(folder, sizeof(folder), "/tmp/keepwarm-unit-XXXXXX");
	return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **unused)
{
	static const char *const names[] = { "cert", "key", "both", "empty", "large", "fifo" };
	char path[128];

	(void)unused;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		(void)unlink(path);
	}
	config_wipe(&c);
	return rmdir(folder);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_are_those_of_the_side_that_has_tls),
		cmocka_unit_test(a_file_that_cannot_be_used_is_an_error),
		cmocka_unit_test(a_key_that_everybody_can_read_is_a_warning),
		cmocka_unit_test(the_archive_has_each_file_once_and_can_be_replaced),
		cmocka_unit_test(without_tls_the_archive_is_empty),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
