/* proxyd: how it was started decides what it is.
 *
 *	-n, -p			a tool that checks or prints the settings of a file
 *	listening sockets	the listener (LISTEN_FDS, or inetd "wait" on fd 0)
 *	a connected socket	one session (fd 0, or the only one of LISTEN_FDS)
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/activation.h"
#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "proxyd/hello.h"
#include "proxyd/io.h"
#include "proxyd/listener.h"
#include "proxyd/pool.h"
#include "proxyd/service.h"
#include "proxyd/session.h"
#include "proxyd/settings.h"

#define DEFAULT_RUN_DIRECTORY "/run/keepwarm"
#define DEFAULT_CONFIG	      "/etc/imapproxy.conf"
#define EXIT_USAGE	      2
#define BACKLOG		      4096

struct options {
	const char *run_directory;
	const char *config;
	const struct service *service; /* of a socket without a name of its own */
	enum log_target target;
	bool check, print;
};

static int usage(FILE *to, int status)
{
	(void)fprintf(
		to,
		"Usage: proxyd -r RUNDIR [-l syslog|stderr|file] [-s imap|imaps|pop3|pop3s]\n"
		"                                                  serve the socket(s) passed to "
		"it\n"
		"       proxyd -n [-f FILE]                        check a configuration\n"
		"       proxyd -p [-f FILE]                        print the effective settings\n");
	return status;
}

/* Is this descriptor the very socket that is standard input? */
static bool is_standard_socket(int fd)
{
	struct stat input, other;

	return fstat(STDIN_FILENO, &input) == 0 && fstat(fd, &other) == 0 &&
	       S_ISSOCK(input.st_mode) && input.st_dev == other.st_dev &&
	       input.st_ino == other.st_ino;
}

/* Under inetd nothing is said on standard error: it is the client's connection. */
static int wrong_usage(void)
{
	if (!is_standard_socket(STDERR_FILENO))
		return usage(stderr, EXIT_USAGE);
	log_open("proxyd", LOG_TO_SYSLOG);
	log_printf(LOG_ERR, "wrong options: see proxyd(8)");
	return EXIT_USAGE;
}

/* -1: go on; else the exit status. */
static int read_options(int argc, char **argv, struct options *o)
{
	int c;

	opterr = !is_standard_socket(STDERR_FILENO);
	while ((c = getopt(argc, argv, "r:f:l:s:nph")) != -1) {
		switch (c) {
		case 'r':
			o->run_directory = optarg;
			break;
		case 'f':
			o->config = optarg;
			break;
		case 'l':
			if (log_target_parse(optarg, &o->target) < 0)
				return wrong_usage();
			break;
		case 's':
			o->service = service_find(optarg);
			if (!o->service)
				return wrong_usage();
			break;
		case 'n':
			o->check = true;
			break;
		case 'p':
			o->print = true;
			break;
		case 'h':
			return usage(stdout, 0);
		default:
			return wrong_usage();
		}
	}
	return optind < argc ? wrong_usage() : -1;
}

/* 1: listening, 0: a connection, -errno: neither. */
static int is_listening(int fd)
{
	int on = 0, type = 0;
	socklen_t n = sizeof(on);

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) < 0)
		return -errno;
	if (type != SOCK_STREAM)
		return -EPROTOTYPE;
	n = sizeof(on);
	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &n) < 0 ? -errno : on != 0;
}

static int in_run_directory(const struct options *o, const char *name, char *path, size_t cap)
{
	int n = snprintf(path, cap, "%s/%s", o->run_directory, name);

	if (n > 0 && (size_t)n < cap)
		return 0;
	log_printf(LOG_ERR, "-r %s: the path is too long", o->run_directory);
	return -ENAMETOOLONG;
}

/* Who starts us may have closed some of them: what is opened later must not come to stand there,
 * nor the stream that is received in the client's place (tls.c). */
static int fill_standard_places(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

/* Under inetd the socket is standard input, output and error. There a client's connection would
 * stay open when tlsrelayd has it, and a line on standard error would be the client's; of a
 * listening one every session would have a copy, at which it could accept other clients. */
static int leave_standard_places(int *sock)
{
	AUTO_FD nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct stat theirs, here;

	if (nothing < 0 || fstat(*sock, &theirs) < 0)
		return -errno;
	if (*sock <= STDERR_FILENO)
		*sock = fcntl(*sock, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (*sock < 0)
		return -errno;
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fstat(fd, &here) == 0 && here.st_dev == theirs.st_dev &&
		    here.st_ino == theirs.st_ino && dup3(nothing, fd, 0) < 0)
			return -errno;
	return 0;
}

/* One connection: meets the broker before anything else; a client that comes while it is away is
 * told so. */
static int serve_one(const struct options *o, const struct activation_fd *connection)
{
	char path[256];
	const struct service *service = service_find(connection->name);
	struct session_start start = { .client = connection->fd,
				       .link = { .sock = -1, .door = -1, .client = -1 },
				       .tls = service->tls };

	if (in_run_directory(o, "session", path, sizeof(path)) < 0)
		return 1;
	io_init();
	hello_describe(start.client, service->service, &start.hello);
	start.broker_path = path;
	return session_run(&start);
}

/* The sockets that were passed to us, by LISTEN_FDS or as standard input, out of the standard
 * places. Returns how many, or -errno. */
static int take_sockets(struct activation_fd fds[POOLS_MAX])
{
	int count = activation_take(fds, POOLS_MAX);
	bool inetd = count == 0;

	if (count < 0) {
		log_printf(LOG_ERR, "LISTEN_FDS makes no sense: %s", strerror(-count));
		return count;
	}
	if (inetd)
		fds[count++] = (struct activation_fd){ .fd = STDIN_FILENO };
	for (int i = 0; i < count; i++) {
		int r = leave_standard_places(&fds[i].fd);

		if (r < 0) {
			log_printf(LOG_ERR, "cannot take a socket over: %s", strerror(-r));
			return r;
		}
	}
	/* xinetd's queue of 64 would lose clients in a burst */
	if (inetd && is_listening(fds[0].fd) > 0)
		(void)listen(fds[0].fd, BACKLOG);
	return count;
}

static int serve(const struct options *o)
{
	struct activation_fd fds[POOLS_MAX];
	int count = take_sockets(fds);

	if (count < 0)
		return 1;
	for (int i = 0; i < count; i++) {
		int listening = is_listening(fds[i].fd);

		if (!service_find(fds[i].name))
			(void)snprintf(fds[i].name, sizeof(fds[i].name), "%s", o->service->name);

		if (listening < 0 || (listening == 0 && count > 1)) {
			log_printf(LOG_ERR,
				   "descriptor %d is %s; give listening sockets, or one connection "
				   "(see proxyd(8))",
				   fds[i].fd,
				   listening < 0 ? "no stream socket"
						 : "a connection among others");
			return 1;
		}
		if (listening == 0)
			return serve_one(o, &fds[0]);
	}
	return listener_run(fds, (size_t)count, o->run_directory);
}

/* Whoever has a low limit can pass no descriptor on as long as all processes of its user together
 * have more on their way: a restarting broker's pack holds thousands. */
static void raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit); /* what we have is enough to go on */
}

int main(int argc, char **argv)
{
	struct options o = { .run_directory = DEFAULT_RUN_DIRECTORY,
			     .config = DEFAULT_CONFIG,
			     .service = service_default(),
			     .target = LOG_TO_SYSLOG };
	int status = fill_standard_places() < 0 ? 1 : read_options(argc, argv, &o);

	if (status >= 0)
		return status;
	if (o.check || o.print)
		return settings_tool(o.config, o.check, o.print);
	log_open("proxyd", o.target);
	raise_limit();
	return serve(&o);
}
