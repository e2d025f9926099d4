/* proxyd as a tool: checks and prints configurations. */
#ifndef PROXYD_SETTINGS_H
#define PROXYD_SETTINGS_H

#include <stdbool.h>

/* Reads the file; every problem goes to standard error. With `check` warnings are errors, too. With
 * `print` the effective settings go to standard output. Returns the exit status. */
int settings_tool(const char *path, bool check, bool print);

#endif
