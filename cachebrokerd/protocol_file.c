/* The protocol log's file.
 *
 * It may lie where others can make files (/tmp, /var/log of a careless site): a link planted there,
 * or somebody else's file, is never written to. A record that found no room on the disk is taken
 * back, so that no line is torn.
 */
#include "cachebrokerd/protocol_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "lib/fd.h"

#define FLAGS	 (O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK)
#define MODE	 0600
#define DEV_NULL makedev(1, 3)

static int make_private(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISCHR(st.st_mode) && st.st_rdev == DEV_NULL)
		return 0;
	if (!S_ISREG(st.st_mode) || st.st_nlink != 1)
		return -EMLINK;
	return fchmod(fd, MODE) < 0 ? -errno : 0; /* only its owner can: -EPERM */
}

int protocol_file_open(const char *path)
{
	int flags = FLAGS; /* close-on-exec among them */
	AUTO_FD fd = open(path, flags);

	if (fd < 0 && errno == ENOENT)
		fd = open(path, flags | O_CREAT | O_EXCL, MODE);
	if (fd < 0)
		return -errno;
	int r = make_private(fd);

	return r < 0 ? r : take_fd(&fd);
}

int protocol_file_append(int fd, struct span record, uint32_t most)
{
	struct stat st;
	ssize_t n = 0;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (most > 0 && st.st_size + (off_t)record.n > (off_t)most)
		return -EOVERFLOW; /* EFBIG is RLIMIT_FSIZE */
	while (record.n > 0 && (n = write(fd, record.p, record.n)) > 0)
		record = span_from(record, (size_t)n);
	if (record.n == 0)
		return 0;
	int error = n < 0 ? -errno : -ENOSPC;

	(void)!ftruncate(fd, st.st_size); /* the first error is the one to tell */
	return error;
}

int protocol_file_clear(int fd)
{
	return ftruncate(fd, 0) < 0 ? -errno : 0;
}
