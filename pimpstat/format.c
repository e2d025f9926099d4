/* Numbers, times and foreign text for people.
 *
 * Foreign text is shown character by character, each either harmless or escaped: what takes up no
 * column (controls, combining marks, marks that turn the direction of writing) never reaches the
 * terminal, so that a name cannot look like another one or move what stands beside it.
 */
#include "pimpstat/format.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <wchar.h>
#include <wctype.h>

void format_count(uint64_t count, char *text, size_t cap)
{
	char digits[24];
	int n = snprintf(digits, sizeof(digits), "%" PRIu64, count);
	size_t used = 0;

	for (int i = 0; i < n && used + 2 < cap; i++) {
		if (i > 0 && (n - i) % 3 == 0)
			text[used++] = ' ';
		text[used++] = digits[i];
	}
	text[used] = '\0';
}

void format_bytes(uint64_t bytes, char *text, size_t cap)
{
	static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
	double value = (double)bytes;
	unsigned unit = 0;

	/* What would be rounded to four digits is one of the next unit. */
	for (; value >= 999.5 && unit < 6; unit++)
		value /= 1000;
	(void)snprintf(text, cap, unit > 0 && value < 9.95 ? "%.1f %s" : "%.0f %s", value,
		       units[unit]);
}

void format_age(int64_t seconds, char *text, size_t cap)
{
	int64_t s = seconds < 0 ? 0 : seconds;

	if (s < 60)
		(void)snprintf(text, cap, "%" PRId64 " s", s);
	else if (s < 3600)
		(void)snprintf(text, cap, "%" PRId64 "m %02" PRId64 "s", s / 60, s % 60);
	else if (s < 86400)
		(void)snprintf(text, cap, "%" PRId64 "h %02" PRId64 "m", s / 3600, s / 60 % 60);
	else if (s < 100 * 86400)
		(void)snprintf(text, cap, "%" PRId64 "d %02" PRId64 "h", s / 86400, s / 3600 % 24);
	else
		(void)snprintf(text, cap, "%" PRId64 " d", s / 86400);
}

void format_duration(int64_t seconds, char *text, size_t cap)
{
	int64_t s = seconds < 0 ? 0 : seconds;
	char days[24] = "";

	if (s >= 86400)
		(void)snprintf(days, sizeof(days), "%" PRId64 " d ", s / 86400);
	(void)snprintf(text, cap, "%s%02" PRId64 ":%02" PRId64 ":%02" PRId64, days, s / 3600 % 24,
		       s / 60 % 60, s % 60);
}

void format_time(int64_t when, char *text, size_t cap)
{
	time_t t = (time_t)when;
	struct tm parts;

	if (when <= 0 || !localtime_r(&t, &parts) ||
	    strftime(text, cap, "%Y-%m-%d %H:%M:%S", &parts) == 0)
		(void)snprintf(text, cap, "-");
}

void format_share(uint64_t part, uint64_t whole, char *text, size_t cap)
{
	if (whole == 0)
		(void)snprintf(text, cap, "-");
	else
		(void)snprintf(text, cap, "%.1f %%", (double)part * 100 / (double)whole);
}

/* A character at the front of the bytes: how many of them it takes and how it is shown. */
struct unit {
	size_t bytes;
	unsigned columns;
	char text[8];
};

static struct unit escape(unsigned char byte)
{
	struct unit u = {.bytes = 1, .columns = 4};

	(void)snprintf(u.text, sizeof(u.text), "\\x%02x", byte);
	return u;
}

static struct unit next_unit(struct span bytes, bool utf8)
{
	unsigned char first = (unsigned char)bytes.p[0];
	struct unit u = {.bytes = 1, .columns = 1};
	mbstate_t state = {0};
	wchar_t wide;

	if (first == '\\')
		return (struct unit){.bytes = 1, .columns = 2, .text = "\\\\"};
	if (first >= ' ' && first <= '~') {
		u.text[0] = (char)first;
		return u;
	}
	size_t n = utf8 && first >= 0x80 ? mbrtowc(&wide, bytes.p, bytes.n, &state) : 0;

	if (n == 0 || n > 4 || !iswprint((wint_t)wide) || wcwidth(wide) < 1)
		return escape(first);
	u.bytes = n;
	u.columns = (unsigned)wcwidth(wide);
	memcpy(u.text, bytes.p, n);
	return u;
}

unsigned format_foreign(struct span bytes, bool utf8, unsigned columns, char *text, size_t cap)
{
	const char *mark = utf8 ? "\xe2\x80\xa6" : "~";
	size_t used = 0, kept = 0;
	unsigned taken = 0, kept_columns = 0;

	while (bytes.n > 0) {
		struct unit u = next_unit(bytes, utf8);
		size_t n = strlen(u.text);

		if (taken + u.columns > columns || used + n + strlen(mark) >= cap) {
			int m = columns > 0 ? snprintf(text + kept, cap - kept, "%s", mark) : 0;

			text[kept + (size_t)m] = '\0';
			return kept_columns + (columns > 0);
		}
		memcpy(text + used, u.text, n);
		used += n;
		taken += u.columns;
		if (taken < columns) { /* the mark still fits behind it */
			kept = used;
			kept_columns = taken;
		}
		bytes = span_from(bytes, u.bytes);
	}
	text[used] = '\0';
	return taken;
}
