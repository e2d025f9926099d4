/* courier-authlib's settings files. Their ##NAME: lines are for its own upgrades; here they are
 * comments.
 */
#include "lookupd/authrc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/fd.h"

#define FILE_BYTES_MOST 262144

/* Joins continued lines: a backslash and its line end become blanks. */
static void join_lines(char *text)
{
	for (char *p = text; (p = strchr(p, '\\')); p++) {
		size_t n = strspn(p + 1, "\r");

		if (p[1 + n] == '\n')
			memset(p, ' ', n + 2);
	}
}

static int add_setting(struct authrc *a, char *line, struct why *why)
{
	char *end = line + strlen(line);

	while (end > line && strchr(" \t\r", end[-1]))
		*--end = '\0';
	line += strspn(line, " \t");
	if (*line == '#' || *line == '\0')
		return 0;
	char *value = line + strcspn(line, " \t");

	if (*value)
		*value++ = '\0';
	value += strspn(value, " \t");
	if (authrc_get(a, line, NULL))
		return 0;
	if (a->count == AUTHRC_SETTINGS_MAX) {
		why_say(why, "there are more than %d settings", AUTHRC_SETTINGS_MAX);
		return -EINVAL;
	}
	a->settings[a->count].name = line;
	a->settings[a->count++].value = value;
	return 0;
}

int authrc_parse(struct authrc *a, char *text, size_t length, struct why *why)
{
	int r = 0;

	*a = (struct authrc){ .text = text, .length = length };
	if (memchr(text, '\0', length)) {
		why_say(why, "there is a NUL byte in it");
		return -EINVAL;
	}
	join_lines(text);
	for (char *line = text; r == 0 && line;) {
		char *end = strchr(line, '\n');

		if (end)
			*end++ = '\0';
		r = add_setting(a, line, why);
		line = end;
	}
	return r;
}

static int read_text(const char *path, char **ret, size_t *ret_length)
{
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || (st.st_mode & S_IROTH))
		return -EPERM;
	if (st.st_size > FILE_BYTES_MOST)
		return -EFBIG;
	char *text = calloc(1, (size_t)st.st_size + 1);

	if (!text)
		return -ENOMEM;
	ssize_t n = read(fd, text, (size_t)st.st_size);

	if (n < 0) {
		int r = -errno;

		free(text);
		return r;
	}
	*ret = text;
	*ret_length = (size_t)n;
	return 0;
}

int authrc_read(const char *path, struct authrc *ret, struct why *why)
{
	struct why inner = { "" };
	char *text = NULL;
	size_t length = 0;
	int r = read_text(path, &text, &length);

	if (r < 0) {
		why_say(why, "%s: %s", path,
			r == -EPERM ? "is no file, or everybody may read it (chmod o-r)"
				    : strerror(-r));
		return r;
	}
	r = authrc_parse(ret, text, length, &inner);
	if (r < 0) {
		authrc_wipe(ret);
		why_say(why, "%.100s: %.90s", path, inner.text);
	}
	return r;
}

void authrc_wipe(struct authrc *a)
{
	if (a->text)
		explicit_bzero(a->text, a->length);
	free(a->text);
	*a = (struct authrc){ .text = NULL };
}

const char *authrc_get(const struct authrc *a, const char *name, const char *usual)
{
	for (size_t i = 0; i < a->count; i++)
		if (strcasecmp(a->settings[i].name, name) == 0)
			return a->settings[i].value;
	return usual;
}

long authrc_number(const struct authrc *a, const char *name, long usual)
{
	uint64_t number;
	const char *value = authrc_get(a, name, NULL);

	return value && span_u64(span_str(value), INT32_MAX, &number) == 0 ? (long)number : usual;
}
