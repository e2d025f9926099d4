/* Checks that the table of keys cannot make, because they ask this machine: users, addresses,
 * paths.
 *
 * Each check is a row; it reports its own problems with file and key and returns how many there
 * were, so that one start shows all of them.
 */
#include "imapproxyd/settings.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "imapproxyd/report.h"
#include "imapproxyd/tcp.h"
#include "lib/tls_files.h"

#define PID_FILE_DEFAULT "/run/imapproxy.pid"
#define PID_FILE_NAME	 "imapproxy.pid"
#define FILE_PREFIX	 "file:"

const char *settings_place(const struct settings *s, const char *key)
{
	static char place[PATH_MAX + 16];
	unsigned line = config_line_of(&s->config, key);

	if (line == 0)
		return s->config_path;
	(void)snprintf(place, sizeof(place), "%s:%u", s->config_path, line);
	return place;
}

static int complain(const struct settings *s, const char *key, const char *what)
{
	report(LOG_ERR, "%s: %s: %s", settings_place(s, key), key, what);
	return 1;
}

static int check_user(struct settings *s, bool at_start)
{
	const char *name = s->config.proc_username;

	if (geteuid() != 0) {
		const struct passwd *own = getpwuid(geteuid());

		s->identity.uid = geteuid();
		if (at_start && (!own || strcmp(own->pw_name, name) != 0))
			report(LOG_NOTICE,
			       "not started by root: everything runs as %s, proc_username %s is "
			       "not used",
			       own ? own->pw_name : "this user", name);
		return 0;
	}
	const struct passwd *user = getpwnam(name);

	if (!user)
		return complain(s, "proc_username",
				"there is no such user; give one that exists, not root");
	if (user->pw_uid == 0)
		return complain(s, "proc_username", "it has uid 0; give a user without privileges");
	s->identity.uid = user->pw_uid;
	s->identity.drop = true;
	return 0;
}

static int check_group(struct settings *s, bool at_start)
{
	(void)at_start;
	if (geteuid() != 0) {
		s->identity.gid = getegid();
		return 0;
	}
	const struct group *group = getgrnam(s->config.proc_groupname);

	if (!group)
		return complain(s, "proc_groupname",
				"there is no such group; give one that exists");
	s->identity.gid = group->gr_gid;
	return 0;
}

static int check_address(struct settings *s, bool at_start)
{
	if (!at_start || !s->config.run_listener)
		return 0;
	const char *why = tcp_resolve_check(s->config.listen_address, s->config.listen_port);

	if (!why)
		return 0;
	report(LOG_ERR,
	       "%s: listen_address: '%s' is no address of this machine: %s; give an address, a "
	       "name, or :: for all",
	       settings_place(s, "listen_address"), s->config.listen_address, why);
	return 1;
}

static int check_log(struct settings *s, bool at_start)
{
	const char *target = s->config.log_target;

	(void)at_start;
	if (!*target) {
		s->target = s->config.foreground_mode ? LOG_TO_STDERR : LOG_TO_SYSLOG;
		return 0;
	}
	if (strncmp(target, FILE_PREFIX, strlen(FILE_PREFIX)) == 0) {
		s->log_file = target + strlen(FILE_PREFIX);
		s->target = LOG_TO_FILE;
		return *s->log_file == '/'
			       ? 0
			       : complain(s, "log_target", "file: needs a path that begins with /");
	}
	if (strcmp(target, "file") == 0 || log_target_parse(target, &s->target) < 0)
		return complain(s, "log_target", "give syslog, stderr or file:PATH");
	return 0;
}

static int check_run_directory(struct settings *s, bool at_start)
{
	const char *path = s->config.run_directory;

	(void)at_start;
	if (*path && *path != '/')
		return complain(s, "run_directory", "give a path that begins with /");
	if (config_run_directory(&s->config, s->config_path, s->run_directory,
				 sizeof(s->run_directory)) == 0)
		return 0;
	return complain(s, "run_directory",
			"the path is too long for the names of sockets; give a shorter one");
}

static const char *judge_chroot(const char *path)
{
	struct stat st;

	if (*path != '/')
		return "give a path that begins with /";
	if (stat(path, &st) < 0)
		return errno == ENOENT ? NULL : strerror(errno); /* it will be made */
	if (!S_ISDIR(st.st_mode))
		return "it is no directory; give one, or a new name";
	if (st.st_uid != 0 || st.st_mode & (S_IWGRP | S_IWOTH))
		return "others than root can write to it; give it to root with mode 0755, or give "
		       "another one";
	return st.st_mode & S_IXOTH ? NULL
				    : "proc_username cannot go through it; give it the mode 0755";
}

static int check_chroot(struct settings *s, bool at_start)
{
	if (!*s->config.chroot_directory)
		return 0;
	if (geteuid() != 0) {
		if (at_start)
			report(LOG_NOTICE, "%s: chroot_directory needs root; not done",
			       settings_place(s, "chroot_directory"));
		return 0;
	}
	const char *problem = judge_chroot(s->config.chroot_directory);

	return problem ? complain(s, "chroot_directory", problem) : 0;
}

static int check_stat_file(struct settings *s, bool at_start)
{
	(void)at_start;
	if (*s->config.stat_filename == '/')
		return 0;
	return complain(s, "stat_filename", "give a path that begins with /");
}

/* Children get the file's text from us: nobody else needs to read a password in it. */
static int check_secrecy(struct settings *s, bool at_start)
{
	static const char *const keys[] = { "auth_sasl_plain_password", "auth_shared_secret",
					    "auth_http_header" };
	struct stat st;

	if (!at_start || stat(s->config_path, &st) < 0 || !(st.st_mode & S_IROTH))
		return 0;
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (config_line_of(&s->config, keys[i]) > 0)
			report(LOG_WARNING,
			       "%s: %s: every user can read this file; give it the mode 0600",
			       settings_place(s, keys[i]), keys[i]);
	return 0;
}

static int check_protocol_log(struct settings *s, bool at_start)
{
	(void)at_start;
	if (*s->config.protocol_log_filename == '/')
		return 0;
	return complain(s, "protocol_log_filename", "give a path that begins with /");
}

static int check_admin(struct settings *s, bool at_start)
{
	const struct config *c = &s->config;

	if (at_start && c->enable_admin_commands && strcasecmp(c->admin_addresses, "all") == 0 &&
	    !(c->run_listener && tcp_is_loopback(c->listen_address)))
		report(LOG_WARNING,
		       "%s: enable_admin_commands: whoever can connect may use them; say from "
		       "where with admin_addresses",
		       settings_place(s, "enable_admin_commands"));
	return 0;
}

static int check_tls_files(struct settings *s, bool at_start)
{
	(void)at_start;
	return tls_files_check(&s->config, s->config_path, report_config, NULL, NULL);
}

static int run_checks(struct settings *s, bool at_start)
{
	static int (*const checks[])(struct settings *, bool) = {
		check_user,	     check_group,     check_address, check_log,
		check_run_directory, check_stat_file, check_chroot,  check_secrecy,
		check_protocol_log,  check_admin,     check_tls_files,
	};
	int errors = 0;

	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++)
		errors += checks[i](s, at_start);
	return errors;
}

static int choose_pid_file(struct settings *s, const char *given)
{
	int n = 0;

	if (given)
		return settings_absolute(given, s->pid_file, sizeof(s->pid_file));
	if (s->foreground)
		return 0;
	if (geteuid() == 0)
		n = snprintf(s->pid_file, sizeof(s->pid_file), "%s", PID_FILE_DEFAULT);
	else
		n = snprintf(s->pid_file, sizeof(s->pid_file), "%s/%s", s->run_directory,
			     PID_FILE_NAME);
	return n < 0 || (size_t)n >= sizeof(s->pid_file) ? -ENAMETOOLONG : 0;
}

/* Did systemd start this very process in a service of Type=notify? Then it must stay what it is,
 * also with the file of a site whose init script wants it in the background. */
static bool systemd_waits(void)
{
	const char *pid = getenv("SYSTEMD_EXEC_PID");
	uint64_t number;

	return pid && getenv("NOTIFY_SOCKET") && span_u64(span_str(pid), INT_MAX, &number) == 0 &&
	       number == (uint64_t)getpid();
}

int settings_load(struct settings *s, const char *config_path, int text_fd, const char *pid_file,
		  bool at_start)
{
	memset(s, 0, sizeof(*s));
	(void)snprintf(s->config_path, sizeof(s->config_path), "%s", config_path);

	int errors = at_start ? config_load(&s->config, config_path, text_fd, report_config, NULL,
					    NULL)
			      : config_load_again(&s->config, config_path, text_fd, report_config,
						  NULL);

	if (errors < 0)
		report(LOG_ERR, "%s: %s", config_path, strerror(-errors));
	if (errors != 0)
		return errors < 0 ? 1 : errors;
	if (at_start)
		report_facility((int)s->config.syslog_facility, (int)s->config.syslog_prioritymask);
	s->foreground = s->config.foreground_mode || systemd_waits();
	errors = run_checks(s, at_start);
	if (errors == 0 && choose_pid_file(s, pid_file) < 0) {
		report(LOG_ERR, "the pid file's path is too long");
		errors = 1;
	}
	if (errors > 0)
		settings_wipe(s);
	return errors;
}

void settings_wipe(struct settings *s)
{
	config_wipe(&s->config);
	s->log_file = NULL;
}

int settings_absolute(const char *path, char *out, size_t cap)
{
	char directory[PATH_MAX] = "";

	if (*path != '/' && !getcwd(directory, sizeof(directory)))
		return -errno;
	int n = snprintf(out, cap, "%s%s%s", directory, *path == '/' ? "" : "/", path);

	return n < 0 || (size_t)n >= cap ? -ENAMETOOLONG : 0;
}
