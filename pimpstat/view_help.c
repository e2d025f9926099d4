/* What the keys do, and where to read more. */
#include "pimpstat/view.h"

static const struct {
	const char *key;
	const char *what;
} rows[] = {
	{"1 - 6", "a view; Tab, left and right: its neighbours"},
	{"up down", "one line; also k and j"},
	{"PgUp PgDn", "one screen; also b and the space bar"},
	{"Home End", "first and last line; also g and G"},
	{"s S", "sort by the next column, by the one before"},
	{"r", "the other way round"},
	{"/", "filter: rows that contain the text; Esc drops it"},
	{"?", "this help and back"},
	{"q", "quit; also Ctrl-C"},
	{"", ""},
	{"BYTES", "what the client's connection has moved, of a cached one its sessions so far"},
	{"reused", "logins that a cached connection served"},
	{"", ""},
	{"", "pimpstat(8) explains every figure."},
};

void view_help(struct page *p, const struct view_input *in)
{
	unsigned at = p->width >= 60 ? 16 : 11;

	(void)in;
	if (in->height >= 20)
		page_line(p);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		page_line(p);
		page_to(p, p->width >= 60 ? 3 : 1);
		page_put(p, STYLE_KEY, rows[i].key);
		page_to(p, at);
		page_put_wrapped(p, STYLE_PLAIN, rows[i].what);
	}
}
