/* cachebrokerd: start, and the few things that happen by the clock or by a signal. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "cachebrokerd/accounts.h"
#include "cachebrokerd/admin_socket.h"
#include "cachebrokerd/client.h"
#include "cachebrokerd/connection.h"
#include "cachebrokerd/door.h"
#include "cachebrokerd/doorway.h"
#include "cachebrokerd/habits.h"
#include "cachebrokerd/perip.h"
#include "cachebrokerd/lists.h"
#include "cachebrokerd/host.h"
#include "cachebrokerd/jail.h"
#include "cachebrokerd/lookup.h"
#include "cachebrokerd/process.h"
#include "cachebrokerd/proofs.h"
#include "cachebrokerd/restart.h"
#include "cachebrokerd/sockets.h"
#include "cachebrokerd/spares.h"
#include "cachebrokerd/tls.h"
#include "cachebrokerd/tls_policy.h"
#include "cachebrokerd/traces.h"
#include "cachebrokerd/tracing.h"
#include "cachebrokerd/tries.h"
#include "lib/activation.h"
#include "lib/clock.h"
#include "lib/config_tls.h"
#include "lib/fd.h"
#include "lib/ids.h"
#include "lib/log.h"

#define TICK_MS	   100
#define SLOW_TICKS 10 /* what is done once a second */
#define EXIT_USAGE 2

struct options {
	const char *config;
	const char *run_directory;
	enum log_target target;
};

/* The sockets, one for each role of a peer. */
static const struct {
	const char *name;
	mode_t mode;
	const struct peer_kind *kind;
	peer_new_fn *on_new;
} sockets[] = {
	{ "session", 0660, &client_peer_kind, client_peer_new },
	{ "listener", 0600, &door_listener_kind, door_listener_new },
	{ "lookup", 0600, &lookup_peer_kind, lookup_peer_new },
	{ "tls", 0600, &tls_peer_kind, tls_peer_new },
	{ "admin", 0600, &admin_peer_kind, admin_peer_new },
};

static int usage(FILE *to, int status)
{
	(void)fprintf(to, "Usage: cachebrokerd -f FILE [-r RUNDIR] [-l syslog|stderr|file]\n");
	return status;
}

/* -1: go on; else the exit status. */
static int read_options(int argc, char **argv, struct options *o)
{
	int c;

	while ((c = getopt(argc, argv, "f:r:l:h")) != -1) {
		switch (c) {
		case 'f':
			o->config = optarg;
			break;
		case 'r':
			o->run_directory = optarg;
			break;
		case 'l':
			if (log_target_parse(optarg, &o->target) < 0)
				return usage(stderr, EXIT_USAGE);
			break;
		case 'h':
			return usage(stdout, 0);
		default:
			return usage(stderr, EXIT_USAGE);
		}
	}
	return optind < argc ? usage(stderr, EXIT_USAGE) : -1;
}

static int passed_fd(const struct activation_fd *fds, int count, const char *name)
{
	for (int i = 0; i < count; i++)
		if (strcmp(fds[i].name, name) == 0)
			return fds[i].fd;
	return -1;
}

static int open_sockets(struct broker *b, const struct activation_fd *fds, int count)
{
	for (size_t i = 0; i < sizeof(sockets) / sizeof(sockets[0]); i++) {
		int fd = passed_fd(fds, count, sockets[i].name);

		if (fd < 0)
			fd = sockets_make(b->run_directory, sockets[i].name, sockets[i].mode);
		else if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)
			return -errno;
		int r = fd < 0 ? fd : peer_listen(b, fd, sockets[i].kind, sockets[i].on_new);

		if (r < 0) {
			log_printf(LOG_ERR, "%s/%s: cannot listen: %s", b->run_directory,
				   sockets[i].name, strerror(-r));
			return r;
		}
	}
	return 0;
}

static void adopt_doors(struct broker *b, const struct activation_fd *fds, int count)
{
	for (int i = 0; i < count; i++)
		if (strncmp(fds[i].name, "door-", 5) == 0 &&
		    door_adopt(b, fds[i].fd, fds[i].name) == 0)
			door_await_listener(b);
	doorway_open(b, passed_fd(fds, count, DOORWAY_NAME));
}

/* Of now: a reload changes neither them nor the ids. */
static void settle_chroot(struct broker *b)
{
	(void)snprintf(b->chroot_directory, sizeof(b->chroot_directory), "%s",
		       b->config.chroot_directory);
	/* with in.imapproxyd as the supervisor it is he who knows and says it */
	if (*b->chroot_directory && b->config_fd < 0)
		log_printf(LOG_NOTICE,
			   "chroot_directory %s: needs root; a proxyd that another user starts "
			   "does without",
			   b->chroot_directory);
}

/* Whom sessions that root started become, and this process too if root started it. */
static int settle_ids(struct broker *b)
{
	const struct passwd *user = getpwnam(b->config.proc_username);
	const struct group *group = getgrnam(b->config.proc_groupname);

	b->uid = user ? user->pw_uid : 0;
	b->gid = group ? group->gr_gid : 0;
	settle_chroot(b);
	if (geteuid() != 0) {
		if (b->uid == 0 || b->gid == 0)
			log_printf(LOG_WARNING,
				   "proc_username %s, proc_groupname %s: there is no such user or "
				   "group; "
				   "a proxyd that root starts will refuse to serve",
				   b->config.proc_username, b->config.proc_groupname);
		return 0;
	}
	if (b->uid == 0 || b->gid == 0) {
		log_printf(LOG_ERR,
			   "proc_username %s, proc_groupname %s: there is no such user or group, "
			   "or it is root",
			   b->config.proc_username, b->config.proc_groupname);
		return -EINVAL;
	}
	int r = ids_drop(b->uid, b->gid);

	if (r < 0)
		log_printf(LOG_ERR, "cannot become %s: %s", b->config.proc_username, strerror(-r));
	return r;
}

static void on_tick(void *context)
{
	static unsigned ticks;
	struct broker *b = context;

	connection_expire(b);
	spares_tick(b);
	peer_reopen();
	door_reopen();
	door_await_no_more(b);
	if (++ticks % SLOW_TICKS == 0) {
		client_cut_off_silent(b);
		host_forget_old(b);
		if (log_refresh())
			door_tell_pools(b); /* their children cannot look for it themselves */
	}
	broker_count(b);
	host_show_all(b);
	state_tick(b->state, clock_ms());
	(void)activation_watchdog(clock_ms());
	(void)loop_timer(b->loop, TICK_MS, on_tick, b, &b->tick);
}

static void on_signal(void *context, int number)
{
	struct broker *b = context;

	if (number == SIGINT || number == SIGUSR2)
		restart_cancel(b);
	if (number == SIGHUP)
		broker_reload(b);
	else if (number == SIGINT)
		broker_stop(b);
	else if (number == SIGUSR2)
		broker_retire(b);
	else
		restart_begin(b);
}

static void on_alarm(int number)
{
	(void)number; /* a system call was interrupted: that is all */
}

/* A socket that lingers, received or still in the queue of a peer that is cut off, would hold us in
 * close() for as long as its sender likes; a signal ends that wait. */
static int bound_waits(void)
{
	const struct sigaction action = { .sa_handler = on_alarm,
					  .sa_flags = SA_RESTART | SA_ONSTACK };
	const struct itimerval every = { { .tv_usec = TICK_MS * 1000 },
					 { .tv_usec = TICK_MS * 1000 } };

	int r = traces_prepare();

	if (r == 0 &&
	    (sigaction(SIGALRM, &action, NULL) < 0 || setitimer(ITIMER_REAL, &every, NULL) < 0))
		r = -errno;
	return r;
}

static int make_parts(struct broker *b)
{
	int r;

	(void)((r = bound_waits()) || (r = loop_new(&b->loop)) || (r = keys_new(&b->keys)) ||
	       (r = lookup_new(b, &b->lookup)) || (r = tls_new(b, &b->tls)) ||
	       (r = loop_signal(b->loop, SIGHUP, on_signal, b)) ||
	       (r = loop_signal(b->loop, SIGINT, on_signal, b)) ||
	       (r = loop_signal(b->loop, SIGTERM, on_signal, b)) ||
	       (r = loop_signal(b->loop, SIGUSR2, on_signal, b)) ||
	       (r = loop_timer(b->loop, TICK_MS, on_tick, b, &b->tick)));
	b->cache = cache_new();
	b->accounts = accounts_new();
	b->proofs = proofs_new();
	b->tries = tries_new(process_started, process_clock_ms());
	b->habits = habits_new();
	b->perip = perip_new();
	b->lists = lists_new();
	bool all = b->cache && b->accounts && b->proofs && b->tries && b->habits && b->lists &&
		   b->perip;

	return r == 0 && !all ? -ENOMEM : r;
}

static void free_parts(struct broker *b)
{
	if (b->cache)
		connection_flush(b);
	host_free_all(b);
	lookup_free(b->lookup);
	tls_free(b->tls);
	cache_free(b->cache);
	accounts_free(b->accounts);
	proofs_free(b->proofs);
	tries_free(b->tries);
	habits_free(b->habits);
	perip_free(b->perip);
	lists_free(b->lists);
	keys_free(b->keys);
	timer_end(&b->tick);
	tracing_free(b->tracing);
	state_close(b->state);
	config_wipe(&b->config);
	loop_free(b->loop);
}

static int load_settings(struct broker *b, const struct options *o, int config_fd)
{
	b->config_path = o->config;
	b->config_fd = config_fd;
	if (config_load(&b->config, o->config, config_fd, broker_report_config, b, NULL) != 0)
		return -EINVAL;
	broker_name_settings(b);
	b->tls_policy = tls_policy(&b->config);
	b->tls_clients = tls_policy_clients(&b->config);
	log_limits((int)b->config.syslog_facility, (int)b->config.syslog_prioritymask);
	if (o->run_directory) {
		int n = snprintf(b->run_directory, sizeof(b->run_directory), "%s",
				 o->run_directory);

		return n < (int)sizeof(b->run_directory) ? 0 : -ENAMETOOLONG;
	}
	return config_run_directory(&b->config, o->config, b->run_directory,
				    sizeof(b->run_directory));
}

static int serve(struct broker *b)
{
	const struct route usual = { .host = span_str(b->config.server_hostname),
				     .port = config_server_port(&b->config),
				     .tls = config_tls_mode(&b->config) };
	struct host *host = host_find(b, &usual, SERVICE_IMAP);
	int r = activation_notify("READY=1", NULL, 0);

	if (r < 0)
		log_printf(LOG_WARNING, "the supervisor cannot be told: %s", strerror(-r));
	if (host)
		host_probe(host);
	return loop_run(b->loop);
}

static int start(struct broker *b, const struct options *o)
{
	struct activation_fd fds[ACTIVATION_MAX];
	int count = activation_take(fds, ACTIVATION_MAX);
	int r = count < 0 ? count : load_settings(b, o, passed_fd(fds, count, "config"));

	if (r == 0)
		r = make_parts(b);
	if (r == 0)
		r = open_sockets(b, fds, count);
	if (r == 0)
		r = settle_ids(b);
	if (r < 0) {
		log_printf(LOG_ERR, "cannot start: %s", strerror(-r));
		return 1;
	}
	broker_set_bounds(b);
	r = jail_enter_broker(b->config.stat_filename, b->config.protocol_log_filename);
	if (r < 0) {
		log_printf(LOG_ERR, "cannot lock itself up: %s", strerror(-r));
		return 1;
	}
	b->state = state_open(b->config.stat_filename, getenv("KEEPWARM_FRESH") != NULL);
	b->tracing = b->state ? tracing_new(b) : NULL;
	if (!b->tracing)
		return 1;
	admin_warn(b);
	restart_take(b, passed_fd(fds, count, RESTART_SOCKETS),
		     passed_fd(fds, count, RESTART_TEXT));
	adopt_doors(b, fds, count);
	return serve(b);
}

int main(int argc, char **argv)
{
	static struct broker b = { .config_fd = -1, .next_id = 1 };
	struct options o = { .config = "/etc/imapproxy.conf", .target = LOG_TO_SYSLOG };
	int status = read_options(argc, argv, &o);

	if (status >= 0)
		return status;
	log_open("cachebrokerd", o.target);
	log_follow();
	(void)signal(SIGPIPE, SIG_IGN);
	status = start(&b, &o);
	free_parts(&b);
	return status;
}
