/* The page of pimpstat -1. Names of users and hosts come from strangers: text_print_foreign() is
 * the only way they reach the terminal.
 */
#include "pimpstat/text.h"

#include <inttypes.h>
#include <string.h>

#include "pimpstat/format.h"

#define USER_COLUMNS   24
#define CLIENT_COLUMNS 24
#define HOST_COLUMNS   24

/* Counters that stand in the block of logins and are not repeated below it. */
static const struct {
	enum counter counter;
	const char *label;
} login_rows[] = {
	{COUNTER_logins, "logins"},	   {COUNTER_logins_reused, "  reused"},
	{COUNTER_logins_fresh, "  fresh"}, {COUNTER_logins_refused, "refused"},
	{COUNTER_logins_failed, "failed"},
};
#define LOGIN_ROWS (sizeof(login_rows) / sizeof(login_rows[0]))

size_t text_print_foreign(FILE *out, struct span bytes)
{
	size_t columns = 0;

	for (size_t i = 0; i < bytes.n; i++) {
		unsigned char c = (unsigned char)bytes.p[i];

		if (c == '\\')
			columns += (size_t)fprintf(out, "\\\\");
		else if (c >= ' ' && c <= '~')
			columns += (size_t)fprintf(out, "%c", c);
		else
			columns += (size_t)fprintf(out, "\\x%02x", c);
	}
	return columns;
}

static void print_time(FILE *out, int64_t when)
{
	char text[32];

	format_time(when, text, sizeof(text));
	fprintf(out, "%s", text);
}

static void print_duration(FILE *out, int64_t seconds)
{
	char text[32];

	format_duration(seconds, text, sizeof(text));
	fprintf(out, "%s", text);
}

static void print_head(FILE *out, const struct model *m, int64_t now)
{
	fprintf(out, "Keepwarm ");
	(void)text_print_foreign(out, span_str(m->version));
	if (model_is_running(m, now)) {
		fprintf(out, ", running\n");
	} else {
		fprintf(out, "\nno broker runs; figures as of ");
		print_time(out, m->heartbeat);
		fprintf(out, "\n");
	}
	fprintf(out, "started  ");
	print_time(out, m->started);
	fprintf(out, "\nreset    ");
	print_time(out, m->reset);
	fprintf(out, "\nuptime   ");
	print_duration(out, (model_is_running(m, now) ? now : m->heartbeat) - m->started);
	fprintf(out, "\n\n");
}

static void print_gauges(FILE *out, const struct model *m)
{
	static const char *const labels[GAUGE_COUNT] = {
		[GAUGE_clients] = "client connections",
		[GAUGE_active] = "active backend connections",
		[GAUGE_cached] = "cached backend connections",
		[GAUGE_spares] = "spare backend connections",
		[GAUGE_tls_workers] = "processes of tlsrelayd",
		[GAUGE_tls_connections] = "TLS connections",
	};

	fprintf(out, "%-28s %10s %10s  %s\n", "", "now", "peak", "at");
	for (size_t i = 0; i < GAUGE_COUNT; i++) {
		fprintf(out, "%-28s %10" PRIu64 " %10" PRIu64 "  ",
			labels[i] ? labels[i] : model_gauge_names[i], m->gauges[i],
			m->peaks[i].value);
		print_time(out, m->peaks[i].when);
		fprintf(out, "\n");
	}
	fprintf(out, "\n");
}

static void print_logins(FILE *out, const struct model *m)
{
	int ratio = model_reuse_per_mille(m);

	for (size_t i = 0; i < LOGIN_ROWS; i++)
		fprintf(out, "%-28s %10" PRIu64 "\n", login_rows[i].label,
			m->counters[login_rows[i].counter]);
	if (ratio < 0)
		fprintf(out, "%-28s %10s\n\n", "reuse ratio", "N/A");
	else
		fprintf(out, "%-28s %7d.%d%%\n\n", "reuse ratio", ratio / 10, ratio % 10);
}

static bool is_login_row(size_t counter)
{
	for (size_t i = 0; i < LOGIN_ROWS; i++)
		if ((size_t)login_rows[i].counter == counter)
			return true;
	return false;
}

static void print_counters(FILE *out, const struct model *m)
{
	for (size_t i = 0; i < COUNTER_COUNT; i++)
		if (!is_login_row(i))
			fprintf(out, "%-28s %10" PRIu64 "  %s\n", model_counter_names[i],
				m->counters[i], model_counter_meanings[i]);
}

/* The rows that have happened, under a title. */
static void print_reasons(FILE *out, const char *title, const uint64_t *values, size_t count,
			  const char *(*word)(unsigned))
{
	bool titled = false;

	for (unsigned i = 0; i < count; i++) {
		if (values[i] == 0)
			continue;
		if (!titled)
			fprintf(out, "\n%s\n", title);
		titled = true;
		fprintf(out, "  %-26s %10" PRIu64 "\n", word(i), values[i]);
	}
}

static void print_cell(FILE *out, struct span bytes, size_t columns)
{
	size_t used = bytes.n > 0 ? text_print_foreign(out, bytes) : (size_t)fprintf(out, "-");

	fprintf(out, "%*s ", used < columns ? (int)(columns - used) : 0, "");
}

/* How long a connect takes, what went wrong last and when. */
static void print_health(FILE *out, const struct statefile_host *f)
{
	if (f->dials > 0)
		fprintf(out, " %8.1f ms ", (double)f->dial_average / 1000);
	else
		fprintf(out, " %11s ", "-");
	if (f->failed_at > 0) {
		print_time(out, f->failed_at);
		fprintf(out, " ");
		(void)text_print_foreign(out, (struct span){f->error, f->error_length});
	} else {
		fprintf(out, "-");
	}
	fprintf(out, "\n");
}

static void print_hosts(FILE *out, const struct model *m)
{
	if (m->host_count == 0)
		return;
	fprintf(out, "\n%-*s %-5s %8s %8s %10s %10s %8s %8s %8s %11s %s\n", HOST_COLUMNS, "host",
		"state", "active", "cached", "fresh", "reused", "refused", "failed", "down",
		"connect", "last error");
	for (size_t i = 0; i < m->host_count; i++) {
		const struct statefile_host *f = &m->hosts[i].figures;

		print_cell(out, m->hosts[i].name, HOST_COLUMNS);
		fprintf(out, "%-5s %8" PRIu64 " %8" PRIu64, model_host_word(f->state), f->active,
			f->cached);
		fprintf(out, " %10" PRIu64 " %10" PRIu64, f->logins_fresh, f->logins_reused);
		fprintf(out, " %8" PRIu64 " %8" PRIu64 " %8" PRIu64, f->logins_refused,
			f->logins_failed, f->dials_failed);
		print_health(out, f);
	}
}

static void print_sessions(FILE *out, const struct model *m, int64_t now)
{
	if (m->session_count == 0)
		return;
	fprintf(out, "\n%-7s%-*s %-*s %-*s %12s %s\n", "state", USER_COLUMNS, "user",
		CLIENT_COLUMNS, "client", HOST_COLUMNS, "host", "bytes", "age");
	for (size_t i = 0; i < m->session_count; i++) {
		const struct model_session *s = &m->sessions[i];

		fprintf(out, "%-6s ", model_state_word(s->state));
		print_cell(out, s->user, USER_COLUMNS);
		print_cell(out, s->client, CLIENT_COLUMNS);
		print_cell(out, s->host, HOST_COLUMNS);
		if (s->has_bytes)
			fprintf(out, "%12" PRIu64 " ", s->from_client + s->from_backend);
		else
			fprintf(out, "%12s ", "-");
		print_duration(out, now - s->since);
		fprintf(out, "\n");
	}
}

void text_print(FILE *out, const struct model *m, int64_t now)
{
	print_head(out, m, now);
	print_gauges(out, m);
	print_logins(out, m);
	print_counters(out, m);
	print_reasons(out, "connections after their sessions: cached, or why not", m->not_cached,
		      NOT_CACHED_COUNT, not_cached_word);
	print_reasons(out, "how sessions ended", m->ends, END_COUNT, end_word);
	print_hosts(out, m);
	print_sessions(out, m, now);
}
