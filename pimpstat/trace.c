/* pimpstat --trace, --drain and the like: asked of the broker over its admin socket, which lets in
 * root and the user that the service runs as. Its answer is waited for: when it has come, the mark
 * stands in the log and the sessions are traced; or the connections are closed, and it says how
 * many.
 */
#include "pimpstat/trace.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/config.h"
#include "lib/fd.h"
#include "lib/msgsock.h"

#define ANSWER_MS 30000 /* what a broker with much to close needs between its other work */
#define PATH_CAP  108 /* of a socket address */

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

static const struct verb {
	const char *name, *argument; /* NULL: takes none */
	enum msg_admin kind;
	const char *meaning;
} verbs[] = {
	{ "trace", "USER", ADMIN_TRACE_USER, "trace this user's sessions into the protocol log" },
	{ "untrace", "USER", ADMIN_UNTRACE_USER, "end that" },
	{ "traced", NULL, ADMIN_TRACED, "print who is traced" },
	{ "drain", "HOST", ADMIN_DRAIN, "no new sessions at this mail host; close what is cached" },
	{ "pause", "HOST", ADMIN_PAUSE, "no new sessions at this mail host; keep what is cached" },
	{ "resume", "HOST", ADMIN_RESUME, "end both" },
	{ "flush", "HOST", ADMIN_FLUSH_HOST, "close its cached connections" },
	{ "flush-user", "USER", ADMIN_FLUSH_USER, "close a user's, forget where his mail is" },
	{ "kick", "USER", ADMIN_KICK_USER, "the same, and end his sessions" },
};
#define VERBS (sizeof(verbs) / sizeof(verbs[0]))

struct request {
	const char *config;
	enum msg_admin kind; /* 0: none */
	const char *argument;
	bool odd; /* something that is not ours was on the command line */
};

static void read_arguments(int argc, char **argv, struct request *r)
{
	struct option longs[VERBS + 2] = { { "config", required_argument, NULL, 'f' } };
	int c;

	for (size_t i = 0; i < VERBS; i++)
		longs[i + 1] = (struct option){ verbs[i].name, verbs[i].argument != NULL, NULL,
						(int)verbs[i].kind };
	opterr = 0;
	while ((c = getopt_long(argc, argv, "f:", longs, NULL)) != -1) {
		if (c == 'f') {
			r->config = optarg;
		} else if (c == '?' || c == ':' || r->kind != 0) {
			r->odd = true;
		} else {
			r->kind = (enum msg_admin)c;
			r->argument = optarg ? optarg : "";
		}
	}
	r->odd = r->odd || optind < argc;
	opterr = 1;
	optind = 0; /* glibc: begin anew, altogether */
}

static void report_error(void *context, bool is_error, const char *line)
{
	bool *reported = context;

	if (is_error && !*reported)
		fprintf(stderr, "pimpstat: %s\n", line);
	*reported = *reported || is_error;
}

/* The admin socket's path. */
static int find_socket(const char *config_path, char *path)
{
	struct config config;
	char directory[PATH_CAP];
	bool reported = false;

	if (config_load(&config, config_path, -1, report_error, &reported, NULL) != 0)
		return -EINVAL;
	int r = config_run_directory(&config, config_path, directory, sizeof(directory));

	config_wipe(&config);
	int n = r < 0 ? r : snprintf(path, PATH_CAP, "%s/admin", directory);

	if (n > 0 && n < PATH_CAP)
		return 0;
	fprintf(stderr, "pimpstat: run_directory is too long\n");
	return -ENAMETOOLONG;
}

static int complain(const char *path, int error)
{
	if (error == -EACCES)
		fprintf(stderr, "pimpstat: %s: no permission: run it as root\n", path);
	else if (error == -ENOENT || error == -ECONNREFUSED)
		fprintf(stderr, "pimpstat: %s: no broker runs there: start the service\n", path);
	else if (error == -ECONNRESET || error == -EPIPE)
		fprintf(stderr,
			"pimpstat: %s: the broker refuses: run it as root, and the pimpstat that "
			"came with the broker\n",
			path);
	else
		fprintf(stderr, "pimpstat: %s: %s\n", path, strerror(-error));
	return EXIT_FAILED;
}

/* One question, one answer, whose text lives until the next. 0 or -errno. */
static int ask(int sock, const struct msg *m, struct msg *reply)
{
	static char received[MSG_MAX];
	struct pollfd fd = { .fd = sock, .events = POLLIN };
	int none = -1, r = msgsock_send(sock, m, -1);

	if (r == 0 && poll(&fd, 1, ANSWER_MS) != 1)
		r = -ETIMEDOUT;
	if (r == 0)
		r = msgsock_receive(sock, ROLE_BROKER, received, reply, &none);
	fd_drop(&none);
	return r == 0 && reply->type != MSG_REPORT ? -EPROTO : r;
}

static int converse(int sock, const char *path, const struct request *request)
{
	struct msg reply, m = { .type = MSG_ADMIN,
				.serial = 1,
				.ADMIN = { .kind = request->kind,
					   .argument = span_str(request->argument) } };

	do {
		int r = ask(sock, &m, &reply);

		if (r < 0)
			return complain(path, r);
		if (reply.REPORT.result != REPORT_DONE) {
			fprintf(stderr, "pimpstat: %s: %.*s\n", request->argument,
				(int)reply.REPORT.text.n, reply.REPORT.text.p);
			return EXIT_FAILED;
		}
		(void)fwrite(reply.REPORT.text.p, 1, reply.REPORT.text.n, stdout);
		if (request->kind >= ADMIN_DRAIN)
			(void)putchar('\n');
		m.ADMIN.from = reply.REPORT.next;
		m.serial++;
	} while (m.ADMIN.from > 0);
	return fflush(stdout) == 0 ? EXIT_OK : EXIT_FAILED;
}

void trace_print_usage(FILE *out)
{
	for (size_t i = 0; i < VERBS; i++) {
		char names[40];

		(void)snprintf(names, sizeof(names), "    --%s %s", verbs[i].name,
			       verbs[i].argument ? verbs[i].argument : "");
		(void)fprintf(out, "  %-21s %s\n", names, verbs[i].meaning);
	}
}

int trace_main(int argc, char **argv, const char *default_config)
{
	struct request request = { .config = default_config };
	char path[PATH_CAP];

	read_arguments(argc, argv, &request);
	if (request.kind == 0)
		return -1;
	size_t n = strlen(request.argument);

	if (request.odd || n > 255 || (n == 0 && request.kind != ADMIN_TRACED)) {
		(void)fputs("usage: pimpstat [-f FILE] with one of\n", stderr);
		trace_print_usage(stderr);
		return EXIT_USAGE;
	}
	if (find_socket(request.config, path) < 0)
		return EXIT_FAILED;
	AUTO_FD sock = msgsock_connect(path);

	return sock < 0 ? complain(path, sock) : converse(sock, path, &request);
}
