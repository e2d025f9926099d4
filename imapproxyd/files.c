/* Files made as root for others to use.
 *
 * Their directories may belong to somebody else, so nothing is followed or handed over that is not
 * a plain file with one name: a link planted there would otherwise give a file of root's away.
 */
#include "imapproxyd/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "imapproxyd/report.h"
#include "lib/fd.h"

#define OPEN_FLAGS	    (O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
#define OLD_STATISTICS_SIZE 72

/* An existing file or a new one. Not O_CREAT alone: in /tmp the kernel refuses that for a file of
 * another user. Returns the descriptor or -errno. */
static int open_or_make(const char *path, mode_t mode)
{
	int fd = open(path, OPEN_FLAGS);

	if (fd < 0 && errno == ENOENT)
		fd = open(path, OPEN_FLAGS | O_CREAT | O_EXCL, mode);
	return fd < 0 ? -errno : fd;
}

/* up-imapproxy's statistics of 72 bytes lie where ours shall be: kept as PATH.old. Returns 0 or
 * -errno. */
static int move_old_away(const char *path)
{
	char old[PATH_MAX];
	struct stat st;

	if (lstat(path, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size != OLD_STATISTICS_SIZE)
		return 0;
	int n = snprintf(old, sizeof(old), "%s.old", path);

	if (n < 0 || (size_t)n >= sizeof(old))
		return -ENAMETOOLONG;
	bool again = lstat(old, &st) == 0;

	if (rename(path, old) < 0)
		return -errno;
	report(LOG_NOTICE,
	       "stat_filename: the statistics of up-imapproxy that were there are %s now%s", old,
	       again ? ", in place of what had that name" : "");
	return 0;
}

/* What comes into a private file is for its owner alone: who made it may have it open still. */
static int make_file(const char *path, mode_t mode, const struct identity *owner, bool private)
{
	struct stat st;
	AUTO_FD fd = open_or_make(path, mode);

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_nlink != 1)
		return -EMLINK;
	if (!owner->drop)
		return 0;
	if (private && st.st_uid != owner->uid && st.st_uid != geteuid())
		return -EACCES;
	if (st.st_uid != owner->uid || st.st_gid != owner->gid)
		if (fchown(fd, owner->uid, owner->gid) < 0)
			return -errno;
	return fchmod(fd, mode) < 0 ? -errno : 0;
}

void files_make_state(const char *path, const struct identity *owner)
{
	char lock[PATH_MAX];
	int n = snprintf(lock, sizeof(lock), "%s-lock", path);
	int r = n < 0 || (size_t)n >= sizeof(lock) ? -ENAMETOOLONG : move_old_away(path);

	if (r == 0)
		r = make_file(path, 0640, owner, false);
	/* Readers write their places into the lock file, so the group may. */
	if (r == 0)
		r = make_file(lock, 0660, owner, false);
	if (r < 0)
		report(LOG_WARNING, "stat_filename: %s: %s; there will be no statistics", path,
		       r == -EMLINK ? "it is not a plain file with one name" : strerror(-r));
}

void files_make_protocol_log(const char *path, const struct identity *owner)
{
	struct stat st;

	/* /dev/null as the way to have none is left alone; an ordinary user's broker makes the file
	 * itself, when it is needed */
	if (!owner->drop || (stat(path, &st) == 0 && S_ISCHR(st.st_mode)))
		return;
	int r = make_file(path, 0600, owner, true);

	if (r < 0)
		report(LOG_WARNING, "protocol_log_filename: %s: %s; nobody can be traced", path,
		       r == -EMLINK   ? "it is not a plain file with one name"
		       : r == -EACCES ? "it belongs to another user"
				      : strerror(-r));
}

int files_make_chroot(const struct settings *s)
{
	const char *path = s->config.chroot_directory;
	char part[PATH_MAX];
	int n = snprintf(part, sizeof(part), "%s", path), error = 0;

	if (access(path, F_OK) == 0)
		return 0;
	if (n < 0 || (size_t)n >= sizeof(part))
		return -ENAMETOOLONG;
	mode_t mask = umask(022);

	for (char *slash = part; slash && error == 0;) {
		slash = strchr(slash + 1, '/');
		if (slash)
			*slash = '\0';
		if (mkdir(part, 0755) < 0 && errno != EEXIST)
			error = errno;
		if (slash)
			*slash = '/';
	}
	umask(mask);
	if (error == 0)
		report(LOG_NOTICE, "chroot_directory: %s was made", path);
	else
		report(LOG_ERR, "%s: chroot_directory: %s cannot be made: %s; make it yourself",
		       settings_place(s, "chroot_directory"), path, strerror(error));
	return -error;
}

int files_open_log(const char *path)
{
	int fd =
		open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0640);

	if (fd >= 0)
		return fd;
	int error = errno;

	report(LOG_ERR, "log_target: %s cannot be opened: %s", path, strerror(error));
	return -error;
}

static void report_holder(const char *path, int fd)
{
	char holder[16] = "";
	ssize_t n = pread(fd, holder, sizeof(holder) - 1, 0);

	if (n > 0)
		holder[strspn(holder, "0123456789")] = '\0';
	report(LOG_ERR,
	       "already running%s%s: it holds the pid file %s; end it, or give another with -p",
	       *holder ? " as process " : "", holder, path);
}

int files_lock_pid(const char *path)
{
	struct stat st;
	AUTO_FD fd = open_or_make(path, 0644);

	if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1)) {
		report(LOG_ERR, "pid file %s: it is not a plain file with one name", path);
		return -EMLINK;
	}
	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0) {
		report_holder(path, fd);
		return -EBUSY;
	}
	if (fd < 0 || fchmod(fd, 0644) < 0 || ftruncate(fd, 0) < 0 ||
	    dprintf(fd, "%d\n", getpid()) < 0) {
		int error = fd < 0 ? -fd : errno;

		report(LOG_ERR, "pid file %s cannot be written: %s", path, strerror(error));
		return -error;
	}
	return take_fd(&fd);
}

void files_remove_pid(const char *path, int fd)
{
	if (fd < 0)
		return;
	(void)unlink(path);
	close(fd);
}
