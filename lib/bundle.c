/* Reading the archive of root's files, and a file of that kind itself.
 *
 * What is read may be a key: it is never in memory twice, and every way out overwrites it. pread(2)
 * leaves the descriptor's offset alone, which its writer shares.
 */
#include "lib/bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/fd.h"

#define PATH_LONGEST 4096

struct entry {
	uint32_t path_length;
	uint32_t data_length;
};

/* Returns n, 0 at the end, or -EBADMSG when the file ends in between. */
static ssize_t read_at(int fd, void *to, size_t n, off_t at)
{
	size_t have = 0;

	while (have < n) {
		ssize_t r = pread(fd, (char *)to + have, n - have, at + (off_t)have);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		if (r == 0)
			return have == 0 ? 0 : -EBADMSG;
		have += (size_t)r;
	}
	return (ssize_t)n;
}

static int read_data(int fd, off_t at, size_t length, char **ret_data, size_t *ret_length)
{
	char *data = malloc(length + 1);

	if (!data)
		return -ENOMEM;
	ssize_t n = length > 0 ? read_at(fd, data, length, at) : 0;

	if (n != (ssize_t)length) {
		bundle_wipe(data, length);
		return n < 0 ? (int)n : -EBADMSG;
	}
	data[length] = '\0';
	*ret_data = data;
	*ret_length = length;
	return 0;
}

int bundle_find(int fd, const char *path, char **ret_data, size_t *ret_length)
{
	const size_t wanted = strlen(path);
	char name[PATH_LONGEST];
	struct entry e;
	off_t at = 0;

	while (fd >= 0) {
		ssize_t n = read_at(fd, &e, sizeof(e), at);

		if (n <= 0)
			return n < 0 ? (int)n : -ENOENT;
		if (e.path_length > sizeof(name) || e.data_length > BUNDLE_DATA_MAX)
			return -EBADMSG;
		at += (off_t)sizeof(e);
		n = read_at(fd, name, e.path_length, at);
		if (n != (ssize_t)e.path_length)
			return n < 0 ? (int)n : -EBADMSG;
		at += (off_t)e.path_length;
		if (e.path_length == wanted && memcmp(name, path, wanted) == 0)
			return read_data(fd, at, e.data_length, ret_data, ret_length);
		at += (off_t)e.data_length;
	}
	return -ENOENT;
}

int bundle_read_file(const char *path, char **ret_data, size_t *ret_length)
{
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat status;

	if (fd < 0 || fstat(fd, &status) < 0)
		return -errno;
	if (!S_ISREG(status.st_mode))
		return S_ISDIR(status.st_mode) ? -EISDIR : -EINVAL;
	if (status.st_size > BUNDLE_DATA_MAX)
		return -EFBIG;
	return read_data(fd, 0, (size_t)status.st_size, ret_data, ret_length);
}

void bundle_wipe(char *data, size_t length)
{
	if (data)
		explicit_bzero(data, length);
	free(data);
}
