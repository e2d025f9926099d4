/* Reading values: one function a type. */
#include "lib/config_rows.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/cidr.h"
#include "lib/config_directory.h"
#include "lib/config_local.h"
#include "lib/sasl.h"
#include "lib/span.h"

void config_free_text(const struct config_row *row, char **text)
{
	if (*text && (row->flags & SECRET))
		explicit_bzero(*text, strlen(*text));
	free(*text);
	*text = NULL;
}

void config_free_list(struct config_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->items[i]);
	*list = (struct config_list){ .count = 0 };
}

/* A number with an optional k or M where the unit is bytes. */
static int read_number(const struct config_row *row, struct span value, uint32_t *ret)
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

static bool is_port(const struct config_row *row)
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

static bool check_networks(struct config_problems *p, const struct config_row *row,
			   const char *value)
{
	struct span bad;
	int r = cidr_list_check(span_str(value), &bad);

	if (r == 0)
		return true;
	config_say(p, true, "%s: '%.*s' is not allowed: %s", config_written_key(row),
		   bad.n < 60 ? (int)bad.n : 60, bad.p,
		   r == -EDOM ? "bits are set behind the network's length"
			      : "give all, none, or networks like 10.0.0.0/8 2001:db8::/32 ::1");
	return false;
}

static bool check_mechanisms(struct config_problems *p, const struct config_row *row,
			     const char *value)
{
	struct span bad;
	uint32_t set;

	if (sasl_list_read(span_str(value), &set, &bad) == 0)
		return true;
	config_say(p, true,
		   "%s: '%.*s' is not allowed: give none, or some of PLAIN LOGIN XOAUTH2 "
		   "OAUTHBEARER SCRAM-SHA-256 SCRAM-SHA-1 CRAM-SHA256 CRAM-SHA1 CRAM-MD5 EXTERNAL "
		   "APOP",
		   config_written_key(row), bad.n < 60 ? (int)bad.n : 60, bad.p);
	return false;
}

static bool check_header(struct config_problems *p, const struct config_row *row, const char *value)
{
	struct span name, text;
	const char *problem = *value ? config_directory_header(value, &name, &text) : NULL;

	if (problem)
		config_say(p, true, "%s: %s", config_written_key(row), problem);
	return !problem;
}

static int set_text(struct config_problems *p, const struct config_row *row, const char *value)
{
	char **text = config_member(row, p->config);
	struct span taken = span_str(value);

	if (strlen(value) > row->most) {
		config_say(p, true, "%s: the value is longer than %u bytes",
			   config_written_key(row), row->most);
		return 0;
	}
	if ((row->flags & NETWORKS) && !check_networks(p, row, value))
		return 0;
	if ((row->flags & MECHANISMS) && !check_mechanisms(p, row, value))
		return 0;
	if ((row->flags & PLACE) && !config_local_check_place(p, row, value))
		return 0;
	if ((row->flags & HOSTS) && !config_local_check_names(p, row, value))
		return 0;
	if ((row->flags & HEADER) && !check_header(p, row, value))
		return 0;
	if ((row->flags & HOST) && !config_local_take_host(p, row, &taken))
		return 0;
	char *copy = strndup(taken.p, taken.n);

	if (!copy)
		return -ENOMEM;
	config_free_text(row, text);
	*text = copy;
	return 0;
}

static bool check_directory(struct config_problems *p, const struct config_row *row,
			    const char *value)
{
	struct span kind;
	const char *place;
	const char *problem = config_directory_split(value, &kind, &place);

	/* what stands in front of an @ may be a password */
	size_t shown = strchr(value, '@') ? strcspn(value, ":") : strlen(value);

	if (problem)
		config_say(p, true, "%s: '%.*s' is not allowed: %s", config_written_key(row),
			   shown < 60 ? (int)shown : 60, value, problem);
	return !problem;
}

/* Each line of the key adds a value; the default, an empty text, adds none. */
static int set_list(struct config_problems *p, const struct config_row *row, const char *value)
{
	struct config_list *list = config_member(row, p->config);

	if (!*value)
		return 0;
	if (list->count == CONFIG_LIST_MOST) {
		config_say(p, true, "%s: there are more than %d lines of it",
			   config_written_key(row), CONFIG_LIST_MOST);
		return 0;
	}
	if (strlen(value) > row->most) {
		config_say(p, true, "%s: the value is longer than %u bytes",
			   config_written_key(row), row->most);
		return 0;
	}
	if ((row->flags & DIRECTORIES) && !check_directory(p, row, value))
		return 0;
	list->items[list->count] = strdup(value);
	if (!list->items[list->count])
		return -ENOMEM;
	list->lines[list->count++] = p->line;
	return 0;
}

static int set_num(struct config_problems *p, const struct config_row *row, const char *value)
{
	uint32_t *number = config_member(row, p->config);

	if (read_number(row, span_str(value), number) == 0)
		return 0;
	if (is_port(row) && read_service(value, number) == 0)
		return 0;
	config_say(p, true, "%s: '%.60s' is not allowed: give a number from %u to %u%s%s",
		   config_written_key(row), value, row->least, row->most,
		   strcmp(row->unit, "s") == 0	 ? " (seconds)"
		   : strcmp(row->unit, "B") == 0 ? " (bytes)"
						 : "",
		   is_port(row) ? " or a service name" : "");
	return 0;
}

/* The old program knew yes, no, true, false (by their beginnings) and took everything else for no.
 */
static int set_bool(struct config_problems *p, const struct config_row *row, const char *value)
{
	static const struct {
		const char *word;
		bool whole, on, news;
	} words[] = {
		{ "yes", false, true, false }, { "y", true, true, false },
		{ "true", true, true, false }, { "no", false, false, false },
		{ "n", true, false, false },   { "false", true, false, false },
		{ "on", true, true, true },    { "1", true, true, true },
		{ "off", true, false, false }, { "0", true, false, false },
	};
	struct span given = span_str(value);

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		struct span word = span_str(words[i].word);

		if (words[i].whole ? !span_ieq(given, word) : !span_istarts(given, word))
			continue;
		*(uint32_t *)config_member(row, p->config) = words[i].on;
		if (words[i].news)
			config_say(p, false,
				   "%s: '%s' is taken for yes (the old imapproxyd took it for no)",
				   config_written_key(row), value);
		return 0;
	}
	config_say(p, true, "%s: '%.60s' is not allowed: give yes or no", config_written_key(row),
		   value);
	return 0;
}

static int set_name(struct config_problems *p, const struct config_row *row, const char *value)
{
	char allowed[300] = "";
	size_t used = 0;

	for (const struct config_name *n = row->names; n->name; n++) {
		if (strcmp(n->name, value) == 0) {
			*(uint32_t *)config_member(row, p->config) = n->value;
			return 0;
		}
		int wrote = snprintf(allowed + used, sizeof(allowed) - used, "%s%s",
				     *n->name ? " " : "", n->name);

		if (wrote > 0 && (size_t)wrote < sizeof(allowed) - used)
			used += (size_t)wrote;
	}
	config_say(p, true, "%s: '%.60s' is not allowed: give one of%s", config_written_key(row),
		   value, allowed);
	return 0;
}

static int set_pair(struct config_problems *p, const struct config_row *row, const char *value)
{
	struct config_pair *pair = config_member(row, p->config), found;
	const char *gap = value + strcspn(value, " \t");
	struct span least = { value, (size_t)(gap - value) };
	struct span most = span_str(gap + strspn(gap, " \t"));

	if (read_number(row, least, &found.least) == 0 &&
	    read_number(row, most, &found.most) == 0 && found.least <= found.most) {
		*pair = found;
		return 0;
	}
	config_say(p, true,
		   "%s: '%.60s' is not allowed: give two numbers from %u to %u, the smaller first",
		   config_written_key(row), value, row->least, row->most);
	return 0;
}

int config_set_value(struct config_problems *p, const struct config_row *row, const char *value)
{
	static int (*const setters[])(struct config_problems *, const struct config_row *,
				      const char *) = {
		[CONFIG_TEXT] = set_text, [CONFIG_NUM] = set_num,   [CONFIG_BOOL] = set_bool,
		[CONFIG_NAME] = set_name, [CONFIG_PAIR] = set_pair, [CONFIG_LIST] = set_list,
	};

	return setters[row->type](p, row, value);
}
