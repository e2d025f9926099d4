/* Files that must exist before the ids are dropped: state, log and pid file. */
#ifndef IMAPPROXYD_FILES_H
#define IMAPPROXYD_FILES_H

#include "imapproxyd/settings.h"

/* Makes the state file and its lock file, owned by the identity, or hands existing ones over to it.
 * What cannot be done is one warning: mail goes on without statistics. */
void files_make_state(const char *path, const struct identity *owner);

/* Makes the protocol log, mode 0600, or hands an existing one of ours over to the identity, if that
 * is not our own. What cannot be done is one warning: mail goes on, nobody can be traced. */
void files_make_protocol_log(const char *path, const struct identity *owner);

/* Makes chroot_directory, and what is missing above it, for root alone to write to. Done or not, it
 * is reported; one that is there is left as it is. Returns 0 or -errno. */
int files_make_chroot(const struct settings *s);

/* Opens the log file for appending. Problems are reported. Returns the descriptor (close-on-exec,
 * the caller's) or -errno. */
int files_open_log(const char *path);

/* Writes this process's id into the pid file and locks it, or refuses when a living instance holds
 * it. Problems are reported. Returns the descriptor, which is the lock, or -errno. */
int files_lock_pid(const char *path);

/* Removes the pid file and lets its lock go. fd < 0: there was none. */
void files_remove_pid(const char *path, int fd);

#endif
