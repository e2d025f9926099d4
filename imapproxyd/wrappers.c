/* Looks for rules that an administrator believes to be in force. */
#include "imapproxyd/wrappers.h"

#include <fcntl.h>
#include <unistd.h>

#include "imapproxyd/report.h"
#include "lib/fd.h"

#define TEXT_MAX 65536

/* The daemon list of a rule: words separated by blanks or commas, each perhaps with @host behind
 * it. */
static const char *find_in_list(struct span list)
{
	static const char *const names[] = { "imapproxyd", "in.imapproxyd", "ALL" };

	while (list.n > 0) {
		struct span part = span_word(&list, ' '), comma = part;

		while (comma.n > 0) {
			struct span entry = span_word(&comma, ','), daemon = span_word(&entry, '@');

			for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
				if (span_ieq(daemon, span_str(names[i])))
					return names[i];
		}
	}
	return NULL;
}

const char *wrappers_find(struct span text)
{
	while (text.n > 0) {
		struct span line = span_word(&text, '\n');
		const char *colon =
			line.n > 0 && line.p[0] != '#' ? memchr(line.p, ':', line.n) : NULL;

		if (!colon)
			continue;
		const char *found = find_in_list((struct span){ line.p, (size_t)(colon - line.p) });

		if (found)
			return found;
	}
	return NULL;
}

static const char *find_in_file(const char *path)
{
	static char text[TEXT_MAX];
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));

	if (n <= 0)
		return NULL;
	for (ssize_t i = 0; i < n; i++)
		if (text[i] == '\t')
			text[i] = ' ';
	return wrappers_find((struct span){ text, (size_t)n });
}

void wrappers_warn(void)
{
	static const char *const files[] = { "/etc/hosts.allow", "/etc/hosts.deny" };

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		const char *name = find_in_file(files[i]);

		if (!name)
			continue;
		report(LOG_WARNING,
		       "%s has a rule for %s: the files of TCP wrappers are not read; say with "
		       "allow_addresses and deny_addresses who may connect",
		       files[i], name);
		return;
	}
}
