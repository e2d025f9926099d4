/* The archive of files that only root may read: certificates and keys, brought along by whoever
 * started this process as another user. It is a descriptor that is written anew at each reload.
 *
 * It holds entries, one behind the other: the length of the path and of the data (32 bits each, in
 * the machine's own byte order), the path as the configuration writes it, the data.
 */
#ifndef LIB_BUNDLE_H
#define LIB_BUNDLE_H

#include <stddef.h>

/* The descriptor's name in LISTEN_FDNAMES. */
#define BUNDLE_NAME "tls-files"

/* Longest data of an entry; a longer one makes the archive a bad one. */
#define BUNDLE_DATA_MAX (4u << 20)

/* Looks for the path in the archive fd, from its start, wherever its offset is. Returns 0 and sets
 * *ret_data, of *ret_length bytes with a NUL behind them, which the caller ends with bundle_wipe();
 * -ENOENT when it is not there (or fd is -1), -EBADMSG for what is no such archive, other -errno.
 */
int bundle_find(int fd, const char *path, char **ret_data, size_t *ret_length);

/* The same from the file itself. -EFBIG for one longer than BUNDLE_DATA_MAX. */
int bundle_read_file(const char *path, char **ret_data, size_t *ret_length);

/* Overwrites and frees such data. NULL is allowed. */
void bundle_wipe(char *data, size_t length);

#endif
