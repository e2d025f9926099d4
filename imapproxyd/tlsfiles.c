/* Keys pass through the kernel alone (sendfile(2)): none of their bytes is ever in this process,
 * which lives long and whose children are copies of it.
 *
 * The archive is a memfd, mode 0600, as configtext.c's; what stands there of its readers is true
 * here, too: one that reads while it is replaced is told to read again.
 */
#include "imapproxyd/tlsfiles.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "imapproxyd/report.h"
#include "lib/fd.h"
#include "lib/tls_files.h"

#define FILES_MAX   64
#define ARCHIVE_MAX (8 << 20)

/* Appends all that is left of from, at most `most` bytes. Returns the length or -errno. */
static ssize_t pass(int from, int to, size_t most)
{
	size_t length = 0;

	for (;;) {
		ssize_t n = sendfile(to, from, NULL, most + 1 - length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : (ssize_t)length;
		length += (size_t)n;
		if (length > most)
			return -EFBIG;
	}
}

static int put(int to, const void *bytes, size_t n, off_t offset)
{
	ssize_t wrote = pwrite(to, bytes, n, offset);

	if (wrote < 0)
		return -errno;
	return (size_t)wrote == n ? 0 : -EIO;
}

/* Its length is known only when it has been read, so its head is written last. */
static int append(int archive, const struct tls_file *file, int from)
{
	off_t begin = lseek(archive, 0, SEEK_CUR);
	uint32_t head[2] = { (uint32_t)file->path.n, 0 };
	off_t data = begin + (off_t)(sizeof(head) + file->path.n);
	int r = put(archive, file->path.p, file->path.n, begin + (off_t)sizeof(head));

	if (r < 0)
		return r;
	if (data > ARCHIVE_MAX || lseek(archive, data, SEEK_SET) < 0)
		return -EFBIG;
	ssize_t length = pass(from, archive, TLS_FILE_MAX);

	if (length < 0)
		return (int)length;
	head[1] = (uint32_t)length;
	return put(archive, head, sizeof(head), begin);
}

static bool is_copied(const struct config *c, size_t i, const struct tls_file *file)
{
	struct tls_file before;

	for (size_t k = 0; k < i && tls_files_at(c, k, &before); k++)
		if (span_eq(before.path, file->path))
			return true;
	return false;
}

static int copy_file(const struct config *c, const char *name, size_t i,
		     const struct tls_file *file, int archive)
{
	const char *why;

	if (file->directory || is_copied(c, i, file))
		return 0;
	AUTO_FD from = tls_files_open(file, &why);
	int r = from < 0 ? -EINVAL : append(archive, file, from);

	if (r < 0)
		report(LOG_ERR, "%s:%u: %s: %.*s cannot be copied: %s", name,
		       config_line_of(c, file->key), file->key, (int)file->path.n, file->path.p,
		       from < 0 ? why : strerror(-r));
	return r;
}

int tlsfiles_copy(const struct config *c, const char *name)
{
	AUTO_FD archive = memfd_create("tls-files", MFD_CLOEXEC);
	struct tls_file file;
	int r = 0;

	if (archive < 0 || fchmod(archive, 0600) < 0) {
		r = -errno;
		report(LOG_ERR, "certificates and keys cannot be copied: %s", strerror(-r));
	}
	for (size_t i = 0; r == 0 && tls_files_at(c, i, &file); i++)
		r = i < FILES_MAX ? copy_file(c, name, i, &file, archive) : -E2BIG;
	if (r == -E2BIG)
		report(LOG_ERR, "%s:%u: %s: more than %d files", name,
		       config_line_of(c, file.key), file.key, FILES_MAX);
	return r < 0 ? r : take_fd(&archive);
}

int tlsfiles_replace(int archive, int fresh)
{
	if (lseek(fresh, 0, SEEK_SET) < 0 || lseek(archive, 0, SEEK_SET) < 0)
		return -errno;
	ssize_t length = pass(fresh, archive, 2 * ARCHIVE_MAX);

	/* Cut last: it must never look empty. */
	if (length >= 0 && ftruncate(archive, length) < 0)
		return -errno;
	return length < 0 ? (int)length : 0;
}
