/* imapproxy.conf: the old program's syntax, read by one table (config_table.h).
 *
 * A file is `key value` lines; # starts a comment anywhere, so that no value can hold one; the
 * value is the rest of the line with blanks cut off both ends; keys are case-insensitive; the last
 * of two equal keys wins, but all lines of a key that is a LIST in the table count. Bad values are
 * errors with file and line, unknown keys are warnings, because files in the wild carry some.
 */
#ifndef LIB_CONFIG_H
#define LIB_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/config_table.h"
#include "lib/span.h"

/* How a connection to a mail host is protected. */
enum tls_mode { TLS_NONE, TLS_STARTTLS, TLS_IMPLICIT };

/* Which name in a client's certificate is the user's. */
enum tls_name { TLS_NAME_EMAIL, TLS_NAME_CN, TLS_NAME_UID };

/* What becomes of an account without a mail host. */
enum no_mailhost { NO_MAILHOST_DEFAULT, NO_MAILHOST_LOCAL, NO_MAILHOST_REFUSE };

enum host_order { HOST_ORDER_IN_ORDER, HOST_ORDER_ROUND_ROBIN };

/* Who judges passwords. */
enum auth_policy { AUTH_BACKEND, AUTH_DIRECTORY, AUTH_BOTH };

/* What becomes of a login name's letters. */
enum login_case { LOGIN_KEEP, LOGIN_LOWER };

struct config_pair {
	uint32_t least;
	uint32_t most;
};

/* The values of a key that may stand there several times, and the lines where they do. */
#define CONFIG_LIST_MOST 16

struct config_list {
	char *items[CONFIG_LIST_MOST];
	unsigned lines[CONFIG_LIST_MOST];
	size_t count;
};

/* Values of log_format. */
enum config_log_format {
	LOG_FORMAT_UNSET,
	LOG_FORMAT_IMAPPROXY,
	LOG_FORMAT_KEEPWARM,
	LOG_FORMAT_COURIER,
};

/* How many keys there are. */
#define CONFIG_COUNT_ONE(...) +1
enum {
	CONFIG_KEYS = 0 CONFIG_TABLE(CONFIG_COUNT_ONE, CONFIG_COUNT_ONE, CONFIG_COUNT_ONE,
				     CONFIG_COUNT_ONE, CONFIG_COUNT_ONE, CONFIG_COUNT_ONE)
};

/* One member per key. Strings belong to the config and are never NULL. */
struct config {
	unsigned lines[CONFIG_KEYS]; /* where each key was set; 0: nowhere */

#define MEMBER_TEXT(key, ...) char *key;
#define MEMBER_NUM(key, ...)  uint32_t key;
#define MEMBER_BOOL(key, ...) uint32_t key;
#define MEMBER_NAME(key, ...) uint32_t key;
#define MEMBER_PAIR(key, ...) struct config_pair key;
#define MEMBER_LIST(key, ...) struct config_list key;
	CONFIG_TABLE(MEMBER_TEXT, MEMBER_NUM, MEMBER_BOOL, MEMBER_NAME, MEMBER_PAIR, MEMBER_LIST)
#undef MEMBER_TEXT
#undef MEMBER_NUM
#undef MEMBER_BOOL
#undef MEMBER_NAME
#undef MEMBER_PAIR
#undef MEMBER_LIST
};

/* Told about each problem: `line` is one finished sentence that begins with file:line. */
typedef void config_report_fn(void *context, bool is_error, const char *line);

/* Sets every key to its default. Returns 0 or -ENOMEM. End it with config_wipe(). */
int config_init(struct config *c);

/* Reads the file's text (of `length` bytes; `name` is for messages) over what c holds. Every
 * problem is reported. Returns the number of errors (0: c is good) or -ENOMEM; warnings are counted
 * in *ret_warnings when that is not NULL. */
int config_parse(struct config *c, const char *name, const char *text, size_t length,
		 config_report_fn *report, void *context, int *ret_warnings);

/* config_init() and config_parse() of a file. The text comes from the descriptor fd from its start
 * (a file that may have been opened with other rights), or with fd < 0 from the path. Returns as
 * config_parse(); a file that cannot be read is one reported error. On any error c is wiped. */
int config_load(struct config *c, const char *path, int fd, config_report_fn *report, void *context,
		int *ret_warnings);

/* config_load() for a service that runs: a file in which no key is set is an error, too. An editor
 * that cuts a file to nothing and writes it again is about to say more. */
int config_load_again(struct config *c, const char *path, int fd, config_report_fn *report,
		      void *context);

/* Frees the strings, overwriting those marked SECRET. Wiping twice is allowed. */
void config_wipe(struct config *c);

/* Writes "key value" and a line feed for every key into text (at most cap bytes, NUL-terminated),
 * in the table's order, secrets as ***, an empty value as "#key", so that the text can be parsed
 * again. Returns the length or -ENOBUFS. */
int config_print(const struct config *c, char *text, size_t cap);

/* Copies the run directory into path: run_directory, or its default for this user. config_path is
 * the file's path. Returns 0 or -ENAMETOOLONG when a socket in it would not fit into a socket
 * address. */
int config_run_directory(const struct config *c, const char *config_path, char *path, size_t cap);

/* The keys of the table in turn, for messages about a reload and for the manual's test. */
struct config_key {
	const char *name;
	const char *default_text;
	const char *unit;
	const char *meaning;
	bool reload;
	bool secret;
};

/* Describes key i in *ret and returns true, or returns false behind the last one. */
bool config_key_at(size_t i, struct config_key *ret);

/* The line of the file that set this key, 0 for a default. */
unsigned config_line_of(const struct config *c, const char *key);

/* Has key i the same value in both? */
bool config_key_same(const struct config *a, const struct config *b, size_t i);

/* The parts of key i's value in turn, for a digest: a text, each text of a list, else the bytes of
 * the number or numbers. *ret borrows from c. Returns false behind the last part. */
bool config_value_at(const struct config *c, size_t i, size_t part, struct span *ret);

/* Is any of these mechanisms (lib/sasl.h) among auth_mechanisms? */
bool config_offers(const struct config *c, uint32_t mechanisms);

#endif
