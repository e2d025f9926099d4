/* Has a file, or a folder with all that is in it, changed? */
#ifndef LOOKUPD_FILEWATCH_H
#define LOOKUPD_FILEWATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "lookupd/driver.h"

/* What was seen of it: a digest of names, sizes, times and inodes, and its newest time. */
struct filewatch {
	uint64_t digest;
	int64_t newest; /* wall clock, ms */
	size_t files;
};

/* Told about each file. 0, or -errno, which ends the walk. */
typedef int filewatch_fn(void *context, const char *path);

/* Looks at path: one file, or all files of a folder and of those in it whose names do not begin
 * with a dot, in the names' order. 0, or -errno and *why. `each` may be NULL. Files that everybody
 * may read are refused: there are passwords in them. */
int filewatch_look(const char *path, struct filewatch *ret, filewatch_fn *each, void *context,
		   struct why *why);

/* May it be read now? Not within a second of its last change: somebody may still be writing. */
bool filewatch_is_still(const struct filewatch *w);

#endif
