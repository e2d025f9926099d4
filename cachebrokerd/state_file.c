/* What lies at the state file's path, judged by hand.
 *
 * LMDB believes a file whose first page looks right, maps it and follows its page numbers: a file
 * cut short is SIGBUS, a torn one worse. The writer does not sync, so after a crash of the machine
 * the file may be torn; that is why one last written before this boot is never mapped. And whatever
 * is not surely ours is left alone: a mistyped stat_filename must not cost somebody a database.
 */
#include "cachebrokerd/state_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/statefile.h"

#define OLD_BYTES    72
#define BOOT_ID_PATH "/proc/sys/kernel/random/boot_id"
#define CLOCK_SLACK  60 /* seconds that the clock may have been set forward since the boot */
#define META_PAGES   2
#define LMDB_MAGIC   0xBEEFC0DEu
#define LMDB_VERSION 1u
#define PAGE_LEAST   512u
#define PAGE_MOST    65536u

/* The start of an LMDB 0.9 file: a page header of 16 bytes and the front of MDB_meta. */
struct meta_page {
	char page_header[16];
	uint32_t magic;
	uint32_t version;
	uint64_t address;
	uint64_t map_bytes;
	uint32_t page_bytes;
};

static int read_meta(const char *path, struct meta_page *ret)
{
	/* O_NONBLOCK: should it have become a FIFO, that must not hold the start up. */
	AUTO_FD fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	ssize_t n = fd < 0 ? -1 : pread(fd, ret, sizeof(*ret), 0);

	if (n < 0)
		return -errno;
	if (n != (ssize_t)sizeof(*ret) || ret->magic != LMDB_MAGIC ||
	    ret->version != LMDB_VERSION || ret->page_bytes < PAGE_LEAST ||
	    ret->page_bytes > PAGE_MOST)
		return STATE_FILE_FOREIGN;
	return 0;
}

static int64_t boot_time(void)
{
	struct timespec up;

	if (clock_gettime(CLOCK_BOOTTIME, &up) < 0)
		return 0;
	return clock_wall() - up.tv_sec;
}

static int judge_lmdb(const char *path, const struct stat *st, enum state_file_kind *ret)
{
	struct meta_page meta;
	int r = read_meta(path, &meta);

	if (r < 0)
		return r;
	if (st->st_size < (off_t)(META_PAGES * meta.page_bytes))
		return STATE_FILE_FOREIGN;
	*ret = STATE_FILE_LMDB;
	if (meta.map_bytes == STATEFILE_MAP_BYTES && st->st_mtime < boot_time() - CLOCK_SLACK)
		*ret = STATE_FILE_EXPIRED;
	return 0;
}

int state_file_judge(const char *path, enum state_file_kind *ret)
{
	struct stat st;

	*ret = STATE_FILE_NONE;
	if (stat(path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode))
		return STATE_FILE_FOREIGN;
	if (st.st_size == 0)
		return 0;
	if (st.st_size == OLD_BYTES) {
		*ret = STATE_FILE_OLD;
		return 0;
	}
	return judge_lmdb(path, &st, ret);
}

int state_file_is_ours(const char *path)
{
	struct meta_page meta;

	return read_meta(path, &meta) == 0 && meta.map_bytes == STATEFILE_MAP_BYTES;
}

/* path and a suffix; 0 or -ENAMETOOLONG. */
static int add_suffix(const char *path, const char *suffix, char *text, size_t cap)
{
	int n = snprintf(text, cap, "%s%s", path, suffix);

	return n < 0 || (size_t)n >= cap ? -ENAMETOOLONG : 0;
}

int state_file_lock_name(const char *path, char *text, size_t cap)
{
	return add_suffix(path, "-lock", text, cap);
}

int state_file_keep_old(const char *path, bool *ret_again)
{
	char kept[PATH_MAX];
	struct stat st;
	int r = add_suffix(path, ".old", kept, sizeof(kept));

	if (r < 0)
		return r;
	*ret_again = lstat(kept, &st) == 0;
	if (rename(path, kept) == 0)
		return 0;
	r = state_file_empty(path);
	return r < 0 ? r : 1;
}

int state_file_remove(const char *path)
{
	char lock[PATH_MAX];
	int r = state_file_lock_name(path, lock, sizeof(lock));

	if (r < 0)
		return r;
	if ((unlink(lock) < 0 && errno != ENOENT) || (unlink(path) < 0 && errno != ENOENT))
		return -errno;
	return 0;
}

int state_file_empty(const char *path)
{
	return truncate(path, 0) < 0 ? -errno : 0;
}

void state_file_boot_id(char *text, size_t cap)
{
	AUTO_FD fd = open(BOOT_ID_PATH, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, cap - 1);

	if (n <= 0) {
		(void)snprintf(text, cap, "unknown");
		return;
	}
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
}
