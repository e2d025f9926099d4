/* Which files TLS needs, and whether they are there.
 *
 * Nothing of their content is looked at here: what reads keys is tlsrelayd alone. Paths must be
 * absolute: the programs that open them stand elsewhere than the administrator does. A pipe or a
 * device would keep the opener waiting, so only plain files are taken.
 */
#include "lib/tls_files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/config_tls.h"
#include "lib/fd.h"

/* One of the keys, what it says now, and what that is. */
struct source {
	const char *key;
	const char *value;
	bool needed;
	bool list;
	bool secret;
	bool directory;
};

#define SOURCES 7

static void list_sources(const struct config *c, struct source ret[SOURCES])
{
	bool out = config_tls_possible(c);

	ret[0] = (struct source){ "tls_server_cert_file", c->tls_server_cert_file, .needed = true,
				  .list = true, .secret = !*c->tls_server_key_file };
	ret[1] = (struct source){ "tls_server_key_file", c->tls_server_key_file, .needed = true,
				  .list = true, .secret = true };
	ret[2] = (struct source){ "tls_cert_file", c->tls_cert_file, .needed = out,
				  .secret = !*c->tls_key_file };
	ret[3] = (struct source){ "tls_key_file", c->tls_key_file,
				  .needed = out && *c->tls_cert_file, .secret = true };
	ret[4] = (struct source){ "tls_ca_file", c->tls_ca_file, .needed = out };
	ret[5] = (struct source){ "tls_ca_path", c->tls_ca_path, .needed = out,
				  .directory = true };
	ret[6] = (struct source){ "tls_client_ca_file", c->tls_client_ca_file,
				  .needed = *c->tls_server_cert_file };
}

/* The next path of a value that is one, or a list of them. */
static struct span next_path(const struct source *s, struct span *rest)
{
	struct span path = *rest;

	if (!s->list) {
		*rest = SPAN_NONE;
		return path;
	}
	do
		path = span_word(rest, ' ');
	while (path.n == 0 && rest->n > 0);
	return path;
}

bool tls_files_at(const struct config *c, size_t i, struct tls_file *ret)
{
	struct source sources[SOURCES];

	list_sources(c, sources);
	for (size_t k = 0; k < SOURCES; k++) {
		const struct source *s = &sources[k];
		struct span rest = s->needed ? span_str(s->value) : SPAN_NONE;

		while (rest.n > 0) {
			struct span path = next_path(s, &rest);

			if (path.n == 0 || i-- > 0)
				continue;
			*ret = (struct tls_file){ s->key, path, s->secret, s->directory };
			return true;
		}
	}
	return false;
}

static const char *judge(const struct tls_file *file, const struct stat *st)
{
	if (file->directory)
		return S_ISDIR(st->st_mode) ? NULL : "it is no directory";
	if (!S_ISREG(st->st_mode))
		return "it is no plain file";
	if (st->st_size == 0)
		return "it is empty";
	return st->st_size > TLS_FILE_MAX ? "it is larger than 1 MiB" : NULL;
}

static int open_and_look(const struct tls_file *file, struct stat *st, const char **ret_why)
{
	char path[PATH_MAX];

	*ret_why = "give a path that begins with /";
	if (file->path.p[0] != '/')
		return -1;
	*ret_why = strerror(ENAMETOOLONG);
	if (file->path.n >= sizeof(path))
		return -1;
	memcpy(path, file->path.p, file->path.n);
	path[file->path.n] = '\0';

	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	*ret_why = NULL;
	if (fd < 0 || fstat(fd, st) < 0)
		*ret_why = strerror(errno);
	else
		*ret_why = judge(file, st);
	return *ret_why ? -1 : take_fd(&fd);
}

int tls_files_open(const struct tls_file *file, const char **ret_why)
{
	struct stat st;

	return open_and_look(file, &st, ret_why);
}

__attribute__((format(printf, 4, 5))) static void say(config_report_fn *report, void *context,
						      bool is_error, const char *format, ...)
{
	char line[PATH_MAX + 512];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (report)
		report(context, is_error, line);
}

int tls_files_check(const struct config *c, const char *name, config_report_fn *report,
		    void *context, int *ret_warnings)
{
	struct tls_file file;
	int errors = 0;

	for (size_t i = 0; tls_files_at(c, i, &file); i++) {
		struct stat st;
		const char *why;
		unsigned line = config_line_of(c, file.key);
		AUTO_FD fd = open_and_look(&file, &st, &why);

		if (fd < 0) {
			say(report, context, true, "%s:%u: %s: %.*s cannot be used: %s", name, line,
			    file.key, (int)file.path.n, file.path.p, why);
			errors++;
		} else if (file.secret && st.st_mode & (S_IROTH | S_IWOTH)) {
			say(report, context, false,
			    "%s:%u: %s: every user can read the private key in %.*s; give it the "
			    "mode 0600",
			    name, line, file.key, (int)file.path.n, file.path.p);
			if (ret_warnings)
				*ret_warnings += 1;
		}
	}
	return errors;
}
