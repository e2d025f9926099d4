/* Log lines without syslog(3), which would open a socket from inside a jail.
 *
 * A line goes as `<PRI>ident[pid]: text` on a datagram socket to the system's logger, or to
 * standard error: bare for a terminal or a journal, with a time in front for a file. Text from
 * outside must have been quoted (kv.h): a line feed in it is replaced here all the same.
 */
#ifndef LIB_LOG_H
#define LIB_LOG_H

#include <syslog.h> /* LOG_INFO and so on; no call of it is used */

#include "lib/span.h"

enum log_target {
	LOG_TO_SYSLOG,
	LOG_TO_STDERR,
	LOG_TO_FILE, /* standard error is a file: each line gets the time */
	LOG_TO_NOBODY,
};

/* Under which name a line is written: our own, or that of a program whose place we take
 * (log_format). The numbers are in a message. */
enum log_name {
	LOG_NAME_OWN,
	LOG_NAME_IMAPPROXY, /* in.imapproxyd */
	LOG_NAME_IMAPD,	    /* Courier's, which have no process number */
	LOG_NAME_IMAPD_SSL,
	LOG_NAME_POP3D,
	LOG_NAME_POP3D_SSL,
	LOG_NAME_COUNT,
};

/* Longest line; the rest is cut. */
#define LOG_LINE_MAX 2000

/* Reads "syslog", "stderr" or "file". Returns 0 or -EINVAL. */
int log_target_parse(const char *word, enum log_target *ret);

/* Where lines go from now on. ident is kept, not copied. For syslog the socket is opened at once;
 * no logger there is not an error: lines are lost until log_reopen() finds one. */
void log_open(const char *ident, enum log_target target);

/* Facility (LOG_MAIL) and the least important priority still written (LOG_DEBUG: all). */
void log_limits(int facility, int least_important);

/* Connects to the logger again if there was none or it went away. */
void log_reopen(void);

/* For a process that lives long and is in no jail: log_write() connects again by itself when a line
 * could not be delivered. */
void log_follow(void);

/* Connects again if the logger has made its socket anew (a restart), or was not there before.
 * Returns whether the socket is another one than at the last call. */
bool log_refresh(void);

/* The socket to the logger is this one from now on; it is taken over, and closed when lines do not
 * go there. */
void log_take_socket(int fd);

/* The socket to the logger, or -1; and the same one under another number, for a process that
 * rearranges its descriptors. */
int log_socket(void);
void log_set_socket(int fd);

/* Writes one line. Returns 0, or -EIO when it could not be delivered. */
int log_write(int priority, struct span text);

/* The same under another name. */
int log_write_as(enum log_name name, int priority, struct span text);

/* log_write() from a format. */
__attribute__((format(printf, 2, 3))) void log_printf(int priority, const char *format, ...);

#endif
