/* The broker's jail: entered when it has its sockets and ids, before its first thread. */
#ifndef CACHEBROKERD_JAIL_H
#define CACHEBROKERD_JAIL_H

/* No rights of root, new privileges or dumps; files are written in the directories of these two
 * only (Landlock); no system call but those of jail/make_filter.c, another one ends the process.
 * 0 or -errno: the process must not go on. */
int jail_enter_broker(const char *stat_filename, const char *protocol_log);

#endif
