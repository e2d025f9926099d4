/* The configuration file's text in memory: children that run as nobody read a file that only root
 * may. */
#ifndef IMAPPROXYD_CONFIGTEXT_H
#define IMAPPROXYD_CONFIGTEXT_H

/* Copies the file into memory. Returns a descriptor (close-on-exec, the caller's) or -errno. */
int configtext_read(const char *path);

/* Replaces text's bytes with those of fresh; those who hold a reader see them. 0 or -errno. */
int configtext_replace(int text, int fresh);

/* A descriptor of the same text that can only be read. Returns it (close-on-exec, the caller's) or
 * -errno. */
int configtext_reader(int text);

#endif
