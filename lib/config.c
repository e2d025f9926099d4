/* The parser of imapproxy.conf.
 *
 * Each row of config_table.h becomes a struct row; each type is a function that reads a value, one
 * that prints it and nothing more. The parser works on text in memory, so that it can be fuzzed; only
 * config_load() touches files.
 */
#include "lib/config.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <sys/stat.h>

#include "lib/fd.h"
#include "lib/span.h"

enum row_type { TYPE_TEXT, TYPE_NUM, TYPE_BOOL, TYPE_NAME, TYPE_PAIR };
enum row_flags { RELOAD = 1, SECRET = 2, LATER = 4, REFUSED = 8 };

#define FILE_MAX_BYTES   (1 << 20)
#define RUN_DIR_DEFAULT  "/run/keepwarm"
#define RUN_DIR_OWN_NAME "keepwarm-run"
#define SOCKET_NAME_MAX  10 /* the longest name of a socket in the run directory, and a slash */
#define SOCKET_PATH_MAX  107

struct name_value {
	const char *name;
	uint32_t value;
};

static const struct name_value ip_versions[] = {
	{ "0", 0 }, { "4", 4 }, { "6", 6 }, { NULL, 0 },
};

static const struct name_value log_facilities[] = {
	{ "LOG_USER", LOG_USER },     { "LOG_MAIL", LOG_MAIL },     { "LOG_DAEMON", LOG_DAEMON },
	{ "LOG_AUTH", LOG_AUTH },     { "LOG_LPR", LOG_LPR },       { "LOG_NEWS", LOG_NEWS },
	{ "LOG_UUCP", LOG_UUCP },     { "LOG_CRON", LOG_CRON },     { "LOG_LOCAL0", LOG_LOCAL0 },
	{ "LOG_LOCAL1", LOG_LOCAL1 }, { "LOG_LOCAL2", LOG_LOCAL2 }, { "LOG_LOCAL3", LOG_LOCAL3 },
	{ "LOG_LOCAL4", LOG_LOCAL4 }, { "LOG_LOCAL5", LOG_LOCAL5 }, { "LOG_LOCAL6", LOG_LOCAL6 },
	{ "LOG_LOCAL7", LOG_LOCAL7 }, { NULL, 0 },
};

static const struct name_value log_priorities[] = {
	{ "LOG_EMERG", LOG_EMERG },	{ "LOG_ALERT", LOG_ALERT }, { "LOG_CRIT", LOG_CRIT },
	{ "LOG_ERR", LOG_ERR },		{ "LOG_WARNING", LOG_WARNING },
	{ "LOG_NOTICE", LOG_NOTICE },	{ "LOG_INFO", LOG_INFO },   { "LOG_DEBUG", LOG_DEBUG },
	{ NULL, 0 },
};

struct row {
	const char *key;
	const char *default_text;
	const char *unit;
	const char *meaning;
	const struct name_value *names;
	size_t offset;
	uint32_t least, most;
	enum row_type type;
	unsigned flags;
};

#define ROW(key_, default_, ...) \
	{ .key = #key_, .default_text = default_, .offset = offsetof(struct config, key_), __VA_ARGS__ },
#define ROW_TEXT(key, text, longest, flags_, meaning_) \
	ROW(key, text, .type = TYPE_TEXT, .most = longest, .unit = "", .flags = flags_, \
	    .meaning = meaning_)
#define ROW_NUM(key, text, least_, most_, unit_, flags_, meaning_) \
	ROW(key, text, .type = TYPE_NUM, .least = least_, .most = most_, .unit = unit_, \
	    .flags = flags_, .meaning = meaning_)
#define ROW_BOOL(key, text, flags_, meaning_) \
	ROW(key, text, .type = TYPE_BOOL, .unit = "", .flags = flags_, .meaning = meaning_)
#define ROW_NAME(key, text, names_, flags_, meaning_) \
	ROW(key, text, .type = TYPE_NAME, .names = names_, .unit = "", .flags = flags_, \
	    .meaning = meaning_)
#define ROW_PAIR(key, text, least_, most_, unit_, flags_, meaning_) \
	ROW(key, text, .type = TYPE_PAIR, .least = least_, .most = most_, .unit = unit_, \
	    .flags = flags_, .meaning = meaning_)

static const struct row rows[] = { CONFIG_TABLE(ROW_TEXT, ROW_NUM, ROW_BOOL, ROW_NAME, ROW_PAIR) };
static const size_t row_count = sizeof(rows) / sizeof(rows[0]);

/* What is being parsed, for messages. */
struct parse {
	struct config *config;
	const char *file;
	unsigned line;
	config_report_fn *report;
	void *context;
	int errors;
	int warnings;
};

__attribute__((format(printf, 3, 4))) static void say(struct parse *p, bool is_error, const char *format, ...)
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

static void *member(const struct row *row, const struct config *c)
{
	return (char *)(uintptr_t)c + row->offset;
}

/* The key as it is written in a file: tls_no_tlsv1_1 is tls_no_tlsv1.1 there. */
static const char *written_key(const struct row *row)
{
	if (strcmp(row->key, "tls_no_tlsv1_1") == 0)
		return "tls_no_tlsv1.1";
	if (strcmp(row->key, "tls_no_tlsv1_2") == 0)
		return "tls_no_tlsv1.2";
	return row->key;
}

static void free_text(const struct row *row, char **text)
{
	if (*text && (row->flags & SECRET))
		explicit_bzero(*text, strlen(*text));
	free(*text);
	*text = NULL;
}

/* A number with an optional k or M where the unit is bytes. */
static int read_number(const struct row *row, struct span value, uint32_t *ret)
{
	uint64_t factor = 1, number;

	if (strcmp(row->unit, "B") == 0 && value.n > 1) {
		char last = value.p[value.n - 1];

		factor = last == 'k' || last == 'K' ? 1024 : last == 'M' ? 1024 * 1024 : 1;
		value.n -= factor > 1;
	}
	int r = span_u64(value, UINT32_MAX, &number);

	if (r < 0)
		return r;
	number *= factor;
	if (number < row->least || number > row->most)
		return -ERANGE;
	*ret = (uint32_t)number;
	return 0;
}

static bool is_port(const struct row *row)
{
	size_t n = strlen(row->key);

	return n > 5 && strcmp(row->key + n - 5, "_port") == 0;
}

static int read_service(const char *value, uint32_t *ret)
{
	const struct servent *service = getservbyname(value, "tcp");

	if (!service)
		return -EINVAL;
	*ret = ntohs((uint16_t)service->s_port);
	return 0;
}

static int set_text(struct parse *p, const struct row *row, const char *value)
{
	char **text = member(row, p->config);

	if (strlen(value) > row->most) {
		say(p, true, "%s: the value is longer than %u bytes", written_key(row), row->most);
		return 0;
	}
	char *copy = strdup(value);

	if (!copy)
		return -ENOMEM;
	free_text(row, text);
	*text = copy;
	return 0;
}

static int set_num(struct parse *p, const struct row *row, const char *value)
{
	uint32_t *number = member(row, p->config);

	if (read_number(row, span_str(value), number) == 0)
		return 0;
	if (is_port(row) && read_service(value, number) == 0)
		return 0;
	say(p, true, "%s: '%.60s' is not allowed: give a number from %u to %u%s%s", written_key(row), value,
	    row->least, row->most,
	    strcmp(row->unit, "s") == 0 ? " (seconds)" : strcmp(row->unit, "B") == 0 ? " (bytes)" : "",
	    is_port(row) ? " or a service name" : "");
	return 0;
}

/* The old program knew yes, no, true, false (by their beginnings) and took everything else for no. */
static int set_bool(struct parse *p, const struct row *row, const char *value)
{
	static const struct {
		const char *word;
		bool whole, on, news;
	} words[] = {
		{ "yes", false, true, false },	{ "y", true, true, false },  { "true", true, true, false },
		{ "no", false, false, false },	{ "n", true, false, false }, { "false", true, false, false },
		{ "on", true, true, true },	{ "1", true, true, true },
		{ "off", true, false, false },	{ "0", true, false, false },
	};
	struct span given = span_str(value);

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		struct span word = span_str(words[i].word);

		if (words[i].whole ? !span_ieq(given, word) : !span_istarts(given, word))
			continue;
		*(uint32_t *)member(row, p->config) = words[i].on;
		if (words[i].news)
			say(p, false, "%s: '%s' is taken for yes (the old imapproxyd took it for no)",
			    written_key(row), value);
		return 0;
	}
	say(p, true, "%s: '%.60s' is not allowed: give yes or no", written_key(row), value);
	return 0;
}

static int set_name(struct parse *p, const struct row *row, const char *value)
{
	char allowed[300] = "";
	size_t used = 0;

	for (const struct name_value *n = row->names; n->name; n++) {
		if (strcmp(n->name, value) == 0) {
			*(uint32_t *)member(row, p->config) = n->value;
			return 0;
		}
		int wrote = snprintf(allowed + used, sizeof(allowed) - used, " %s", n->name);

		if (wrote > 0 && (size_t)wrote < sizeof(allowed) - used)
			used += (size_t)wrote;
	}
	say(p, true, "%s: '%.60s' is not allowed: give one of%s", written_key(row), value, allowed);
	return 0;
}

static int set_pair(struct parse *p, const struct row *row, const char *value)
{
	struct config_pair *pair = member(row, p->config), found;
	const char *gap = value + strcspn(value, " \t");
	struct span least = { value, (size_t)(gap - value) };
	struct span most = span_str(gap + strspn(gap, " \t"));

	if (read_number(row, least, &found.least) == 0 &&
	    read_number(row, most, &found.most) == 0 && found.least <= found.most) {
		*pair = found;
		return 0;
	}
	say(p, true, "%s: '%.60s' is not allowed: give two numbers from %u to %u, the smaller first",
	    written_key(row), value, row->least, row->most);
	return 0;
}

static int set_value(struct parse *p, const struct row *row, const char *value)
{
	static int (*const setters[])(struct parse *, const struct row *, const char *) = {
		[TYPE_TEXT] = set_text, [TYPE_NUM] = set_num,	[TYPE_BOOL] = set_bool,
		[TYPE_NAME] = set_name, [TYPE_PAIR] = set_pair,
	};

	return setters[row->type](p, row, value);
}

static const struct row *find_row(const char *key)
{
	for (size_t i = 0; i < row_count; i++)
		if (strcasecmp(written_key(&rows[i]), key) == 0)
			return &rows[i];
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

	while (n < 60 && (isalnum((unsigned char)key[n]) || (key[n] != '\0' && strchr("_.-", key[n]))))
		n++;
	return (int)n;
}

static void warn_unknown(struct parse *p, const char *key)
{
	const struct row *nearest = NULL;
	size_t best = strlen(key) / 2 + 1;
	int shown = shown_length(key);

	for (size_t i = 0; i < row_count; i++) {
		size_t distance = edit_distance(key, written_key(&rows[i]));

		if (distance < best) {
			best = distance;
			nearest = &rows[i];
		}
	}
	if (nearest)
		say(p, false, "%.*s: unknown key, ignored; did you mean %s?", shown, key,
		    written_key(nearest));
	else
		say(p, false, "%.*s: unknown key, ignored; see imapproxy.conf(5)", shown, key);
}

static bool has_default(const struct row *row, const struct config *c, const struct config *defaults)
{
	return config_key_same(c, defaults, (size_t)(row - rows));
}

/* A key that this version knows but does not honour. */
static void judge_unsupported(struct parse *p, const struct row *row)
{
	struct config defaults;

	if (!(row->flags & (LATER | REFUSED)) || config_init(&defaults) < 0)
		return;
	if (!has_default(row, p->config, &defaults)) {
		if (row->flags & REFUSED)
			say(p, true, "%s: this version cannot do that yet, and going on without it would be "
			    "unsafe: remove the line", written_key(row));
		else
			say(p, false, "%s: this version does not do that yet, the key has no effect",
			    written_key(row));
	}
	config_wipe(&defaults);
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
static int parse_line(struct parse *p, char *line)
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

	const struct row *row = find_row(key);

	if (!row) {
		warn_unknown(p, key);
		return 0;
	}
	if (!*value) {
		say(p, true, "%s: the value is missing", written_key(row));
		return 0;
	}
	int errors = p->errors;
	int r = set_value(p, row, value);

	if (r == 0 && p->errors == errors)
		judge_unsupported(p, row);
	return r;
}

int config_init(struct config *c)
{
	struct parse p = { .config = c, .file = "default" };

	memset(c, 0, sizeof(*c));
	for (size_t i = 0; i < row_count; i++) {
		int r = set_value(&p, &rows[i], rows[i].default_text);

		if (r < 0) {
			config_wipe(c);
			return r;
		}
	}
	return 0;
}

int config_parse(struct config *c, const char *name, const char *text, size_t length,
		 config_report_fn *report, void *context, int *ret_warnings)
{
	struct parse p = { .config = c, .file = name, .report = report, .context = context };
	struct span rest = { text, length };
	char line[4097];

	while (rest.n > 0) {
		const char *end = memchr(rest.p, '\n', rest.n);
		size_t n = end ? (size_t)(end - rest.p) : rest.n;

		p.line++;
		if (n >= sizeof(line)) {
			say(&p, true, "the line is longer than %zu bytes", sizeof(line) - 1);
		} else if (memchr(rest.p, '\0', n)) {
			say(&p, true, "the line holds a NUL byte");
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
	AUTO_FD opened = fd < 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
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

void config_wipe(struct config *c)
{
	for (size_t i = 0; i < row_count; i++)
		if (rows[i].type == TYPE_TEXT)
			free_text(&rows[i], member(&rows[i], c));
}

static const char *name_of(const struct row *row, uint32_t value)
{
	for (const struct name_value *n = row->names; n->name; n++)
		if (n->value == value)
			return n->name;
	return "?";
}

static int print_row(const struct config *c, const struct row *row, char *text, size_t cap)
{
	const void *value = member(row, c);
	const char *key = written_key(row);

	switch (row->type) {
	case TYPE_TEXT: {
		const char *s = *(char *const *)value;

		/* A key without a value would be an error to the parser. */
		return *s ? snprintf(text, cap, "%s %s\n", key, row->flags & SECRET ? "***" : s) :
			    snprintf(text, cap, "#%s\n", key);
	}
	case TYPE_NUM:
		return snprintf(text, cap, "%s %u\n", key, *(const uint32_t *)value);
	case TYPE_BOOL:
		return snprintf(text, cap, "%s %s\n", key, *(const uint32_t *)value ? "yes" : "no");
	case TYPE_NAME:
		return snprintf(text, cap, "%s %s\n", key, name_of(row, *(const uint32_t *)value));
	case TYPE_PAIR: {
		const struct config_pair *pair = value;

		return snprintf(text, cap, "%s %u %u\n", key, pair->least, pair->most);
	}
	}
	return -1;
}

int config_print(const struct config *c, char *text, size_t cap)
{
	size_t used = 0;

	for (size_t i = 0; i < row_count; i++) {
		int n = print_row(c, &rows[i], text + used, cap - used);

		if (n < 0 || (size_t)n >= cap - used)
			return -ENOBUFS;
		used += (size_t)n;
	}
	return (int)used;
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

bool config_key_at(size_t i, struct config_key *ret)
{
	if (i >= row_count)
		return false;

	const struct row *row = &rows[i];

	*ret = (struct config_key){
		.name = written_key(row),
		.default_text = row->default_text,
		.unit = row->unit,
		.meaning = row->meaning,
		.reload = row->flags & RELOAD,
		.later = row->flags & LATER,
		.refused = row->flags & REFUSED,
		.secret = row->flags & SECRET,
	};
	return true;
}

bool config_key_same(const struct config *a, const struct config *b, size_t i)
{
	const void *x = member(&rows[i], a), *y = member(&rows[i], b);

	if (rows[i].type == TYPE_TEXT)
		return strcmp(*(char *const *)x, *(char *const *)y) == 0;
	return memcmp(x, y, rows[i].type == TYPE_PAIR ? sizeof(struct config_pair) : sizeof(uint32_t)) == 0;
}
