/* in.imapproxyd: the old name and the easy start. Reads one file, binds and keeps every socket,
 * starts the other programs and keeps them running. It sees no byte of any protocol.
 *
 * The order of the start decides what a failure leaves behind: everything that can be refused is
 * refused before anything is bound, and the lock of the run directory is taken before anything in
 * it is touched, so that a second start by mistake does not disturb the first.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "imapproxyd/configtext.h"
#include "imapproxyd/daemonize.h"
#include "imapproxyd/files.h"
#include "imapproxyd/notify.h"
#include "imapproxyd/report.h"
#include "imapproxyd/rundir.h"
#include "imapproxyd/settings.h"
#include "imapproxyd/supervisor.h"
#include "imapproxyd/tcp.h"
#include "imapproxyd/tlsfiles.h"
#include "imapproxyd/wrappers.h"
#include "lib/activation.h"
#include "lib/bundle.h"
#include "lib/config_tls.h"
#include "lib/fd.h"

#define CONFIG_DEFAULT	 "/etc/imapproxy.conf"
#define NOTIFY_NAME	 "notify"
#define HEIR_PATIENCE_MS 3000

/* Wrong usage is 1, too, as init scripts know it from the old program. */
enum exit_code { EXIT_GOOD = 0, EXIT_FAILED = 1 };

struct options {
	const char *config;
	const char *pid_file; /* NULL: not given */
};

struct service {
	struct settings settings;
	struct supervisor supervisor;
	struct rundir rundir;
	int pid_fd;
	int starter;
};

/* The local sockets; their owner is proc_username, and the group may start sessions. The admin
 * socket stays ours: of a proc_username that other services have, too, they may be part. */
static const struct {
	const char *name;
	mode_t mode;
	bool ours;
} local_sockets[] = {
	{ "session", 0660, false },
	{ "listener", 0600, false },
	{ "lookup", 0600, false },
	{ "tls", 0600, false },
	{ "admin", 0600, true },
};

static void print_usage(void)
{
	(void)puts("Usage: in.imapproxyd [-f config filename] [-p pidfile] [-h]");
}

/* Returns -1 to go on, else the exit code. Further arguments are ignored, as they always were. */
static int parse_options(int argc, char **argv, struct options *o)
{
	int option;

	*o = (struct options){ .config = CONFIG_DEFAULT };
	while ((option = getopt(argc, argv, "f:p:h")) != -1) {
		switch (option) {
		case 'f':
			o->config = optarg;
			break;
		case 'p':
			o->pid_file = optarg;
			break;
		case 'h':
			print_usage();
			return EXIT_GOOD;
		default: /* getopt(3) has said what is wrong */
			print_usage();
			return EXIT_FAILED;
		}
	}
	return -1;
}

/* Descriptors that the starter left open are none of the children's business, and a closed standard
 * descriptor must not become somebody's socket. */
static void tidy_descriptors(void)
{
	for (int fd = open("/dev/null", O_RDWR); fd >= 0; fd = open("/dev/null", O_RDWR))
		if (fd > STDERR_FILENO) {
			close(fd);
			break;
		}
	(void)close_range(STDERR_FILENO + 1, UINT_MAX, CLOSE_RANGE_CLOEXEC);
}

/* After the fork: the starter, who only waits, can still be interrupted. */
static int block_signals(struct service *v)
{
	static const int taken[] = { SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGCHLD };
	sigset_t *set = &v->supervisor.signals;

	sigemptyset(set);
	for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++) {
		/* A shell or nohup may have left it ignored: then no signalfd tells of it, and with
		 * SIGCHLD nothing is left to be reaped. */
		(void)signal(taken[i], SIG_DFL);
		sigaddset(set, taken[i]);
	}
	(void)signal(SIGPIPE, SIG_IGN);
	return sigprocmask(SIG_BLOCK, set, NULL) < 0 ? -errno : 0;
}

/* The children lie beside us. */
static int find_directory(char *path, size_t cap)
{
	ssize_t n = readlink("/proc/self/exe", path, cap - 1);

	if (n <= 0)
		return n < 0 ? -errno : -ENOENT;
	path[n] = '\0';
	char *slash = strrchr(path, '/');

	if (!slash)
		return -ENOENT;
	*slash = '\0';
	return 0;
}

/* --- the steps of the start ---------------------------------------------------------- */

static int load_settings(struct service *v, const struct options *o)
{
	char path[PATH_MAX];
	int r = settings_absolute(o->config, path, sizeof(path));
	int text = r < 0 ? r : configtext_read(path, true);

	if (text < 0) {
		report(LOG_ERR, "%s: cannot be read: %s", o->config, strerror(-text));
		return text;
	}
	v->supervisor.config_text = text;
	if (settings_load(&v->settings, path, text, o->pid_file, true) != 0)
		return -EINVAL;
	return 0;
}

static int go_to_background(struct service *v)
{
	if (v->settings.foreground)
		return 0;
	int r = daemonize_fork(&v->starter);

	if (r < 0)
		report(LOG_ERR, "cannot go to the background: %s", strerror(-r));
	return r;
}

static int take_run_directory(struct service *v)
{
	return rundir_open(&v->rundir, v->settings.run_directory);
}

static int take_pid_file(struct service *v)
{
	if (!*v->settings.pid_file)
		return 0;
	v->pid_fd = files_lock_pid(v->settings.pid_file);
	return v->pid_fd < 0 ? v->pid_fd : 0;
}

/* The listener of an instance that was killed leaves the ports a moment later. */
static int bind_port(struct service *v, const char *name, const char *key, uint32_t port)
{
	int fds[TCP_SOCKETS_MAX];
	int64_t patience = rundir_has(&v->rundir, NOTIFY_NAME) ? HEIR_PATIENCE_MS : 0;
	int n = tcp_listen(v->settings.config.listen_address, key, port, patience, fds);

	for (int i = 0; i < n; i++)
		child_add_fd(&v->supervisor.children[CHILD_LISTENER], name, fds[i]);
	return n < 0 ? n : 0;
}

static int bind_ports(struct service *v)
{
	const struct config *c = &v->settings.config;
	const struct {
		const char *name, *key;
		uint32_t port; /* 0: none */
	} ports[] = {
		{ "imap", "listen_port", c->listen_port },
		{ "imaps", "imaps_listen_port", c->imaps_listen_port },
		{ "pop3", "pop3_listen_port", c->pop3_listen_port },
		{ "pop3s", "pop3s_listen_port", c->pop3s_listen_port },
	};
	int r = 0;

	for (size_t i = 0; r == 0 && c->run_listener && i < sizeof(ports) / sizeof(ports[0]); i++)
		if (ports[i].port != 0)
			r = bind_port(v, ports[i].name, ports[i].key, ports[i].port);
	return r;
}

static int bind_local(struct service *v)
{
	static const struct identity own = { .drop = false };
	struct child *broker = &v->supervisor.children[CHILD_BROKER];

	for (size_t i = 0; i < sizeof(local_sockets) / sizeof(local_sockets[0]); i++) {
		int fd = rundir_bind(&v->rundir, local_sockets[i].name, SOCK_SEQPACKET,
				     local_sockets[i].mode,
				     local_sockets[i].ours ? &own : &v->settings.identity);

		if (fd < 0)
			return fd;
		child_add_fd(broker, local_sockets[i].name, fd);
	}
	return 0;
}

static int share(struct service *v, int text, const char *name, enum child_name reader)
{
	int fd = configtext_reader(text);

	if (fd < 0) {
		report(LOG_ERR, "the configuration cannot be passed on (is /proc mounted?): %s",
		       strerror(-fd));
		return fd;
	}
	child_add_fd(&v->supervisor.children[reader], name, fd);
	return 0;
}

static int share_config(struct service *v)
{
	static const enum child_name readers[] = { CHILD_BROKER, CHILD_LOOKUP, CHILD_TLS };
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof(readers) / sizeof(readers[0]); i++)
		r = share(v, v->supervisor.config_text, "config", readers[i]);
	return r;
}

static int share_tls_files(struct service *v)
{
	int fd = tlsfiles_copy(&v->settings.config, v->settings.config_path);

	v->supervisor.tls_files = fd;
	return fd < 0 ? fd : share(v, fd, BUNDLE_NAME, CHILD_TLS);
}

static int bind_notify(struct service *v)
{
	struct child_setup *setup = &v->supervisor.setup;
	int fd = rundir_bind(&v->rundir, NOTIFY_NAME, SOCK_DGRAM, 0600, &v->settings.identity);

	if (fd < 0)
		return fd;
	v->supervisor.notify_fd = fd;
	(void)snprintf(setup->notify_path, sizeof(setup->notify_path), "%s/%s", v->rundir.path,
		       NOTIFY_NAME);
	return notify_prepare(fd);
}

static int make_files(struct service *v)
{
	files_make_state(v->settings.config.stat_filename, &v->settings.identity);
	files_make_protocol_log(v->settings.config.protocol_log_filename, &v->settings.identity);
	return 0;
}

static int make_chroot(struct service *v)
{
	const struct settings *s = &v->settings;

	return *s->config.chroot_directory && geteuid() == 0 ? files_make_chroot(s) : 0;
}

/* From here on the log is where the settings say. */
static int open_log(struct service *v)
{
	const struct settings *s = &v->settings;

	if (s->log_file) {
		AUTO_FD fd = files_open_log(s->log_file);

		if (fd < 0)
			return fd;
		if (dup2(fd, STDERR_FILENO) < 0)
			return -errno;
	}
	report_log_to(s->target, (int)s->config.syslog_facility,
		      (int)s->config.syslog_prioritymask);
	return 0;
}

static int prepare_children(struct service *v)
{
	struct child_setup *setup = &v->supervisor.setup;
	bool keeps_stderr = v->settings.foreground || v->settings.target != LOG_TO_SYSLOG;
	int r = find_directory(setup->directory, sizeof(setup->directory));

	for (size_t i = 0; i < CHILD_COUNT; i++)
		v->supervisor.children[i].wanted = true;
	v->supervisor.children[CHILD_TLS].wanted = config_tls_used(&v->settings.config);
	v->supervisor.children[CHILD_LISTENER].wanted = v->settings.config.run_listener;
	setup->settings = &v->settings;
	setup->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	setup->stderr_fd = keeps_stderr ? STDERR_FILENO : setup->null_fd;
	if (setup->null_fd < 0)
		r = -errno;
	/* nothing that it starts gains a right by being executed */
	if (r == 0 && (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 ||
		       prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0))
		r = -errno;
	if (r < 0)
		report(LOG_ERR, "cannot prepare for the other programs: %s", strerror(-r));
	return r;
}

static int start(struct service *v)
{
	static int (*const steps[])(struct service *) = {
		go_to_background, block_signals, open_log,	  take_run_directory,
		take_pid_file,	  make_chroot,	 bind_ports,	  bind_local,
		bind_notify,	  share_config,	 share_tls_files, make_files,
		prepare_children,
	};
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof(steps) / sizeof(steps[0]); i++)
		r = steps[i](v);
	return r;
}

/* --- ready and end ---------------------------------------------------------- */

/* All children are ready: the starter goes, and in the background standard output and error with
 * him. */
static void tell_ready(void *context)
{
	struct service *v = context;
	int null_fd = v->supervisor.setup.null_fd;

	report(LOG_NOTICE, "version %s is ready, run directory %s", KEEPWARM_VERSION,
	       v->rundir.path);
	if (v->settings.foreground) {
		(void)activation_notify("READY=1", NULL, 0);
		return;
	}
	report_starter_gone();
	(void)dup2(null_fd, STDIN_FILENO);
	(void)dup2(null_fd, STDOUT_FILENO);
	if (v->settings.target == LOG_TO_SYSLOG)
		(void)dup2(null_fd, STDERR_FILENO);
	daemonize_ready(&v->starter);
}

static void clean_up(struct service *v)
{
	for (size_t i = 0; i < CHILD_COUNT; i++)
		child_close_fds(&v->supervisor.children[i]);
	fd_drop(&v->supervisor.notify_fd);
	fd_drop(&v->supervisor.config_text);
	fd_drop(&v->supervisor.tls_files);
	if (v->rundir.lock >= 0) {
		for (size_t i = 0; i < sizeof(local_sockets) / sizeof(local_sockets[0]); i++)
			rundir_unlink(&v->rundir, local_sockets[i].name);
		rundir_unlink(&v->rundir, NOTIFY_NAME);
	}
	files_remove_pid(v->settings.pid_file, v->pid_fd);
	rundir_close(&v->rundir);
	settings_wipe(&v->settings);
}

int main(int argc, char **argv)
{
	static struct service v = {
		.supervisor = { .config_text = -1,
				.tls_files = -1,
				.notify_fd = -1,
				.on_ready = tell_ready },
		.rundir = { .fd = -1, .lock = -1 },
		.pid_fd = -1,
		.starter = -1,
	};
	struct options options;
	int code = parse_options(argc, argv, &options);

	if (code >= 0)
		return code;
	tidy_descriptors();
	report_open();
	int r = load_settings(&v, &options);

	if (r < 0)
		report_facility(LOG_MAIL, LOG_DEBUG);
	if (r == 0) {
		wrappers_warn();
		umask(027);
		(void)!chdir("/");
		v.supervisor.context = &v;
		r = start(&v);
	}
	if (r == 0)
		r = supervisor_run(&v.supervisor);
	if (r == 0)
		report(LOG_NOTICE, "ended");
	clean_up(&v);
	return r == 0 ? EXIT_GOOD : EXIT_FAILED;
}
