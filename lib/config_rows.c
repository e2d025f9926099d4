/* The table of keys as data: its rows, printing them, comparing them. */
#include "lib/config_rows.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

static const struct config_name ip_versions[] = {
	{ "0", 0 },
	{ "4", 4 },
	{ "6", 6 },
	{ NULL, 0 },
};

static const struct config_name zero_one[] = {
	{ "", 1 },
	{ "0", 0 },
	{ "1", 1 },
	{ NULL, 0 },
};

static const struct config_name tls_modes[] = {
	{ "none", TLS_NONE },
	{ "starttls", TLS_STARTTLS },
	{ "implicit", TLS_IMPLICIT },
	{ NULL, 0 },
};

static const struct config_name tls_versions[] = {
	{ "1.2", 12 },
	{ "1.3", 13 },
	{ NULL, 0 },
};

static const struct config_name tls_names[] = {
	{ "email", TLS_NAME_EMAIL },
	{ "cn", TLS_NAME_CN },
	{ "uid", TLS_NAME_UID },
	{ NULL, 0 },
};

static const struct config_name host_orders[] = {
	{ "in_order", HOST_ORDER_IN_ORDER }, { "round_robin", HOST_ORDER_ROUND_ROBIN }, { NULL, 0 }
};

static const struct config_name no_mailhosts[] = {
	{ "default", NO_MAILHOST_DEFAULT },
	{ "local", NO_MAILHOST_LOCAL },
	{ "refuse", NO_MAILHOST_REFUSE },
	{ NULL, 0 },
};

static const struct config_name auths[] = {
	{ "backend", AUTH_BACKEND },
	{ "directory", AUTH_DIRECTORY },
	{ "both", AUTH_BOTH },
	{ NULL, 0 },
};

static const struct config_name login_cases[] = {
	{ "keep", LOGIN_KEEP },
	{ "lower", LOGIN_LOWER },
	{ NULL, 0 },
};

static const struct config_name log_formats[] = {
	{ "", LOG_FORMAT_UNSET },
	{ "imapproxy", LOG_FORMAT_IMAPPROXY },
	{ "keepwarm", LOG_FORMAT_KEEPWARM },
	{ "courier", LOG_FORMAT_COURIER },
	{ NULL, 0 },
};

static const struct config_name log_facilities[] = {
	{ "LOG_USER", LOG_USER },
	{ "LOG_MAIL", LOG_MAIL },
	{ "LOG_DAEMON", LOG_DAEMON },
	{ "LOG_AUTH", LOG_AUTH },
	{ "LOG_LPR", LOG_LPR },
	{ "LOG_NEWS", LOG_NEWS },
	{ "LOG_UUCP", LOG_UUCP },
	{ "LOG_CRON", LOG_CRON },
	{ "LOG_LOCAL0", LOG_LOCAL0 },
	{ "LOG_LOCAL1", LOG_LOCAL1 },
	{ "LOG_LOCAL2", LOG_LOCAL2 },
	{ "LOG_LOCAL3", LOG_LOCAL3 },
	{ "LOG_LOCAL4", LOG_LOCAL4 },
	{ "LOG_LOCAL5", LOG_LOCAL5 },
	{ "LOG_LOCAL6", LOG_LOCAL6 },
	{ "LOG_LOCAL7", LOG_LOCAL7 },
	{ NULL, 0 },
};

static const struct config_name log_priorities[] = {
	{ "LOG_EMERG", LOG_EMERG }, { "LOG_ALERT", LOG_ALERT },	    { "LOG_CRIT", LOG_CRIT },
	{ "LOG_ERR", LOG_ERR },	    { "LOG_WARNING", LOG_WARNING }, { "LOG_NOTICE", LOG_NOTICE },
	{ "LOG_INFO", LOG_INFO },   { "LOG_DEBUG", LOG_DEBUG },	    { NULL, 0 },
};

#define ROW(key_, default_, ...) \
	{ .key = #key_, \
	  .default_text = default_, \
	  .offset = offsetof(struct config, key_), \
	  __VA_ARGS__ },
#define ROW_TEXT(key, text, longest, flags_, meaning_) \
	ROW(key, text, .type = CONFIG_TEXT, .most = longest, .unit = "", .flags = flags_, \
	    .meaning = meaning_)
#define ROW_NUM(key, text, least_, most_, unit_, flags_, meaning_) \
	ROW(key, text, .type = CONFIG_NUM, .least = least_, .most = most_, .unit = unit_, \
	    .flags = flags_, .meaning = meaning_)
#define ROW_BOOL(key, text, flags_, meaning_) \
	ROW(key, text, .type = CONFIG_BOOL, .unit = "", .flags = flags_, .meaning = meaning_)
#define ROW_NAME(key, text, names_, flags_, meaning_) \
	ROW(key, text, .type = CONFIG_NAME, .names = names_, .unit = "", .flags = flags_, \
	    .meaning = meaning_)
#define ROW_PAIR(key, text, least_, most_, unit_, flags_, meaning_) \
	ROW(key, text, .type = CONFIG_PAIR, .least = least_, .most = most_, .unit = unit_, \
	    .flags = flags_, .meaning = meaning_)
#define ROW_LIST(key, longest, flags_, meaning_) \
	ROW(key, "", .type = CONFIG_LIST, .most = longest, .unit = "", .flags = flags_, \
	    .meaning = meaning_)

const struct config_row config_rows[] = { CONFIG_TABLE(ROW_TEXT, ROW_NUM, ROW_BOOL, ROW_NAME,
						       ROW_PAIR, ROW_LIST) };
const size_t config_row_count = sizeof(config_rows) / sizeof(config_rows[0]);

void *config_member(const struct config_row *row, const struct config *c)
{
	return (char *)(uintptr_t)c + row->offset;
}

const char *config_written_key(const struct config_row *row)
{
	if (strcmp(row->key, "tls_no_tlsv1_1") == 0)
		return "tls_no_tlsv1.1";
	if (strcmp(row->key, "tls_no_tlsv1_2") == 0)
		return "tls_no_tlsv1.2";
	return row->key;
}

static const char *name_of(const struct config_row *row, uint32_t value)
{
	for (const struct config_name *n = row->names; n->name; n++)
		if (n->value == value)
			return n->name;
	return "?";
}

static int print_list(const char *key, const struct config_list *list, char *text, size_t cap)
{
	size_t used = 0;

	for (size_t i = 0; i < list->count; i++) {
		int n = snprintf(text + used, cap - used, "%s %s\n", key, list->items[i]);

		if (n < 0 || (size_t)n >= cap - used)
			return -1;
		used += (size_t)n;
	}
	return list->count > 0 ? (int)used : snprintf(text, cap, "#%s\n", key);
}

/* A key without a value would be an error to the parser. */
static int print_text(const char *key, const char *value, bool is_secret, char *text, size_t cap)
{
	return *value ? snprintf(text, cap, "%s %s\n", key, is_secret ? "***" : value)
		      : snprintf(text, cap, "#%s\n", key);
}

static int print_row(const struct config *c, const struct config_row *row, char *text, size_t cap)
{
	const void *value = config_member(row, c);
	const char *key = config_written_key(row);

	switch (row->type) {
	case CONFIG_TEXT:
		return print_text(key, *(char *const *)value, row->flags & SECRET, text, cap);
	case CONFIG_NUM:
		return snprintf(text, cap, "%s %u\n", key, *(const uint32_t *)value);
	case CONFIG_BOOL:
		return snprintf(text, cap, "%s %s\n", key, *(const uint32_t *)value ? "yes" : "no");
	case CONFIG_NAME:
		return print_text(key, name_of(row, *(const uint32_t *)value), false, text, cap);
	case CONFIG_PAIR: {
		const struct config_pair *pair = value;

		return snprintf(text, cap, "%s %u %u\n", key, pair->least, pair->most);
	}
	case CONFIG_LIST:
		return print_list(key, value, text, cap);
	}
	return -1;
}

int config_print(const struct config *c, char *text, size_t cap)
{
	size_t used = 0;

	for (size_t i = 0; i < config_row_count; i++) {
		int n = print_row(c, &config_rows[i], text + used, cap - used);

		if (n < 0 || (size_t)n >= cap - used)
			return -ENOBUFS;
		used += (size_t)n;
	}
	return (int)used;
}

bool config_key_at(size_t i, struct config_key *ret)
{
	if (i >= config_row_count)
		return false;

	const struct config_row *row = &config_rows[i];

	*ret = (struct config_key){
		.name = config_written_key(row),
		.default_text = row->default_text,
		.unit = row->unit,
		.meaning = row->meaning,
		.reload = row->flags & RELOAD,
		.secret = row->flags & SECRET,
	};
	return true;
}

unsigned config_line_of(const struct config *c, const char *key)
{
	for (size_t i = 0; i < config_row_count; i++)
		if (strcmp(config_rows[i].key, key) == 0)
			return c->lines[i];
	return 0;
}

static bool same_list(const struct config_list *a, const struct config_list *b)
{
	for (size_t i = 0; i < a->count && i < b->count; i++)
		if (strcmp(a->items[i], b->items[i]) != 0)
			return false;
	return a->count == b->count;
}

/* Of what is no text. */
static size_t value_size(const struct config_row *row)
{
	return row->type == CONFIG_PAIR ? sizeof(struct config_pair) : sizeof(uint32_t);
}

bool config_key_same(const struct config *a, const struct config *b, size_t i)
{
	const void *x = config_member(&config_rows[i], a), *y = config_member(&config_rows[i], b);

	if (config_rows[i].type == CONFIG_TEXT)
		return strcmp(*(char *const *)x, *(char *const *)y) == 0;
	if (config_rows[i].type == CONFIG_LIST)
		return same_list(x, y);
	return memcmp(x, y, value_size(&config_rows[i])) == 0;
}

bool config_value_at(const struct config *c, size_t i, size_t part, struct span *ret)
{
	const struct config_row *row = &config_rows[i];
	const void *value = config_member(row, c);
	const struct config_list *list = value;

	if (part >= (row->type == CONFIG_LIST ? list->count : 1))
		return false;
	if (row->type == CONFIG_LIST)
		*ret = span_str(list->items[part]);
	else if (row->type == CONFIG_TEXT)
		*ret = span_str(*(char *const *)value);
	else
		*ret = (struct span){ value, value_size(row) };
	return true;
}
