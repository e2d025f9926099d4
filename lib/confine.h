/* What a process gives up when it has what it needs: rights of its own first, then files, then
 * system calls. A sanitizer build keeps what its run-time needs: only the rights and the dumps go.
 */
#ifndef LIB_CONFINE_H
#define LIB_CONFINE_H

#include <stddef.h>
#include <stdint.h>

struct sock_filter;

/* No dumps of this process's memory, and nobody's look inside. A change of ids undoes it. 0 or
 * -errno. */
int confine_dumps(void);

/* No capabilities but those of this mask (1 << CAP_x), and of them only what is there; no new
 * privileges; no dumps, as above. 0 or -errno: the process must not go on. */
int confine_rights(uint64_t kept);

/* No program can be executed any more and no file be made, removed or opened for writing, but in
 * the directories of these files: where the path leads now and, if it is a link, where that lies;
 * of a device only that itself is written to.
 * A directory that is not there yet is none of them. Needs confine_rights() before. 0 or -errno; a
 * kernel without Landlock, or a container that refuses it, allows all that the filter does. */
int confine_writes(const char *const *files, size_t count);

/* No file at all can be opened or looked for in a directory, besides. */
int confine_files(void);

/* No process and no thread can be made, but by root. 0 or -errno. */
int confine_processes(void);

/* Installs a filter for this thread and those that it makes. 0 or -errno. */
int confine_calls(const struct sock_filter *steps, size_t count);

#endif
