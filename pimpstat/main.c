/* pimpstat: what the broker counts, once as text or as JSON. Reads the state file, changes nothing.
 *
 * The state file is mapped: should somebody cut it short while it is read, the kernel sends SIGBUS.
 * That becomes a sentence and exit 1, as every other trouble with the file.
 */
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/config.h"
#include "pimpstat/json.h"
#include "pimpstat/model.h"
#include "pimpstat/text.h"
#include "pimpstat/trace.h"

#define CONFIG_PATH "/etc/imapproxy.conf"

enum format { FORMAT_TEXT, FORMAT_JSON };

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct options {
	const char *config;
	enum format format;
};

static const char usage_text[] =
	"usage: pimpstat [-f FILE] [-1 | --json]\n"
	"  -f, --config FILE  the service's configuration (" CONFIG_PATH ")\n"
	"  -1, --once         print one page and exit\n"
	"      --json         print one JSON object and exit\n"
	"      --trace USER   trace this user's sessions into the protocol log\n"
	"      --untrace USER end that\n"
	"      --traced       print who is traced\n"
	"  -h, --help         print this and exit\n";

/* Returns -1 to go on, else the exit code. */
static int read_options(int argc, char **argv, struct options *ret)
{
	static const struct option longs[] = {
		{"config", required_argument, NULL, 'f'},
		{"once", no_argument, NULL, '1'},
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int c;

	*ret = (struct options){.config = CONFIG_PATH};
	while ((c = getopt_long(argc, argv, "f:1h", longs, NULL)) != -1) {
		switch (c) {
		case 'f':
			ret->config = optarg;
			break;
		case '1':
			ret->format = FORMAT_TEXT;
			break;
		case 'j':
			ret->format = FORMAT_JSON;
			break;
		case 'h':
			(void)fputs(usage_text, stdout);
			return EXIT_OK;
		default:
			(void)fputs(usage_text, stderr);
			return EXIT_USAGE;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "pimpstat: '%s' is not understood\n%s", argv[optind], usage_text);
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

/* Only what may be called in a signal handler; the path is not known to it. */
static void on_bus_error(int number)
{
	static const char text[] = "pimpstat: the state file (stat_filename) was cut short or is "
				   "damaged: remove it and restart the service\n";

	(void)number;
	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		_exit(EXIT_FAILED);
	_exit(EXIT_FAILED);
}

static int print(const struct model *m, enum format format)
{
	int64_t now = clock_wall();
	int r = 0;

	if (format == FORMAT_JSON)
		r = json_print(stdout, m, now);
	else
		text_print(stdout, m, now);
	if (r == 0 && fflush(stdout) == 0 && !ferror(stdout))
		return EXIT_OK;
	fprintf(stderr, "pimpstat: standard output cannot be written\n");
	return EXIT_FAILED;
}

int main(int argc, char **argv)
{
	struct options options;
	struct config config;
	struct model model;
	char why[512];
	bool reported = false;
	int code = trace_main(argc, argv, CONFIG_PATH);

	if (code < 0)
		code = read_options(argc, argv, &options);
	if (code >= 0)
		return code;
	if (config_load(&config, options.config, -1, report_error, &reported, NULL) != 0)
		return EXIT_FAILED;
	(void)signal(SIGBUS, on_bus_error);
	if (model_read(config.stat_filename, &model, why, sizeof(why)) < 0) {
		fprintf(stderr, "pimpstat: %s\n", why);
		config_wipe(&config);
		return EXIT_FAILED;
	}
	code = print(&model, options.format);
	model_wipe(&model);
	config_wipe(&config);
	return code;
}
