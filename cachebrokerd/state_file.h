/* The state file judged from outside, before LMDB maps it: LMDB trusts what it maps. Inside this
 * module only. */
#ifndef CACHEBROKERD_STATE_FILE_H
#define CACHEBROKERD_STATE_FILE_H

#include <stdbool.h>
#include <stddef.h>

enum state_file_kind {
	STATE_FILE_NONE,    /* absent or empty: LMDB makes it */
	STATE_FILE_LMDB,    /* some LMDB file */
	STATE_FILE_EXPIRED, /* ours, and last written before this boot: do not map it */
	STATE_FILE_OLD,	    /* 72 bytes: up-imapproxy's statistics */
};

/* Errors of this module, apart from -errno. */
enum { STATE_FILE_FOREIGN = -20001 };

/* Says what the file is. Returns 0, -errno, or STATE_FILE_FOREIGN for anything else than the kinds
 * above. */
int state_file_judge(const char *path, enum state_file_kind *ret);

/* Is it an LMDB file with our map size: one that may be thrown away when it turns out to be
 * damaged? */
int state_file_is_ours(const char *path);

/* Renames an old file to PATH.old. *ret_again: there was one before, which is gone. Returns 0; 1
 * when it could only be emptied; -errno. */
int state_file_keep_old(const char *path, bool *ret_again);

/* Removes the file and its lock file. Returns 0 or -errno, as in a folder that cannot be written.
 */
int state_file_remove(const char *path);

/* Empties the file. Returns 0 or -errno. */
int state_file_empty(const char *path);

/* Puts the lock file's name into text. Returns 0 or -ENAMETOOLONG. */
int state_file_lock_name(const char *path, char *text, size_t cap);

/* This boot's id, NUL-terminated; "unknown" where the kernel does not tell. */
void state_file_boot_id(char *text, size_t cap);

#endif
