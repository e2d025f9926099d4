/* A memfd holds the text, mode 0600, so that its readers cannot open it again for writing.
 *
 * On a reload the bytes are replaced in place. A child that starts in that very moment may read a
 * mixture; it is then told by SIGHUP to read again.
 */
#include "imapproxyd/configtext.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "lib/fd.h"

#define TEXT_MAX (1 << 20)

static int write_at(int to, const char *bytes, size_t n, off_t offset)
{
	while (n > 0) {
		ssize_t wrote = pwrite(to, bytes, n, offset);

		if (wrote < 0 && errno == EINTR)
			continue;
		if (wrote < 0)
			return -errno;
		bytes += wrote;
		offset += wrote;
		n -= (size_t)wrote;
	}
	return 0;
}

/* read(), not pread(): the file may be a pipe. Returns the length or -errno. */
static off_t copy_all(int from, int to)
{
	char bytes[8192];
	off_t length = 0;

	for (;;) {
		ssize_t n = read(from, bytes, sizeof(bytes));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : length;
		if (length + n > TEXT_MAX)
			return -EFBIG;
		int r = write_at(to, bytes, (size_t)n, length);

		if (r < 0)
			return r;
		length += n;
	}
}

int configtext_read(const char *path, bool at_start)
{
	AUTO_FD file = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | (at_start ? 0 : O_NONBLOCK));

	if (file < 0)
		return -errno;
	AUTO_FD text = memfd_create("imapproxy.conf", MFD_CLOEXEC);

	if (text < 0 || fchmod(text, 0600) < 0)
		return -errno;
	off_t length = copy_all(file, text);

	return length < 0 ? (int)length : take_fd(&text);
}

int configtext_replace(int text, int fresh)
{
	if (lseek(fresh, 0, SEEK_SET) < 0)
		return -errno;
	off_t length = copy_all(fresh, text);

	/* Cut last: the text must never look empty. */
	if (length >= 0 && ftruncate(text, length) < 0)
		return -errno;
	return length < 0 ? (int)length : 0;
}

int configtext_reader(int text)
{
	char path[32];

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", text);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}
