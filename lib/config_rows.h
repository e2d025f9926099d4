/* The rows behind config.h, for its own files: parser, values, printing. */
#ifndef LIB_CONFIG_ROWS_H
#define LIB_CONFIG_ROWS_H

#include "lib/config.h"

enum config_type { CONFIG_TEXT, CONFIG_NUM, CONFIG_BOOL, CONFIG_NAME, CONFIG_PAIR, CONFIG_LIST };
enum config_flags {
	RELOAD = 1,
	SECRET = 2,
	NETWORKS = 4,
	MECHANISMS = 8,
	DIRECTORIES = 16,
	PLACE = 32,
	HOSTS = 64,
	HOST = 128,
	HEADER = 256,
};

/* One of the words that a NAME key takes; a list ends with a NULL name. */
struct config_name {
	const char *name;
	uint32_t value;
};

struct config_row {
	const char *key;
	const char *default_text;
	const char *unit;
	const char *meaning;
	const struct config_name *names;
	size_t offset;
	uint32_t least, most;
	enum config_type type;
	unsigned flags;
};

extern const struct config_row config_rows[];
extern const size_t config_row_count;

/* The row's member in c. */
void *config_member(const struct config_row *row, const struct config *c);

/* The key as it is written in a file: tls_no_tlsv1_1 is tls_no_tlsv1.1 there. */
const char *config_written_key(const struct config_row *row);

/* What is being parsed, and what was wrong with it so far. */
struct config_problems {
	struct config *config;
	const char *file;
	unsigned line;
	config_report_fn *report;
	void *context;
	int errors;
	int warnings;
};

/* Counts and reports a problem of the line being parsed. */
__attribute__((format(printf, 3, 4))) void config_say(struct config_problems *p, bool is_error,
						      const char *format, ...);

/* Reads value into the row's member; a bad one is reported. 0 or -ENOMEM. */
int config_set_value(struct config_problems *p, const struct config_row *row, const char *value);

/* Reports what the keys about TLS say that does not go together (config_tls.c). */
void config_tls_judge(struct config_problems *p);

/* The same of those about logins (config_login.c). */
void config_login_judge(struct config_problems *p);

/* Frees a text member, overwriting a secret. */
void config_free_text(const struct config_row *row, char **text);

/* Empties a list member. */
void config_free_list(struct config_list *list);

#endif
