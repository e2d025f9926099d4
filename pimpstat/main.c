/* pimpstat: what the broker counts, on a screen or once as text or JSON. Reads the state file,
 * changes nothing.
 */
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/config.h"
#include "pimpstat/classic.h"
#include "pimpstat/json.h"
#include "pimpstat/model.h"
#include "pimpstat/screen.h"
#include "pimpstat/text.h"
#include "pimpstat/trace.h"
#include "pimpstat/traffic.h"

#define CONFIG_PATH "/etc/imapproxy.conf"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* What is to be done with the state file: each a way to run. */
struct action {
	int (*run)(const struct action *a, const char *path);
	int (*print)(const struct model *m);
};

struct options {
	const char *config;
	const struct action *action;
};

static void complain(const char *why)
{
	fprintf(stderr, "pimpstat: %s\n", why);
}

/* --- actions --- */

static int print_text(const struct model *m)
{
	text_print(stdout, m, clock_wall());
	return 0;
}

static int print_json(const struct model *m)
{
	return json_print(stdout, m, clock_wall());
}

static int print_classic(const struct model *m)
{
	classic_print(stdout, m);
	return 0;
}

static int run_once(const struct action *a, const char *path)
{
	struct model model;
	char why[512];

	if (model_read(path, &model, why, sizeof(why)) < 0) {
		complain(why);
		return EXIT_FAILED;
	}
	traffic_add(&model);
	int r = a->print(&model);

	model_wipe(&model);
	if (r == 0 && fflush(stdout) == 0 && !ferror(stdout))
		return EXIT_OK;
	complain("standard output cannot be written");
	return EXIT_FAILED;
}

static int run_screen(const struct action *a, const char *path)
{
	char why[512];

	(void)a;
	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
		fprintf(stderr,
			"pimpstat: standard %s is no terminal: use pimpstat -1 for a page of text, "
			"-c for the old program's lines, --json for programs\n",
			isatty(STDOUT_FILENO) ? "input" : "output");
		return EXIT_USAGE;
	}
	if (screen_run(path, why, sizeof(why)) == 0)
		return EXIT_OK;
	complain(why);
	return EXIT_FAILED;
}

static const struct action screen_action = {run_screen, NULL}, text_action = {run_once, print_text},
			   json_action = {run_once, print_json},
			   classic_action = {run_once, print_classic};

/* --- options --- */

static void set_config(struct options *o, const char *value)
{
	o->config = value;
}

/* A row either chooses an action or sets something. */
static const struct option_row {
	char letter; /* 0: only the long name */
	const char *name;
	const char *value; /* the word for it, NULL: takes none */
	const char *meaning;
	const struct action *action;
	void (*set)(struct options *o, const char *value);
} rows[] = {
	{'f', "config", "FILE", "the service's configuration (" CONFIG_PATH ")", NULL, set_config},
	{'1', "once", NULL, "print one page and exit", &text_action, NULL},
	{'c', NULL, NULL, "print what the old pimpstat -c printed and exit", &classic_action, NULL},
	{0, "json", NULL, "print one JSON object and exit", &json_action, NULL},
	{'h', "help", NULL, "print this and exit", NULL, NULL},
};
#define ROWS	  (sizeof(rows) / sizeof(rows[0]))
#define LONG_ONLY 0x100 /* and the row's number: getopt_long()'s word for one without letter */

static void print_usage(FILE *out)
{
	(void)fputs("usage: pimpstat [-f FILE] [-1 | -c | --json]\n"
		    "  without an option: a screen, renewed every second; ? shows its keys\n",
		    out);
	for (size_t i = 0; i < ROWS; i++) {
		char names[40];
		char letter[4] = {'-', rows[i].letter, '\0'};

		(void)snprintf(names, sizeof(names), "%-2s%s %s%s %s",
			       rows[i].letter ? letter : "",
			       rows[i].letter && rows[i].name ? "," : " ",
			       rows[i].name ? "--" : "", rows[i].name ? rows[i].name : "",
			       rows[i].value ? rows[i].value : "");
		fprintf(out, "  %-20s  %s\n", names, rows[i].meaning);
	}
	trace_print_usage(out);
}

/* The table as getopt_long() wants it. */
static void make_getopt(char *letters, struct option *longs)
{
	for (size_t i = 0; i < ROWS; i++) {
		int id = rows[i].letter ? rows[i].letter : LONG_ONLY + (int)i;

		if (rows[i].letter)
			*letters++ = rows[i].letter;
		if (rows[i].letter && rows[i].value)
			*letters++ = ':';
		if (rows[i].name)
			*longs++ = (struct option){rows[i].name, rows[i].value != NULL, NULL, id};
	}
	*letters = '\0';
	*longs = (struct option){NULL, 0, NULL, 0};
}

static const struct option_row *row_of(int c)
{
	for (size_t i = 0; i < ROWS; i++)
		if (c == (rows[i].letter ? rows[i].letter : LONG_ONLY + (int)i))
			return &rows[i];
	return NULL;
}

/* Returns -1 to go on, else the exit code. */
static int read_options(int argc, char **argv, struct options *ret)
{
	char letters[2 * ROWS + 1];
	struct option longs[ROWS + 1];
	int c;

	*ret = (struct options){.config = CONFIG_PATH, .action = &screen_action};
	make_getopt(letters, longs);
	while ((c = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
		const struct option_row *row = row_of(c);

		if (!row) {
			print_usage(stderr);
			return EXIT_USAGE;
		}
		if (row->set)
			row->set(ret, optarg);
		else if (row->action)
			ret->action = row->action;
		else {
			print_usage(stdout);
			return EXIT_OK;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "pimpstat: '%s' is not understood\n", argv[optind]);
		print_usage(stderr);
		return EXIT_USAGE;
	}
	return -1;
}

/* The first error only; warnings are the daemon's affair. */
static void report_error(void *context, bool is_error, const char *line)
{
	bool *reported = context;

	if (is_error && !*reported)
		fprintf(stderr,
			"pimpstat: %s; correct it (proxyd -n -f FILE checks it) or name another "
			"configuration with -f\n",
			line);
	*reported = *reported || is_error;
}

int main(int argc, char **argv)
{
	struct options options;
	struct config config;
	bool reported = false;
	int code = trace_main(argc, argv, CONFIG_PATH);

	if (code < 0)
		code = read_options(argc, argv, &options);
	if (code >= 0)
		return code;
	if (config_load(&config, options.config, -1, report_error, &reported, NULL) != 0)
		return EXIT_FAILED;
	code = options.action->run(options.action, config.stat_filename);
	config_wipe(&config);
	return code;
}
