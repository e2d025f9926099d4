/* The configuration file's text in memory: children that run as nobody read a file that only root
 * may. */
#ifndef IMAPPROXYD_CONFIGTEXT_H
#define IMAPPROXYD_CONFIGTEXT_H

#include <stdbool.h>

/* Copies the file into memory; at the start that may be a pipe, and is waited for. Returns a
 * descriptor (close-on-exec, the caller's) or -errno. */
int configtext_read(const char *path, bool at_start);

/* Replaces text's bytes with those of fresh; those who hold a reader see them. 0 or -errno. */
int configtext_replace(int text, int fresh);

/* A descriptor of the same text that can only be read. Returns it (close-on-exec, the caller's) or
 * -errno. */
int configtext_reader(int text);

#endif
