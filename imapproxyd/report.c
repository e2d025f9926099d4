/* Messages with two readers.
 *
 * Until a background start has succeeded its messages must reach the terminal it was started from,
 * and the log, because the starter may be a boot script that nobody watches. Standard error itself
 * may become a log file or /dev/null meanwhile, so a copy of it is kept. What is said of the
 * configuration waits for the facility that it names.
 */
#include "imapproxyd/report.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "lib/buf.h"
#include "lib/fd.h"

#define IDENT	  "in.imapproxyd"
#define EARLY_MAX 8192

static int starter = -1;
static enum log_target log_target_now = LOG_TO_NOBODY;
static char early_bytes[EARLY_MAX]; /* lines: a digit, the priority; the text; NUL */
static struct buf early = BUF_OVER(early_bytes);
static bool is_early; /* the log's place is not known, */
static bool is_waiting; /* nor what lines are marked with */

void report_open(void)
{
	starter = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	log_target_now = LOG_TO_SYSLOG;
	log_open(IDENT, LOG_TO_SYSLOG);
	is_early = is_waiting = true;
}

/* A flood of warnings is cut: the starter and the system's logger have them all. */
static bool keep(int priority, struct span text)
{
	if (early.cap - early.len < text.n + 2)
		return false;
	(void)(buf_add_char(&early, (char)('0' + priority)) || buf_add(&early, text) ||
	       buf_add_char(&early, '\0'));
	return true;
}

static void repeat_early(void)
{
	struct span lines = buf_span(&early);

	while (lines.n > 0) {
		struct span line = span_word(&lines, '\0');

		(void)log_write(line.p[0] - '0', span_from(line, 1));
	}
}

void report_facility(int facility, int least_important)
{
	log_limits(facility, least_important);
	if (is_waiting)
		repeat_early();
	is_waiting = false;
}

void report_log_to(enum log_target target, int facility, int least_important)
{
	/* Both would be the same place. */
	if (target == LOG_TO_STDERR)
		fd_drop(&starter);
	log_target_now = target;
	log_open(IDENT, target);
	log_limits(facility, least_important);
	is_early = false;
	if (target == LOG_TO_FILE)
		repeat_early();
}

void report_starter_gone(void)
{
	fd_drop(&starter);
}

void report(int priority, const char *format, ...)
{
	char text[LOG_LINE_MAX];
	va_list args;

	va_start(args, format);
	int n = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (n < 0)
		return;
	if (starter >= 0)
		(void)dprintf(starter, "%s: %s\n", IDENT, text);
	if (is_early && keep(priority, span_str(text)) && is_waiting)
		return;
	if (log_write(priority, span_str(text)) < 0 && log_target_now == LOG_TO_SYSLOG) {
		/* The logger was restarted. */
		log_reopen();
		(void)log_write(priority, span_str(text));
	}
}

void report_config(void *context, bool is_error, const char *line)
{
	(void)context;
	report(is_error ? LOG_ERR : LOG_WARNING, "%s", line);
}
