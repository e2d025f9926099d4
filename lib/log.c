/* Log lines: one datagram or one write each, so that lines of many processes never mix.
 *
 * Under inetd standard error is the client's connection: a program started that way asks for syslog
 * and nothing here ever falls back to standard error by itself.
 */
#include "lib/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/fd.h"

#define LOGGER_PATH "/dev/log"

static struct {
	const char *ident;
	enum log_target target;
	int socket;
	int facility;
	int least_important;
	bool follows;
	bool is_new; /* the socket, since log_refresh() was called last */
	struct stat logger; /* the one that socket leads to; all zero: none */
} state = {
	.ident = "keepwarm",
	.target = LOG_TO_STDERR,
	.socket = -1,
	.facility = LOG_MAIL,
	.least_important = LOG_DEBUG,
};

int log_target_parse(const char *word, enum log_target *ret)
{
	static const char *const names[] = { "syslog", "stderr", "file" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(word, names[i]) == 0) {
			*ret = (enum log_target)i;
			return 0;
		}
	return -EINVAL;
}

void log_open(const char *ident, enum log_target target)
{
	state.ident = ident;
	state.target = target;
	log_reopen();
}

void log_limits(int facility, int least_important)
{
	state.facility = facility;
	state.least_important = least_important;
}

void log_reopen(void)
{
	static const struct sockaddr_un address = { .sun_family = AF_UNIX,
						    .sun_path = LOGGER_PATH };

	fd_drop(&state.socket);
	state.logger = (struct stat){ 0 };
	if (state.target != LOG_TO_SYSLOG)
		return;
	struct stat logger;
	int r = stat(LOGGER_PATH, &logger); /* before: if it changes now, that is seen later */
	AUTO_FD fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return;
	state.socket = take_fd(&fd);
	state.is_new = true;
	if (r == 0)
		state.logger = logger;
}

void log_follow(void)
{
	state.follows = true;
}

/* A file's number alone may come again. */
static bool is_same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

bool log_refresh(void)
{
	struct stat now;

	if (state.target == LOG_TO_SYSLOG && stat(LOGGER_PATH, &now) == 0 &&
	    !is_same_file(&now, &state.logger))
		log_reopen();
	bool is_new = state.is_new;

	state.is_new = false;
	return is_new;
}

void log_take_socket(int fd)
{
	if (state.target == LOG_TO_SYSLOG) {
		fd_drop(&state.socket);
		state.socket = fd;
	} else {
		fd_drop(&fd);
	}
}

int log_socket(void)
{
	return state.socket;
}

void log_set_socket(int fd)
{
	state.socket = fd;
}

/* Appends yyyy-mm-ddThh:mm:ssZ. gmtime(3) would do, at the price of more pages in every process. */
static int add_time(struct buf *out, int64_t now)
{
	/* Days since 0000-03-01; a year that begins in March has its leap day last. */
	int64_t days = now / 86400 + 719468, seconds = now % 86400;
	int64_t era = days / 146097, day_of_era = days % 146097;
	int64_t year =
		(day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	int64_t day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
	int64_t month = (5 * day_of_year + 2) / 153;
	int64_t parts[6] = { era * 400 + year + (month >= 10),
			     month < 10 ? month + 3 : month - 9,
			     day_of_year - (153 * month + 2) / 5 + 1,
			     seconds / 3600,
			     seconds / 60 % 60,
			     seconds % 60 };
	static const char after[] = "--T::Z";
	int r = 0;

	for (int i = 0; r == 0 && i < 6; i++)
		(void)((r = parts[i] < 10 ? buf_add_char(out, '0') : 0) ||
		       (r = buf_add_u64(out, (uint64_t)parts[i])) ||
		       (r = buf_add_char(out, after[i])));
	return r;
}

static void add_text(struct buf *out, struct span text)
{
	size_t room;
	char *to = buf_tail(out, &room);
	size_t n = text.n < room ? text.n : room;

	for (size_t i = 0; i < n; i++)
		to[i] = (unsigned char)text.p[i] < ' ' || text.p[i] == 0x7f ? '?' : text.p[i];
	buf_filled(out, n);
}

/* *ret_full: the logger is there, and does not read. */
static int deliver(struct span line, bool *ret_full)
{
	ssize_t n;

	if (state.target == LOG_TO_SYSLOG)
		n = state.socket < 0
			    ? -1
			    : send(state.socket, line.p, line.n, MSG_NOSIGNAL | MSG_DONTWAIT);
	else
		n = write(STDERR_FILENO, line.p, line.n);
	*ret_full = n < 0 && state.socket >= 0 && errno == EAGAIN;
	return n == (ssize_t)line.n ? 0 : -EIO;
}

int log_write(int priority, struct span text)
{
	return log_write_as(LOG_NAME_OWN, priority, text);
}

/* "ident[pid]: ", or "ident: " */
static int add_name(struct buf *out, enum log_name name)
{
	static const struct {
		const char *ident;
		bool bare;
	} names[LOG_NAME_COUNT] = {
		[LOG_NAME_IMAPPROXY] = { "in.imapproxyd", false },
		[LOG_NAME_IMAPD] = { "imapd", true },
		[LOG_NAME_IMAPD_SSL] = { "imapd-ssl", true },
		[LOG_NAME_POP3D] = { "pop3d", true },
		[LOG_NAME_POP3D_SSL] = { "pop3d-ssl", true },
	};
	int r = buf_add_str(out, name == LOG_NAME_OWN ? state.ident : names[name].ident);

	if (r == 0 && !names[name].bare)
		(void)((r = buf_add_char(out, '[')) || (r = buf_add_u64(out, (uint64_t)getpid())) ||
		       (r = buf_add_char(out, ']')));
	return r == 0 ? buf_add_str(out, ": ") : r;
}

int log_write_as(enum log_name name, int priority, struct span text)
{
	char bytes[LOG_LINE_MAX];
	struct buf out = { .data = bytes, .cap = sizeof(bytes) - 1 };
	bool full;
	int r = 0;

	if (priority > state.least_important || state.target == LOG_TO_NOBODY)
		return 0;
	if (state.target == LOG_TO_SYSLOG)
		(void)((r = buf_add_char(&out, '<')) ||
		       (r = buf_add_u64(&out, (uint64_t)(state.facility | priority))) ||
		       (r = buf_add_char(&out, '>')));
	else if (state.target == LOG_TO_FILE)
		(void)((r = add_time(&out, clock_wall())) || (r = buf_add_char(&out, ' ')));
	if (r < 0 || add_name(&out, name) < 0)
		return -EIO;
	add_text(&out, text);
	if (state.target != LOG_TO_SYSLOG) {
		out.cap++; /* the byte kept for it */
		(void)buf_add_char(&out, '\n');
	}
	r = deliver(buf_span(&out), &full);
	/* to one that is full another socket leads no better */
	if (r < 0 && !full && state.follows && state.target == LOG_TO_SYSLOG) {
		log_reopen();
		r = deliver(buf_span(&out), &full);
	}
	return r;
}

void log_printf(int priority, const char *format, ...)
{
	char text[LOG_LINE_MAX];
	va_list args;

	va_start(args, format);
	int n = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (n < 0)
		return;
	size_t length = (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1;

	(void)log_write(priority, (struct span){ text, length });
}
