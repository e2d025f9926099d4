/* One directory that only its owner can write to, so that what is bound in it cannot be replaced by
 * others.
 *
 * A directory that others can write to is refused, never repaired: run_directory /tmp must not
 * change the mode of /tmp. The lock file stays when the program ends, since removing a locked file
 * is a race.
 */
#include "imapproxyd/rundir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "imapproxyd/report.h"
#include "lib/fd.h"

#define BACKLOG	  4096
#define LOCK_NAME "lock"

static int fail(const char *path, const char *what, int error)
{
	report(LOG_ERR, "run directory %s: %s: %s", path, what, strerror(error));
	return -error;
}

/* Is it ours alone to write to? As root others must be able to go through it. */
static const char *judge(const struct stat *st)
{
	if (st->st_uid != geteuid())
		return "belongs to another user";
	if (st->st_mode & (S_IWGRP | S_IWOTH))
		return "others can write to it";
	if (geteuid() == 0 && !(st->st_mode & S_IXOTH))
		return "proc_username cannot go through it (mode 0755 is right)";
	return NULL;
}

static int open_directory(const char *path)
{
	struct stat st;
	mode_t mode = geteuid() == 0 ? 0755 : 0700;
	mode_t mask = umask(0);
	int made = mkdir(path, mode);
	int error = errno;

	umask(mask);
	if (made < 0 && error != EEXIST)
		return fail(path, "cannot be made", error);
	AUTO_FD fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0)
		return fail(path, "cannot be used", errno);
	const char *problem = judge(&st);

	if (problem) {
		report(LOG_ERR,
		       "run directory %s: %s; give a directory of its own as run_directory", path,
		       problem);
		return -EPERM;
	}
	return take_fd(&fd);
}

int rundir_open(struct rundir *d, const char *path)
{
	AUTO_FD directory = open_directory(path);

	if (directory < 0)
		return directory;
	AUTO_FD lock =
		openat(directory, LOCK_NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (lock < 0)
		return fail(path, "the file lock cannot be opened", errno);
	if (flock(lock, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK)
			return fail(path, "cannot be locked", errno);
		report(LOG_ERR,
		       "already running with run directory %s; end that instance, or give this one "
		       "another run_directory",
		       path);
		return -EBUSY;
	}
	*d = (struct rundir){ path, take_fd(&directory), take_fd(&lock) };
	return 0;
}

static int remove_stale(const struct rundir *d, const char *name)
{
	struct stat st;

	if (fstatat(d->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -ENOTSOCK;
	return unlinkat(d->fd, name, 0) < 0 ? -errno : 0;
}

static int bind_private(int fd, const struct sockaddr_un *address)
{
	mode_t mask = umask(0177);
	int r = bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;

	umask(mask);
	return r;
}

/* Returns the descriptor or -errno. */
static int bind_socket(const struct rundir *d, const char *name, int type, mode_t mode,
		       const struct identity *owner)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int n = snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", d->path, name);
	int r = n < 0 || (size_t)n >= sizeof(address.sun_path) ? -ENAMETOOLONG
							       : remove_stale(d, name);

	if (r < 0)
		return r;
	AUTO_FD fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	r = bind_private(fd, &address);
	if (r < 0)
		return r;
	if (owner->drop && fchownat(d->fd, name, owner->uid, owner->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	/* Nobody but us can write to the directory, so the name is still our socket. */
	if (fchmodat(d->fd, name, mode, 0) < 0)
		return -errno;
	if (type != SOCK_DGRAM && listen(fd, BACKLOG) < 0)
		return -errno;
	return take_fd(&fd);
}

int rundir_bind(const struct rundir *d, const char *name, int type, mode_t mode,
		const struct identity *owner)
{
	int fd = bind_socket(d, name, type, mode, owner);

	if (fd < 0)
		report(LOG_ERR, "cannot listen on %s/%s: %s", d->path, name, strerror(-fd));
	return fd;
}

bool rundir_has(const struct rundir *d, const char *name)
{
	struct stat st;

	return fstatat(d->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(st.st_mode);
}

void rundir_unlink(const struct rundir *d, const char *name)
{
	(void)remove_stale(d, name);
}

void rundir_close(struct rundir *d)
{
	fd_drop(&d->fd);
	fd_drop(&d->lock);
}
