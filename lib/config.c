/* The parser of imapproxy.conf.
 *
 * Each row of config_table.h becomes a struct config_row (config_rows.c); each type is a function
 * that reads a value (config_values.c). The parser works on text in memory, so that it can be
 * fuzzed; only config_load() touches files.
 */
#include "lib/config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/config_local.h"
#include "lib/config_login.h"
#include "lib/config_rows.h"
#include "lib/config_tls.h"
#include "lib/fd.h"
#include "lib/sasl.h"
#include "lib/span.h"

#define FILE_MAX_BYTES	 (1 << 20)
#define RUN_DIR_DEFAULT	 "/run/keepwarm"
#define RUN_DIR_OWN_NAME "keepwarm-run"
#define SOCKET_NAME_MAX	 10 /* the longest name of a socket in the run directory, and a slash */
#define SOCKET_PATH_MAX	 107

void config_say(struct config_problems *p, bool is_error, const char *format, ...)
{
	char line[512];
	int n = snprintf(line, sizeof(line), "%s:%u: ", p->file, p->line);
	va_list args;

	if (n < 0 || (size_t)n >= sizeof(line))
		n = 0;
	va_start(args, format);
	(void)vsnprintf(line + n, sizeof(line) - (size_t)n, format, args);
	va_end(args);
	*(is_error ? &p->errors : &p->warnings) += 1;
	if (p->report)
		p->report(p->context, is_error, line);
}

static const struct config_row *find_row(const char *key)
{
	for (size_t i = 0; i < config_row_count; i++)
		if (strcasecmp(config_written_key(&config_rows[i]), key) == 0)
			return &config_rows[i];
	return NULL;
}

/* How many letters must change to make b of a; bounded by the lengths, which are small. */
static size_t edit_distance(const char *a, const char *b)
{
	size_t n = strlen(b), row[64];

	if (n >= sizeof(row) / sizeof(row[0]))
		return n;
	for (size_t j = 0; j <= n; j++)
		row[j] = j;
	for (size_t i = 1; a[i - 1]; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= n; j++) {
			size_t change = diagonal + (tolower((unsigned char)a[i - 1]) !=
						    tolower((unsigned char)b[j - 1]));
			size_t least = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;

			diagonal = row[j];
			row[j] = change < least ? change : least;
		}
	}
	return row[n];
}

/* How much of an unknown key may be shown: "auth_shared_secret=x" is a key with a secret in it. */
static int shown_length(const char *key)
{
	size_t n = 0;

	while (n < 60 &&
	       (isalnum((unsigned char)key[n]) || (key[n] != '\0' && strchr("_.-", key[n]))))
		n++;
	return (int)n;
}

static void warn_unknown(struct config_problems *p, const char *key)
{
	const struct config_row *nearest = NULL;
	size_t best = strlen(key) / 2 + 1;
	int shown = shown_length(key);

	for (size_t i = 0; i < config_row_count; i++) {
		size_t distance = edit_distance(key, config_written_key(&config_rows[i]));

		if (distance < best) {
			best = distance;
			nearest = &config_rows[i];
		}
	}
	if (nearest)
		config_say(p, false, "%.*s: unknown key, ignored; did you mean %s?", shown, key,
			   config_written_key(nearest));
	else
		config_say(p, false, "%.*s: unknown key, ignored; see imapproxy.conf(5)", shown,
			   key);
}

static char *trim(char *s)
{
	size_t n = strlen(s);

	while (n > 0 && strchr(" \t\r\n", s[n - 1]))
		s[--n] = '\0';
	while (*s == ' ' || *s == '\t')
		s++;
	return s;
}

/* One line, which may be changed; it holds no NUL. */
static int parse_line(struct config_problems *p, char *line)
{
	char *comment = strchr(line, '#');

	if (comment)
		*comment = '\0';
	char *key = trim(line);

	if (!*key)
		return 0;
	char *value = key + strcspn(key, " \t");

	if (*value)
		*value++ = '\0';
	value = trim(value);

	const struct config_row *row = find_row(key);

	if (!row) {
		warn_unknown(p, key);
		return 0;
	}
	if (!*value) {
		config_say(p, true, "%s: the value is missing", config_written_key(row));
		return 0;
	}
	int errors = p->errors;
	int r = config_set_value(p, row, value);

	if (r == 0 && p->errors == errors)
		p->config->lines[row - config_rows] = p->line;
	return r;
}

int config_init(struct config *c)
{
	struct config_problems p = { .config = c, .file = "default" };

	memset(c, 0, sizeof(*c));
	for (size_t i = 0; i < config_row_count; i++) {
		int r = config_set_value(&p, &config_rows[i], config_rows[i].default_text);

		if (r < 0) {
			config_wipe(c);
			return r;
		}
	}
	return 0;
}

bool config_offers(const struct config *c, uint32_t mechanisms)
{
	struct span bad;
	uint32_t set = 0;

	(void)sasl_list_read(span_str(c->auth_mechanisms), &set, &bad); /* is good */
	return set & mechanisms;
}

/* Of Courier; a file that has it shall not be told that it is wrong, only that it need not. */
static void judge_foreign(struct config_problems *p)
{
	unsigned line = p->line;

	p->line = config_line_of(p->config, "imap_proxy_foreign");
	if (p->line > 0)
		config_say(p, false,
			   "imap_proxy_foreign: has no effect; clients are always told "
			   "the capabilities of the mail host that they are on");
	p->line = line;
}

/* What only all keys together show. */
static void judge_whole(struct config_problems *p)
{
	config_login_judge(p);
	judge_foreign(p);
	config_tls_judge(p);
	config_local_judge(p);
}

int config_parse(struct config *c, const char *name, const char *text, size_t length,
		 config_report_fn *report, void *context, int *ret_warnings)
{
	struct config_problems p = {
		.config = c, .file = name, .report = report, .context = context
	};
	struct span rest = { text, length };
	char line[4097];

	while (rest.n > 0) {
		const char *end = memchr(rest.p, '\n', rest.n);
		size_t n = end ? (size_t)(end - rest.p) : rest.n;

		p.line++;
		if (n >= sizeof(line)) {
			config_say(&p, true, "the line is longer than %zu bytes", sizeof(line) - 1);
		} else if (memchr(rest.p, '\0', n)) {
			config_say(&p, true, "the line holds a NUL byte");
		} else {
			memcpy(line, rest.p, n);
			line[n] = '\0';
			int r = parse_line(&p, line);

			explicit_bzero(line, n);
			if (r < 0)
				return r;
		}
		rest = span_from(rest, n + (end != NULL));
	}
	judge_whole(&p);
	config_tls_settle(c);
	if (ret_warnings)
		*ret_warnings = p.warnings;
	return p.errors;
}

/* Reads the whole of fd from its start into a fresh allocation. */
static int read_all(int fd, char **ret_text, size_t *ret_length)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size > FILE_MAX_BYTES)
		return -EFBIG;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;

	size_t cap = (size_t)st.st_size + 1, length = 0;
	char *text = malloc(cap);

	if (!text)
		return -ENOMEM;
	while (length < cap) {
		ssize_t n = pread(fd, text + length, cap - length, (off_t)length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int saved = errno;

			free(text);
			return -saved;
		}
		if (n == 0)
			break;
		length += (size_t)n;
	}
	*ret_text = text;
	*ret_length = length;
	return 0;
}

int config_load(struct config *c, const char *path, int fd, config_report_fn *report, void *context,
		int *ret_warnings)
{
	/* O_NONBLOCK: a FIFO, which is refused, would hold a service up that reads it again */
	AUTO_FD opened = fd < 0 ? open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK) : -1;
	char *text = NULL;
	size_t length = 0;
	int r = fd < 0 && opened < 0 ? -errno : read_all(fd < 0 ? opened : fd, &text, &length);

	memset(c, 0, sizeof(*c));
	if (r < 0) {
		char line[512];

		(void)snprintf(line, sizeof(line), "%s: cannot be read: %s", path, strerror(-r));
		if (report)
			report(context, true, line);
		return 1;
	}
	r = config_init(c);
	if (r == 0)
		r = config_parse(c, path, text, length, report, context, ret_warnings);
	explicit_bzero(text, length);
	free(text);
	if (r != 0)
		config_wipe(c);
	return r;
}

static bool says_something(const struct config *c)
{
	for (size_t i = 0; i < config_row_count; i++)
		if (c->lines[i] > 0)
			return true;
	return false;
}

int config_load_again(struct config *c, const char *path, int fd, config_report_fn *report,
		      void *context)
{
	char line[512];
	int r = config_load(c, path, fd, report, context, NULL);

	if (r != 0 || says_something(c))
		return r;
	(void)snprintf(line, sizeof(line),
		       "%s: no key is set in it, which is not taken for a wish for all defaults",
		       path);
	report(context, true, line);
	config_wipe(c);
	return 1;
}

void config_wipe(struct config *c)
{
	for (size_t i = 0; i < config_row_count; i++) {
		if (config_rows[i].type == CONFIG_TEXT)
			config_free_text(&config_rows[i], config_member(&config_rows[i], c));
		else if (config_rows[i].type == CONFIG_LIST)
			config_free_list(config_member(&config_rows[i], c));
	}
}

int config_run_directory(const struct config *c, const char *config_path, char *path, size_t cap)
{
	const char *slash = strrchr(config_path, '/');
	int n;

	if (*c->run_directory)
		n = snprintf(path, cap, "%s", c->run_directory);
	else if (geteuid() == 0)
		n = snprintf(path, cap, "%s", RUN_DIR_DEFAULT);
	else
		n = snprintf(path, cap, "%.*s/%s", slash ? (int)(slash - config_path) : 1,
			     slash ? config_path : ".", RUN_DIR_OWN_NAME);
	if (n < 0 || (size_t)n >= cap || n > SOCKET_PATH_MAX - SOCKET_NAME_MAX)
		return -ENAMETOOLONG;
	return 0;
}
