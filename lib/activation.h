/* Being started by a socket (LISTEN_FDS, sd_listen_fds(3)) and telling the supervisor
 * (NOTIFY_SOCKET, sd_notify(3)). Written by hand from the documented protocol, because linking
 * libsystemd costs a per-connection process more than all else it does. */
#ifndef LIB_ACTIVATION_H
#define LIB_ACTIVATION_H

#include <stddef.h>
#include <stdint.h>

#define ACTIVATION_MAX	 64
#define ACTIVATION_FIRST 3
#define ACTIVATION_NAME	 48

struct activation_fd {
	int fd;
	char name[ACTIVATION_NAME]; /* from LISTEN_FDNAMES, else "" */
};

/* The descriptors passed to this process, made close-on-exec, with their names; the variables are
 * removed from the environment. Returns how many (at most max; further ones are closed), 0 when
 * none are for this process, -EINVAL for variables that make no sense. */
int activation_take(struct activation_fd *ret, size_t max);

/* The same for a program that knows what it wants: each place gets the first descriptor of its name
 * or -1, all others are closed. 0 or -EINVAL. */
struct activation_place {
	const char *name;
	int *fd;
};
int activation_take_named(const struct activation_place *places, size_t count);

/* Makes the connection for the next activation_notify() already, for a process that will not find
 * the supervisor's socket any more. 0, also without a supervisor, or -errno. */
int activation_notify_prepare(void);

/* Tells the supervisor, e.g. "READY=1" or "FDSTORE=1\nFDNAME=door", with count descriptors. Returns
 * 1 when sent, 0 without a supervisor, -errno. */
int activation_notify(const char *state, const int *fds, size_t count);

/* Tells a supervisor that wants to hear it (WatchdogSec=, WATCHDOG_USEC) that this process is
 * alive, twice as often as that: to be called whenever it has done something. Returns in how many
 * milliseconds it must be called again, or -1 when nobody wants to know. */
int64_t activation_watchdog(int64_t now_ms);

#endif
