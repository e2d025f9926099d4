/* The protocol log's file. Everything here may take as long as the disk likes. */
#ifndef CACHEBROKERD_PROTOCOL_FILE_H
#define CACHEBROKERD_PROTOCOL_FILE_H

#include "lib/span.h"

/* Opens it for appending, makes it if it is not there, with mode 0600. Only a plain file of this
 * user with one name will do, no link; or /dev/null. Returns the descriptor (the caller's) or
 * -errno. */
int protocol_file_open(const char *path);

/* Appends a whole record or nothing. -EOVERFLOW: the file would be longer than `most` bytes (0: no
 * bound). 0 or -errno. */
int protocol_file_append(int fd, struct span record, uint32_t most);

/* Empties it. 0 or -errno. */
int protocol_file_clear(int fd);

#endif
