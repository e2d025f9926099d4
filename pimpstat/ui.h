/* The screen without a terminal: which view is shown, what a key does, and the page that follows.
 * Pure: screen.c brings keys, figures and the size, and paints the page. */
#ifndef PIMPSTAT_UI_H
#define PIMPSTAT_UI_H

#include "pimpstat/view.h"

/* Keys that are no character; others are bytes. */
enum {
	UI_KEY_UP = 0x1000,
	UI_KEY_DOWN,
	UI_KEY_PAGE_UP,
	UI_KEY_PAGE_DOWN,
	UI_KEY_HOME,
	UI_KEY_END,
	UI_KEY_LEFT,
	UI_KEY_RIGHT,
	UI_KEY_BACK_TAB,
	UI_KEY_BACKSPACE,
};

struct ui {
	unsigned width, height;
	bool utf8;
	bool quit;
	bool help;
	bool typing; /* the filter */
	unsigned view;
	struct view_state states[VIEW_COUNT];
	struct view_state help_state;
	unsigned lines; /* of the view's body, as it was last drawn, and how many were seen */
	unsigned seen;
	size_t all; /* rows of its table before the filter */
};

void ui_init(struct ui *ui, bool utf8);

void ui_resize(struct ui *ui, unsigned width, unsigned height);

/* A key was pressed. */
void ui_press(struct ui *ui, int key);

/* The whole screen as a page, initialised here, for page_wipe(). m: the figures, with `trouble`
 * NULL; or NULL, and `trouble` is the sentence that says why there are none. now: seconds since
 * 1970. */
void ui_draw(struct ui *ui, const struct model *m, const char *trouble, int64_t now,
	     struct page *p);

#endif
