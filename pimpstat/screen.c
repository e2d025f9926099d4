/* The terminal. Pages are painted as a whole once a second and after each key; curses sends what
 * has changed. Signals arrive in ppoll() only, so none is lost between a look and a wait, and the
 * terminal is put back in order in one place, never in a handler.
 */
#include "pimpstat/screen.h"

#include <curses.h>
#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/clock.h"
#include "pimpstat/traffic.h"
#include "pimpstat/ui.h"

#define ESCAPE_MS 25

/* Signals that end it, SIGINT first; SIGWINCH and SIGTSTP are curses' own. */
static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
#define END_SIGNALS (sizeof(ends) / sizeof(ends[0]))

static volatile sig_atomic_t ended_by;

static void on_end(int number)
{
	ended_by = number;
}

struct screen {
	SCREEN *terminal;
	attr_t styles[STYLE_COUNT];
	struct ui ui;
	struct model model;
	bool has_model;
	char trouble[512];
	const char *path;
	sigset_t while_waiting;
};

static const struct {
	attr_t attributes;
	short colour; /* -1: the terminal's own */
} looks[STYLE_COUNT] = {
	[STYLE_PLAIN] = {A_NORMAL, -1},	     [STYLE_DIM] = {A_DIM, -1},
	[STYLE_BOLD] = {A_BOLD, -1},	     [STYLE_TITLE] = {A_UNDERLINE, -1},
	[STYLE_TAB] = {A_REVERSE, -1},	     [STYLE_KEY] = {A_BOLD, COLOR_CYAN},
	[STYLE_GOOD] = {A_NORMAL, COLOR_GREEN}, [STYLE_WARN] = {A_NORMAL, COLOR_YELLOW},
	[STYLE_BAD] = {A_BOLD, COLOR_RED},   [STYLE_CURVE] = {A_NORMAL, COLOR_CYAN},
};

static const struct {
	int curses;
	int ui;
} keys[] = {
	{KEY_UP, UI_KEY_UP},	     {KEY_DOWN, UI_KEY_DOWN},	    {KEY_PPAGE, UI_KEY_PAGE_UP},
	{KEY_NPAGE, UI_KEY_PAGE_DOWN}, {KEY_HOME, UI_KEY_HOME},	    {KEY_END, UI_KEY_END},
	{KEY_LEFT, UI_KEY_LEFT},     {KEY_RIGHT, UI_KEY_RIGHT},     {KEY_BTAB, UI_KEY_BACK_TAB},
	{KEY_ENTER, '\n'},	     {KEY_BACKSPACE, UI_KEY_BACKSPACE}, {KEY_DC, UI_KEY_BACKSPACE},
};

/* Colours if the terminal has them and nobody said no (no-color.org). */
static void choose_styles(struct screen *s)
{
	const char *no = getenv("NO_COLOR");
	bool colours = (!no || !*no) && has_colors() && start_color() == OK &&
		       use_default_colors() == OK;
	short pair = 0;

	for (int i = 0; i < STYLE_COUNT; i++) {
		s->styles[i] = looks[i].attributes;
		if (!colours || looks[i].colour < 0)
			continue;
		if (init_pair(++pair, looks[i].colour, -1) == OK)
			s->styles[i] |= (attr_t)COLOR_PAIR(pair);
	}
}

static void catch_signals(struct screen *s)
{
	struct sigaction action = {.sa_handler = on_end};
	sigset_t held;

	sigemptyset(&action.sa_mask);
	sigemptyset(&held);
	sigaddset(&held, SIGWINCH);
	for (size_t i = 0; i < END_SIGNALS; i++) {
		(void)sigaction(ends[i], &action, NULL);
		sigaddset(&held, ends[i]);
	}
	(void)sigprocmask(SIG_BLOCK, &held, &s->while_waiting);
	for (size_t i = 0; i < END_SIGNALS; i++)
		sigdelset(&s->while_waiting, ends[i]);
	sigdelset(&s->while_waiting, SIGWINCH);
}

static int open_terminal(struct screen *s, char *why, size_t cap)
{
	const char *type = getenv("TERM");

	if (!type || !*type || !(s->terminal = newterm(NULL, stdout, stdin))) {
		(void)snprintf(why, cap,
			       "the terminal's type (TERM) is not known: use pimpstat -1 for a "
			       "page of text");
		return -1;
	}
	const char *move_cursor = tigetstr("cup");

	if (!move_cursor || move_cursor == (const char *)-1) { /* (char *)-1: no such thing */
		(void)endwin();
		delscreen(s->terminal);
		(void)snprintf(why, cap,
			       "this terminal (TERM) cannot place text: use pimpstat -1 for a "
			       "page of text");
		return -1;
	}
	(void)set_escdelay(ESCAPE_MS);
	(void)cbreak();
	(void)noecho();
	(void)nonl();
	(void)keypad(stdscr, TRUE);
	(void)nodelay(stdscr, TRUE);
	(void)curs_set(0);
	choose_styles(s);
	return 0;
}

static void close_terminal(struct screen *s)
{
	(void)erase();
	(void)refresh();
	(void)endwin();
	delscreen(s->terminal);
}

static void paint(struct screen *s)
{
	struct page page;

	ui_resize(&s->ui, (unsigned)COLS, (unsigned)LINES);
	ui_draw(&s->ui, s->has_model ? &s->model : NULL, s->trouble, clock_wall(), &page);
	(void)erase();
	for (size_t i = 0; i < page.run_count; i++) {
		const struct run *r = &page.runs[i];

		(void)attrset((int)s->styles[r->style]);
		(void)mvaddnstr((int)r->line, (int)r->column, page.bytes + r->offset,
				(int)r->length);
	}
	(void)attrset(A_NORMAL);
	(void)refresh();
	page_wipe(&page);
}

/* The figures anew. A file that is gone or another one is the ui's to tell; -1 when it was cut
 * short under us, for it could be so again and again. */
static int look(struct screen *s)
{
	struct model fresh;
	int r = model_read(s->path, &fresh, s->trouble, sizeof(s->trouble));

	if (s->has_model)
		model_wipe(&s->model);
	s->has_model = r == 0;
	if (r == 0) {
		s->model = fresh;
		s->trouble[0] = '\0';
		traffic_add(&s->model);
	}
	return r == -2 ? -1 : 0;
}

static void take_keys(struct screen *s)
{
	int key;

	while (!s->ui.quit && (key = getch()) != ERR) {
		if (key == 12) /* Ctrl-L: paint all of it again */
			(void)clearok(curscr, TRUE);
		for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
			if (keys[i].curses == key) {
				key = keys[i].ui;
				break;
			}
		ui_press(&s->ui, key);
	}
}

/* Until a key, a signal or the next second. false: the terminal is gone. */
static bool wait_for_key(const struct screen *s)
{
	struct pollfd fd = {.fd = STDIN_FILENO, .events = POLLIN};
	struct timespec now, pause = {0};

	(void)clock_gettime(CLOCK_REALTIME, &now);
	pause.tv_nsec = 999999999 - now.tv_nsec;
	int r = ppoll(&fd, 1, &pause, &s->while_waiting);

	return r <= 0 || (fd.revents & (POLLERR | POLLHUP | POLLNVAL)) == 0;
}

static int serve(struct screen *s)
{
	int64_t seen = clock_wall();

	while (!s->ui.quit && ended_by == 0) {
		paint(s);
		if (!wait_for_key(s))
			return 0;
		take_keys(s);
		if (clock_wall() == seen)
			continue;
		seen = clock_wall();
		if (look(s) < 0)
			return -1;
	}
	return 0;
}

int screen_run(const char *path, char *why, size_t cap)
{
	struct screen s = {.path = path};
	int r = 0;

	(void)setlocale(LC_CTYPE, "");
	ui_init(&s.ui, strcmp(nl_langinfo(CODESET), "UTF-8") == 0);
	r = look(&s);
	if (r < 0 || !s.has_model) {
		(void)snprintf(why, cap, "%s", s.trouble);
		return -1;
	}
	catch_signals(&s);
	r = open_terminal(&s, why, cap);
	if (r == 0) {
		r = serve(&s);
		if (r < 0)
			(void)snprintf(why, cap, "%s", s.trouble);
		close_terminal(&s);
	}
	if (s.has_model)
		model_wipe(&s.model);
	if (ended_by != 0 && ended_by != SIGINT) {
		(void)signal(ended_by, SIG_DFL);
		(void)sigprocmask(SIG_SETMASK, &s.while_waiting, NULL);
		(void)raise(ended_by);
	}
	return r;
}
