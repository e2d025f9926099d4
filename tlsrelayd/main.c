/* tlsrelayd: TLS with clients and mail hosts, for programs that know none. Options and what was
 * passed to it; the rest is master.c. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/activation.h"
#include "lib/bundle.h"
#include "lib/confine.h"
#include "lib/log.h"
#include "tlsrelayd/heap.h"
#include "tlsrelayd/master.h"
#include "tlsrelayd/sandbox.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

static const char usage_text[] =
	"usage: tlsrelayd -f FILE [-n] [-r RUNDIR] [-l syslog|stderr|file]\n";

static int read_options(int argc, char **argv, struct master *m, enum log_target *target,
			bool *ret_check)
{
	int c;

	*target = LOG_TO_SYSLOG;
	while ((c = getopt(argc, argv, "f:nr:l:h")) != -1) {
		switch (c) {
		case 'n':
			*ret_check = true;
			break;
		case 'f':
			m->config_path = optarg;
			break;
		case 'r':
			m->run_directory = optarg;
			break;
		case 'l':
			if (log_target_parse(optarg, target) < 0)
				return EXIT_USAGE;
			break;
		case 'h':
			(void)fputs(usage_text, stdout);
			exit(EXIT_OK);
		default:
			return EXIT_USAGE;
		}
	}
	return optind == argc && m->config_path ? EXIT_OK : EXIT_USAGE;
}

static int take_fds(struct master *m)
{
	const struct activation_place places[] = { { "config", &m->config_fd },
						   { BUNDLE_NAME, &m->bundle_fd } };

	return activation_take_named(places, sizeof(places) / sizeof(places[0]));
}

int main(int argc, char **argv)
{
	static struct master m;
	enum log_target target;
	bool check = false;

	if (read_options(argc, argv, &m, &target, &check) != EXIT_OK) {
		(void)fputs(usage_text, stderr);
		return EXIT_USAGE;
	}
	log_open("tlsrelayd", target);
	log_follow();
	if (confine_dumps() < 0 || heap_setup() < 0 || take_fds(&m) < 0 || master_load(&m) < 0) {
		log_printf(LOG_ERR, check ? "TLS cannot be served with these settings"
					  : "tlsrelayd cannot start");
		return EXIT_FAILED;
	}
	if (check)
		return EXIT_OK;
	int r = sandbox_enter_master();

	if (r < 0) {
		log_printf(LOG_ERR, "tlsrelayd cannot lock itself up: %s", strerror(-r));
		return EXIT_FAILED;
	}
	return master_run(&m);
}
