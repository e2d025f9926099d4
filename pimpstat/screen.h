/* The terminal: the only place that knows curses. */
#ifndef PIMPSTAT_SCREEN_H
#define PIMPSTAT_SCREEN_H

#include <stddef.h>

/* Shows the state file at `path` until the person has enough of it. Returns 0; or -1 with one
 * sentence in why when the terminal or, at the start, the file cannot be used. A signal that ends
 * it is raised again once the terminal is as it was; SIGINT is a way to say enough. */
int screen_run(const char *path, char *why, size_t cap);

#endif
