/* lookupd: answers the broker's questions about accounts and host names.
 *
 * A master that does nothing but keep lookup_processes workers alive. It waits in sigtimedwait(2):
 * every event it knows is a signal or the time. SIGHUP: the configuration is read again and, when
 * it is good, all workers are replaced; SIGTERM: they end, then the master; SIGUSR2: no worker is
 * started any more, and each ends with its broker. READY=1 is said when
 * the workers have been forked, not when they have met the broker: a supervisor may well start the
 * broker later.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/activation.h"
#include "lib/clock.h"
#include "lib/config.h"
#include "lib/log.h"
#include "lookupd/challenge.h"
#include "lookupd/import.h"
#include "lookupd/jail.h"
#include "lookupd/patience.h"
#include "lookupd/tell.h"
#include "lookupd/worker.h"

#define WORKERS_MAX	 64
#define RESTART_LEAST_MS 100
#define RESTART_MOST_MS	 10000
#define STABLE_MS	 10000 /* a worker that lived so long is restarted at once */
#define WAIT_MOST_MS	 60000
#define END_MS		 5000 /* then SIGKILL */

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct slot {
	pid_t pid; /* 0: none */
	int64_t started_ms;
	int64_t restart_ms; /* not before */
	int pause_ms;
};

struct master {
	const char *config_path;
	int config_fd;		   /* or -1: read the path */
	const char *run_directory; /* from -r, or NULL */
	char socket_path[128];
	struct config config;
	const char *told_user, *told_service; /* -t, -s */
	bool asks_password;		      /* -p */
	const char *imported;		      /* --import */
	sigset_t watched, before;
	struct slot slots[WORKERS_MAX];
	size_t slot_count;
	bool orphaned; /* the supervisor is gone: serves the broker that is there, and no other */
	bool ending;
};

static const char usage_text[] = "usage: lookupd -f FILE [-r RUNDIR] [-l syslog|stderr|file]\n"
				 "       lookupd -f FILE -t USER [-s imap|pop3] [-p]\n"
				 "       lookupd -f FILE --import ACCOUNTS\n";

static int read_options(int argc, char **argv, struct master *m, enum log_target *target)
{
	static const struct option long_options[] = { { "import", required_argument, NULL, 'i' },
						      { NULL, 0, NULL, 0 } };
	int c;

	*target = LOG_TO_SYSLOG;
	while ((c = getopt_long(argc, argv, "f:r:l:t:s:ph", long_options, NULL)) != -1) {
		switch (c) {
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
		case 'i':
			m->imported = optarg;
			break;
		case 't':
			m->told_user = optarg;
			break;
		case 's':
			m->told_service = optarg;
			break;
		case 'p':
			m->asks_password = true;
			break;
		case 'h':
			(void)fputs(usage_text, stdout);
			exit(EXIT_OK);
		default:
			return EXIT_USAGE;
		}
	}
	if (((m->told_service || m->asks_password) && !m->told_user) ||
	    (m->imported && m->told_user))
		return EXIT_USAGE;
	return optind == argc && m->config_path ? EXIT_OK : EXIT_USAGE;
}

static int take_config_fd(struct master *m)
{
	const struct activation_place place = { "config", &m->config_fd };

	return activation_take_named(&place, 1);
}

/* The broker warns about unknown keys: once is enough. */
static void report_config(void *context, bool is_error, const char *line)
{
	(void)context;
	if (is_error)
		log_printf(LOG_ERR, "%s", line);
}

static void report_directory(const char *line)
{
	log_printf(LOG_ERR, "%s", line);
}

/* Are all directories that it names there to be asked? */
static int check_directories(const struct config *c, const char *path)
{
	struct directories *d;
	int r = directories_new(c, &d);

	if (r < 0)
		return r;
	r = directories_check(d, path, report_directory);
	directories_free(d);
	return r;
}

/* Reads the configuration; an old one is replaced only by a good one. Returns 0 or -EINVAL. */
static int load_config(struct master *m, bool again)
{
	struct config fresh;
	char directory[sizeof(m->socket_path) - sizeof("/lookup")];
	int r = again ? config_load_again(&fresh, m->config_path, m->config_fd, report_config, NULL)
		      : config_load(&fresh, m->config_path, m->config_fd, report_config, NULL,
				    NULL);

	if (r != 0)
		return -EINVAL;
	if (m->run_directory)
		r = (size_t)snprintf(directory, sizeof(directory), "%s", m->run_directory) <
				    sizeof(directory)
			    ? 0
			    : -ENAMETOOLONG;
	else
		r = config_run_directory(&fresh, m->config_path, directory, sizeof(directory));
	if (r < 0) {
		log_printf(LOG_ERR, "the run directory's name is too long for a socket in it");
		config_wipe(&fresh);
		return -EINVAL;
	}
	if (check_directories(&fresh, m->config_path) < 0) {
		config_wipe(&fresh);
		return -EINVAL;
	}
	(void)snprintf(m->socket_path, sizeof(m->socket_path), "%s/lookup", directory);
	config_wipe(&m->config);
	m->config = fresh;
	patience_forget();
	log_limits((int)fresh.syslog_facility, (int)fresh.syslog_prioritymask);
	return 0;
}

/* The child's side of the fork. */
__attribute__((noreturn)) static void become_worker(const struct master *m, pid_t master)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
	/* The master may have died before that call. */
	if (getppid() != master)
		_exit(EXIT_OK);
	/* A hang-up of the whole process group is the master's to handle. */
	(void)signal(SIGHUP, SIG_IGN);
	/* Some directories' libraries do not ask for it on their sockets. */
	(void)signal(SIGPIPE, SIG_IGN);
	worker_watch_signals();
	patience_watch();
	(void)sigprocmask(SIG_SETMASK, &m->before, NULL);
	if (jail_enter_worker() < 0)
		_exit(EXIT_FAILED);
	worker_run(&m->config, m->socket_path);
	_exit(EXIT_OK);
}

static void start_worker(struct master *m, struct slot *s, int64_t now_ms)
{
	pid_t master = getpid();
	pid_t pid = fork();

	if (pid == 0)
		become_worker(m, master);
	if (pid < 0) {
		log_printf(LOG_ERR, "a worker cannot be started: %s", strerror(errno));
		s->restart_ms = now_ms + RESTART_MOST_MS;
		return;
	}
	s->pid = pid;
	s->started_ms = now_ms;
}

static void start_workers(struct master *m)
{
	int64_t now_ms = clock_ms();

	for (size_t i = 0; i < m->slot_count; i++)
		if (m->slots[i].pid == 0 && m->slots[i].restart_ms <= now_ms)
			start_worker(m, &m->slots[i], now_ms);
}

static void plan_restart(struct slot *s, int status, int64_t now_ms)
{
	if (now_ms - s->started_ms >= STABLE_MS)
		s->pause_ms = 0;
	else
		s->pause_ms =
			s->pause_ms * 2 < RESTART_LEAST_MS ? RESTART_LEAST_MS : s->pause_ms * 2;
	if (s->pause_ms > RESTART_MOST_MS)
		s->pause_ms = RESTART_MOST_MS;
	s->restart_ms = now_ms + s->pause_ms;
	log_printf(LOG_WARNING, "worker %d ended with %s %d; the next one starts in %d ms",
		   (int)s->pid, WIFSIGNALED(status) ? "signal" : "exit code",
		   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), s->pause_ms);
}

/* Held up by a directory: the next one is needed at once, and knows which one to leave alone. */
static void blame_directory(const struct master *m, struct slot *s, size_t n, int64_t now_ms)
{
	const struct config_list *directory = &m->config.directory;
	bool named = n < directory->count;
	int64_t pause_ms = patience_note(n);

	s->restart_ms = now_ms;
	log_printf(LOG_WARNING,
		   "directory %s (line %u) held worker %d up for %d s: its place is taken by a new "
		   "one, it is not asked for %lld ms",
		   named ? directory->items[n] : "static:", named ? directory->lines[n] : 0,
		   (int)s->pid, PATIENCE_SECONDS, (long long)pause_ms);
}

static void take_note(struct master *m, struct slot *s, int status, int64_t now_ms)
{
	int cause = WIFEXITED(status) ? patience_cause(WEXITSTATUS(status)) : -1;

	if (cause >= 0)
		blame_directory(m, s, (size_t)cause, now_ms);
	else
		plan_restart(s, status, now_ms);
}

/* Takes note of ended workers. Those that were told to end are restarted at once, or not at all. */
static void reap(struct master *m, bool told)
{
	int64_t now_ms = clock_ms();
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (size_t i = 0; i < m->slot_count; i++) {
			if (m->slots[i].pid != pid)
				continue;
			if (!told)
				take_note(m, &m->slots[i], status, now_ms);
			m->slots[i].pid = 0;
		}
	}
}

static size_t signal_workers(const struct master *m, int number)
{
	size_t alive = 0;

	for (size_t i = 0; i < m->slot_count; i++)
		if (m->slots[i].pid > 0) {
			(void)kill(m->slots[i].pid, number);
			alive++;
		}
	return alive;
}

static int wait_signal(const sigset_t *set, int64_t ms)
{
	struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	return sigtimedwait(set, NULL, &time);
}

/* Ends all workers and waits for them. */
static void end_workers(struct master *m)
{
	int64_t deadline = clock_ms() + END_MS;
	sigset_t child;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	(void)signal_workers(m, SIGTERM);
	for (reap(m, true); signal_workers(m, 0) > 0; reap(m, true)) {
		int64_t left = deadline - clock_ms();

		if (left <= 0)
			(void)signal_workers(m, SIGKILL);
		(void)wait_signal(&child, left > 0 ? left : 100);
	}
}

static void reload(struct master *m)
{
	if (load_config(m, true) < 0) {
		log_printf(LOG_ERR, "%s has errors: going on with the settings of before",
			   m->config_path);
		return;
	}
	end_workers(m);
	for (size_t i = 0; i < m->slot_count; i++)
		m->slots[i].restart_ms = 0;
	log_printf(LOG_NOTICE, "%s was read again", m->config_path);
}

/* How long until the next restart that is due. */
static int64_t next_wait(const struct master *m)
{
	int64_t now_ms = clock_ms(), wait = activation_watchdog(now_ms);

	if (wait < 0 || wait > WAIT_MOST_MS)
		wait = WAIT_MOST_MS;
	for (size_t i = 0; i < m->slot_count && !m->orphaned; i++) {
		int64_t left = m->slots[i].restart_ms - now_ms;

		if (m->slots[i].pid == 0 && left < wait)
			wait = left > 0 ? left : 0;
	}
	return wait;
}

static void run(struct master *m)
{
	start_workers(m);
	(void)activation_notify("READY=1", NULL, 0);
	while (!m->ending) {
		switch (wait_signal(&m->watched, next_wait(m))) {
		case SIGHUP:
			if (!m->orphaned)
				reload(m);
			break;
		case SIGUSR2:
			m->orphaned = true;
			(void)unsetenv("NOTIFY_SOCKET"); /* it may be another one's by now */
			(void)signal_workers(m, SIGUSR2);
			break;
		case SIGTERM:
		case SIGINT:
			m->ending = true;
			break;
		}
		reap(m, m->ending || m->orphaned);
		if (m->orphaned && signal_workers(m, 0) == 0)
			m->ending = true;
		if (!m->ending && !m->orphaned)
			start_workers(m);
	}
	(void)activation_notify("STOPPING=1", NULL, 0);
	end_workers(m);
}

static void watch_signals(struct master *m)
{
	static const int numbers[] = {SIGHUP, SIGTERM, SIGINT, SIGUSR2, SIGCHLD};

	sigemptyset(&m->watched);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		sigaddset(&m->watched, numbers[i]);
	/* An ignored SIGCHLD, inherited, would make waitpid() useless. */
	(void)signal(SIGCHLD, SIG_DFL);
	(void)sigprocmask(SIG_BLOCK, &m->watched, &m->before);
	/* A worker must die of SIGTERM, whatever the mask was that we inherited. */
	sigdelset(&m->before, SIGTERM);
	sigdelset(&m->before, SIGUSR2);
	sigdelset(&m->before, SIGALRM);
}

static void print_config(void *context, bool is_error, const char *line)
{
	(void)context;
	if (is_error)
		(void)fprintf(stderr, "%s\n", line);
}

/* A look at one account, or a new table, instead of a service. */
static int use_once(struct master *m)
{
	log_open("lookupd", LOG_TO_NOBODY); /* what is wrong is printed */
	if (config_load(&m->config, m->config_path, -1, print_config, NULL, NULL) != 0)
		return EXIT_FAILED;
	int status = m->imported
			     ? import_accounts(&m->config, m->imported)
			     : tell_account(&m->config, m->config_path, m->told_user,
					    m->told_service ? m->told_service : "imap",
				    m->asks_password);

	config_wipe(&m->config);
	return status;
}

int main(int argc, char **argv)
{
	static struct master m;
	enum log_target target;

	if (read_options(argc, argv, &m, &target) != EXIT_OK) {
		(void)fputs(usage_text, stderr);
		return EXIT_USAGE;
	}
	if (m.told_user || m.imported)
		return use_once(&m);
	log_open("lookupd", target);
	log_follow();
	if (take_config_fd(&m) < 0 || load_config(&m, false) < 0 || challenge_make_secret() < 0) {
		log_printf(LOG_ERR, "lookupd cannot start");
		return EXIT_FAILED;
	}
	int r = jail_enter_lookupd();

	if (r < 0) {
		log_printf(LOG_ERR, "lookupd cannot lock itself up: %s", strerror(-r));
		return EXIT_FAILED;
	}
	m.slot_count = m.config.lookup_processes;
	watch_signals(&m);
	run(&m);
	config_wipe(&m.config);
	return EXIT_OK;
}
