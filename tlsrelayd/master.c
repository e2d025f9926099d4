/* The master's life: start, reload, signals, its figures.
 *
 * It loads what workers need and never touches a byte of a connection. Workers outlive it when it
 * is killed: they carry on and leave with their last connection.
 */
#include "tlsrelayd/master.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "lib/activation.h"
#include "lib/clock.h"
#include "lib/config.h"
#include "lib/log.h"
#include "tlsrelayd/sandbox.h"

#define TICK_US	      1000000
#define LEAVE_TICK_US 10000
#define LEAVE_MS      1500 /* the broker waits for the next one for 2 s */

/* The broker warns about unknown keys: once is enough. */
static void report_config(void *context, bool is_error, const char *line)
{
	(void)context;
	if (is_error)
		log_printf(LOG_ERR, "%s", line);
}

static int find_socket(struct master *m, const struct config *c)
{
	char directory[sizeof(m->socket_path) - sizeof("/tls")];
	int r;

	if (m->run_directory)
		r = (size_t)snprintf(directory, sizeof(directory), "%s", m->run_directory) <
				    sizeof(directory)
			    ? 0
			    : -ENAMETOOLONG;
	else
		r = config_run_directory(c, m->config_path, directory, sizeof(directory));
	if (r < 0) {
		log_printf(LOG_ERR, "the run directory's name is too long for a socket in it");
		return r;
	}
	(void)snprintf(m->socket_path, sizeof(m->socket_path), "%s/tls", directory);
	return 0;
}

/* Whom workers become when root has started us. */
static int find_ids(const struct config *c, struct settings *s)
{
	if (geteuid() != 0)
		return 0;
	const struct passwd *user = getpwnam(c->proc_username);
	const struct group *group = getgrnam(c->proc_groupname);

	if (!user || !group || user->pw_uid == 0 || group->gr_gid == 0) {
		log_printf(LOG_ERR,
			   "proc_username %s, proc_groupname %s: there is no such user or group, "
			   "or it is root",
			   c->proc_username, c->proc_groupname);
		return -EINVAL;
	}
	s->uid = user->pw_uid;
	s->gid = group->gr_gid;
	return 0;
}

static int take_config(struct master *m, const struct config *c)
{
	struct settings fresh = {
		.sessions_per_worker = c->tls_sessions_per_worker,
		.handshakes = c->tls_handshakes,
		.handshake_seconds = c->tls_handshake_timeout,
		.generation = m->settings.generation + 1,
	};
	struct contexts *contexts = NULL;
	int r = find_socket(m, c);

	if (r == 0)
		r = find_ids(c, &fresh);
	if (r == 0)
		r = contexts_load(c, m->config_path, m->bundle_fd, &contexts);
	if (r < 0)
		return -EINVAL;
	contexts_free(m->contexts);
	m->contexts = contexts;
	m->settings = fresh;
	log_limits((int)c->syslog_facility, (int)c->syslog_prioritymask);
	return 0;
}

static int load(struct master *m, bool again)
{
	struct config c;
	int r = again ? config_load_again(&c, m->config_path, m->config_fd, report_config, NULL)
		      : config_load(&c, m->config_path, m->config_fd, report_config, NULL, NULL);

	if (r != 0)
		return -EINVAL;
	r = take_config(m, &c);
	config_wipe(&c); /* there are passwords in it that are not for us */
	return r;
}

int master_load(struct master *m)
{
	return load(m, false);
}

static void reload(struct master *m)
{
	if (m->orphaned || m->leaving)
		return;
	if (load(m, true) < 0) {
		log_printf(LOG_ERR, "%s has errors: going on with the settings of before",
			   m->config_path);
		return;
	}
	crew_renew(m);
	broker_introduce(m);
	log_printf(LOG_NOTICE, "%s was read again", m->config_path);
}

static void become_orphan(struct master *m)
{
	m->orphaned = true;
	(void)unsetenv("NOTIFY_SOCKET"); /* it may be another one's by now */
	if (m->broker < 0)
		(void)sd_event_exit(m->event, 0);
}

/* Its place shall be taken by another one, which a supervisor starts when this process has ended.
 * Workers stay with the connections that they have. */
static int leave(struct master *m)
{
	if (m->leaving)
		return 0;
	m->leaving = true;
	m->leave_by_ms = clock_ms() + LEAVE_MS;
	broker_leave(m);
	return sd_event_source_set_time_relative(m->tick, 0);
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *context)
{
	struct master *m = context;

	(void)source;
	switch (info->ssi_signo) {
	case SIGHUP:
		reload(m);
		break;
	case SIGUSR1:
		return leave(m);
	case SIGUSR2:
		become_orphan(m);
		break;
	case SIGCHLD:
		crew_reap(m);
		break;
	default:
		return sd_event_exit(m->event, 0);
	}
	return 0;
}

static void tell_state(struct master *m)
{
	struct msg state = { .type = MSG_TLS_STATE };

	crew_count(m, &state.TLS_STATE.workers, &state.TLS_STATE.connections);
	state.TLS_STATE.truncated = m->truncated;
	state.TLS_STATE.workers_lost = m->workers_lost;
	if (memcmp(&state.TLS_STATE, &m->told, sizeof(m->told)) == 0 || m->broker < 0)
		return;
	if (broker_send(m, &state, -1) < 0)
		return;
	m->truncated = m->workers_lost = 0;
	m->told = state.TLS_STATE;
	m->told.truncated = m->told.workers_lost = 0;
}

static int on_tick(sd_event_source *source, uint64_t usec, void *context)
{
	struct master *m = context;

	(void)usec;
	crew_tick(m);
	tell_state(m);
	(void)activation_watchdog(clock_ms());
	if (m->leaving && ((m->has_all && !seats_are_awaited(m)) || clock_ms() >= m->leave_by_ms))
		return sd_event_exit(m->event, 0);
	(void)sd_event_source_set_time_relative(source, m->leaving ? LEAVE_TICK_US : TICK_US);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static int watch_signals(struct master *m)
{
	static const int numbers[] = { SIGHUP, SIGTERM, SIGINT, SIGUSR1, SIGUSR2, SIGCHLD };
	sigset_t set;
	int r = 0;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		sigaddset(&set, numbers[i]);
	(void)signal(SIGCHLD, SIG_DFL); /* ignored, inherited, it would make waitpid() useless */
	(void)signal(SIGPIPE, SIG_IGN);
	(void)sigprocmask(SIG_BLOCK, &set, &m->before);
	/* workers must die of SIGTERM, whatever the mask was that we inherited */
	sigdelset(&m->before, SIGTERM);
	for (size_t i = 0; r >= 0 && i < sizeof(numbers) / sizeof(numbers[0]); i++)
		r = sd_event_add_signal(m->event, NULL, numbers[i], on_signal, m);
	return r;
}

/* Two descriptors for each connection of a worker. */
static void raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int prepare(struct master *m)
{
	int r = sd_event_new(&m->event);

	raise_limit();

	if (r >= 0)
		r = watch_signals(m);
	if (r >= 0)
		r = sd_event_add_time_relative(m->event, &m->tick, CLOCK_MONOTONIC, TICK_US, 0,
					       on_tick, m);
	if (r >= 0)
		r = broker_begin(m);
	return r;
}

int master_run(struct master *m)
{
	m->tickets = tickets_new();
	int r = m->tickets ? prepare(m) : -ENOMEM;

	if (r >= 0) {
		(void)activation_notify("READY=1", NULL, 0);
		r = sd_event_loop(m->event);
	}
	if (r < 0)
		log_printf(LOG_ERR, "tlsrelayd ends: %s", strerror(-r));
	(void)activation_notify("STOPPING=1", NULL, 0);
	broker_end(m);
	/* an orphan leaves its workers to those who still use them, and so does who is replaced */
	if (!m->orphaned && !m->leaving)
		crew_end(m);
	tickets_free(m->tickets);
	contexts_free(m->contexts);
	sd_event_source_unref(m->tick);
	sd_event_unref(m->event);
	return r < 0 ? 1 : 0;
}
