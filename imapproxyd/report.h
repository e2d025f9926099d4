/* What the administrator is told: to the log, and to whoever started the program while he can see
 * it. */
#ifndef IMAPPROXYD_REPORT_H
#define IMAPPROXYD_REPORT_H

#include <stdbool.h>

#include "lib/log.h"

/* Begins: lines go to a copy of standard error (the starter's), and are kept for
 * report_facility(). */
void report_open(void);

/* The facility and the least important priority are known now, or will never be: what was said
 * until now goes to the system's logger, which has had nothing of it yet. */
void report_facility(int facility, int least_important);

/* The log's place is known now. For LOG_TO_STDERR and LOG_TO_FILE standard error must already be
 * it. A file gets the lines of before, too. */
void report_log_to(enum log_target target, int facility, int least_important);

/* Nobody watches any longer: the copy of standard error is closed. */
void report_starter_gone(void);

/* One line at this priority (LOG_ERR and so on). */
__attribute__((format(printf, 2, 3))) void report(int priority, const char *format, ...);

/* A config_report_fn: passes a finished sentence on. */
void report_config(void *context, bool is_error, const char *line);

#endif
