/* lmdb: the compiled table that lookupd --import makes. A million accounts cost no memory of ours:
 * the file is mapped. It is opened without a lock file, since a file that is there is never
 * changed; once a second it is looked whether another one has taken its place.
 *
 * Trap: who cuts the file off in its place, or copies another one over it, takes pages away that
 * are mapped, and reading one is SIGBUS. So before each question it is asked whether the file is as
 * it was when it was opened. What is cut off between that and the end of the question, some
 * microseconds, kills the worker; the next one finds the file as it is then.
 */
#include <errno.h>
#include <lmdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lookupd/accountsdb.h"
#include "lookupd/drivers.h"

#define LOOK_MS 1000

struct table {
	char *path;
	MDB_env *env; /* NULL: not open */
	MDB_dbi dbi;
	dev_t device;
	ino_t inode;
	off_t size;
	struct timespec changed;
	int64_t look_at; /* monotonic ms */
};

static void close_env(struct table *t)
{
	if (t->env)
		mdb_env_close(t->env);
	t->env = NULL;
}

/* One record. 0, MDB_NOTFOUND or another error. *ret lives until the transaction ends. */
static int get(MDB_txn *txn, MDB_dbi dbi, const char *name, size_t n, MDB_val *ret)
{
	MDB_val key = { n, (void *)(uintptr_t)name };

	return mdb_get(txn, dbi, &key, ret);
}

/* A file that was cut off would kill whoever reads behind its end. */
static int check_size(MDB_env *env, const struct stat *st)
{
	MDB_envinfo info;
	MDB_stat stat_of;
	int r = mdb_env_info(env, &info);

	if (r == 0)
		r = mdb_env_stat(env, &stat_of);
	if (r != 0)
		return r;
	return ((uint64_t)info.me_last_pgno + 1) * stat_of.ms_psize <= (uint64_t)st->st_size
		       ? 0
		       : MDB_CORRUPTED;
}

static int check_mark(struct table *t, MDB_env *env)
{
	MDB_txn *txn;
	MDB_val value;
	int r = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn);

	if (r != 0)
		return r;
	(void)((r = mdb_dbi_open(txn, NULL, 0, &t->dbi)) ||
	       (r = get(txn, t->dbi, ACCOUNTSDB_MARK, sizeof(ACCOUNTSDB_MARK) - 1, &value)));
	/* A dbi that was opened in a transaction is good only when that is committed. */
	return r == 0 ? mdb_txn_commit(txn) : (mdb_txn_abort(txn), r);
}

/* Opens the file that is there now; the one before stays when that fails. */
static int open_env(struct table *t, const struct stat *st, struct why *why)
{
	struct table fresh = *t;
	int r = mdb_env_create(&fresh.env);

	if (r == 0) {
		(void)((r = mdb_env_open(fresh.env, t->path, MDB_NOSUBDIR | MDB_NOLOCK | MDB_RDONLY,
					 0)) ||
		       (r = check_size(fresh.env, st)) || (r = check_mark(&fresh, fresh.env)));
		if (r != 0)
			close_env(&fresh);
	}
	if (r != 0) {
		why_say(why, "%s: %s", t->path,
			r < 0 || st->st_size == 0 ? "is no table that lookupd --import has made"
						  : strerror(r));
		return -EINVAL;
	}
	close_env(t);
	*t = fresh;
	t->device = st->st_dev;
	t->inode = st->st_ino;
	t->size = st->st_size;
	t->changed = st->st_mtim;
	return 0;
}

/* Is the open file still what it was? */
static bool is_intact(const struct table *t)
{
	struct stat st;
	int fd;

	return mdb_env_get_fd(t->env, &fd) == 0 && fstat(fd, &st) == 0 && st.st_size == t->size &&
	       st.st_mtim.tv_sec == t->changed.tv_sec && st.st_mtim.tv_nsec == t->changed.tv_nsec;
}

static int refresh(struct table *t, struct why *why)
{
	struct stat st;
	int r = 0;

	if (t->env && !is_intact(t)) {
		log_printf(LOG_WARNING,
			   "%s was changed in its place: only lookupd --import, or a rename, may "
			   "put another table there",
			   t->path);
		close_env(t);
	}
	if (t->env && clock_ms() < t->look_at)
		return 0;
	t->look_at = clock_ms() + LOOK_MS;
	if (stat(t->path, &st) < 0) {
		r = -errno;
		why_say(why, "%s: %s", t->path, strerror(-r));
	} else if (st.st_mode & S_IROTH) {
		r = -EPERM;
		why_say(why, "%s: everybody may read it (chmod o-r)", t->path);
	} else if (!t->env || st.st_dev != t->device || st.st_ino != t->inode) {
		r = open_env(t, &st, why);
	}
	return t->env ? 0 : r; /* what is open is as good as it was */
}

static void close_lmdb(void *source)
{
	struct table *t = source;

	close_env(t);
	free(t->path);
	free(t);
}

static int open_lmdb(const char *place, const struct config *c, void **ret, struct why *why)
{
	struct table *t = calloc(1, sizeof(*t));
	int r = -ENOMEM;

	(void)c;
	if (t)
		t->path = strdup(place);
	if (!t || !t->path)
		why_say(why, "out of memory");
	else
		r = refresh(t, why);
	if (r < 0 && t)
		close_lmdb(t);
	if (r == 0)
		*ret = t;
	return r;
}

/* An account whose services have hashes of their own has a line for each. */
static int set_own_hash(struct account *a, struct span lines, const char *service)
{
	while (lines.n > 0) {
		struct span line = span_word(&lines, '\n');

		if (!span_istarts(line, SPAN(ACCOUNTSDB_HASH_OF)))
			continue;
		line = span_from(line, sizeof(ACCOUNTSDB_HASH_OF) - 1);
		const size_t n = strlen(service);

		if (line.n > n && memcmp(line.p, service, n) == 0 && line.p[n] == '=')
			return account_set_hash(a, span_from(line, n + 1));
	}
	return 0;
}

static enum found read_record(const MDB_val *value, const char *service, struct account *ret,
			      struct why *why)
{
	const struct span lines = { value->mv_data, value->mv_size };

	if (account_set_lines(ret, lines) == 0 && set_own_hash(ret, lines, service) == 0)
		return FOUND;
	why_say(why, "the account's record is wrong");
	return FOUND_TROUBLE;
}

static enum found find_lmdb(void *source, const struct driver_question *q, struct account *ret,
			    struct why *why)
{
	struct table *t = source;
	char name[1 + ACCOUNTSDB_NAME_MAX] = { ACCOUNTSDB_PREFIX };
	enum found found = FOUND_NOT;
	MDB_txn *txn;
	MDB_val value;
	int r;

	if (q->user.n > ACCOUNTSDB_NAME_MAX)
		return FOUND_NOT;
	if (refresh(t, why) < 0)
		return FOUND_DOWN;
	memcpy(name + 1, q->user.p, q->user.n);
	r = mdb_txn_begin(t->env, NULL, MDB_RDONLY, &txn);
	if (r == 0) {
		r = get(txn, t->dbi, name, q->user.n + 1, &value);
		if (r == 0)
			found = read_record(&value, q->service, ret, why);
		mdb_txn_abort(txn);
	}
	if (r == 0 || r == MDB_NOTFOUND)
		return found;
	why_say(why, "%s: %s", t->path, mdb_strerror(r));
	return FOUND_DOWN;
}

const struct driver driver_lmdb = { "lmdb", open_lmdb, find_lmdb, close_lmdb };
