/* Writing the compiled table. It grows in a file of its own and becomes visible with one rename, so
 * that neither a reader nor a crash ever sees half of it. What is not committed in pieces needs
 * memory for every page that was touched: a million accounts would not fit.
 */
#include "lookupd/accountsdb.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/fd.h"

#define MAP_BYTES	((size_t)1 << 36) /* of addresses; the file grows as it must */
#define COMMIT_ACCOUNTS 20000
#define NAME_LENGTH	4096

struct accountsdb {
	char path[NAME_LENGTH], fresh[NAME_LENGTH];
	int lock; /* the new file itself */
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi dbi;
	uint64_t count;
};

static int say(struct why *why, const struct accountsdb *t, int r)
{
	why_say(why, "%s: %s", t->fresh, mdb_strerror(r));
	return r > 0 ? -r : -EIO;
}

/* The new file, locked, empty, and with the owner of the old one. */
static int make_file(struct accountsdb *t, int owner)
{
	struct stat old, ours, named;

	t->lock = open(t->fresh, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (t->lock < 0)
		return errno;
	if (flock(t->lock, LOCK_EX | LOCK_NB) < 0 || fstat(t->lock, &ours) < 0)
		return errno;
	/* whoever had the lock may have put this very file in its place meanwhile, or removed it */
	if (lstat(t->fresh, &named) < 0 || ours.st_ino != named.st_ino ||
	    ours.st_dev != named.st_dev)
		return EWOULDBLOCK;
	bool there = stat(t->path, &old) == 0;

	if (ftruncate(t->lock, 0) < 0 || (!there && fchmod(t->lock, 0600) < 0))
		return errno;
	if (there && (fchown(t->lock, old.st_uid, old.st_gid) < 0 ||
		      fchmod(t->lock, old.st_mode & 0660) < 0))
		return errno;
	if (!there && owner >= 0 && fchown(t->lock, (uid_t)owner, (gid_t)-1) < 0)
		return errno;
	return 0;
}

static int open_env(struct accountsdb *t)
{
	int r = mdb_env_create(&t->env);

	(void)(r || (r = mdb_env_set_mapsize(t->env, MAP_BYTES)) ||
	       (r = mdb_env_open(t->env, t->fresh, MDB_NOSUBDIR | MDB_NOLOCK | MDB_NOSYNC, 0600)) ||
	       (r = mdb_txn_begin(t->env, NULL, 0, &t->txn)) ||
	       (r = mdb_dbi_open(t->txn, NULL, 0, &t->dbi)));
	return r;
}

static void free_table(struct accountsdb *t)
{
	if (t->txn)
		mdb_txn_abort(t->txn);
	if (t->env)
		mdb_env_close(t->env);
	fd_drop(&t->lock);
	free(t);
}

int accountsdb_begin(const char *path, int owner, struct accountsdb **ret, struct why *why)
{
	struct accountsdb *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->lock = -1;
	(void)snprintf(t->path, sizeof(t->path), "%s", path);
	if ((size_t)snprintf(t->fresh, sizeof(t->fresh), "%s.new", path) >= sizeof(t->fresh)) {
		free_table(t);
		why_say(why, "the name is too long");
		return -ENAMETOOLONG;
	}
	int r = make_file(t, owner);

	if (r == 0)
		r = open_env(t);
	if (r != 0) {
		if (r == EWOULDBLOCK)
			why_say(why, "%s: somebody else writes it just now", t->fresh);
		r = r == EWOULDBLOCK ? -EBUSY : say(why, t, r);
		free_table(t);
		return r;
	}
	*ret = t;
	return 0;
}

static int commit(struct accountsdb *t)
{
	MDB_txn *txn = t->txn;

	t->txn = NULL;
	return mdb_txn_commit(txn);
}

int accountsdb_add(struct accountsdb *t, struct span name, struct span lines, struct why *why)
{
	char key_bytes[1 + ACCOUNTSDB_NAME_MAX] = { ACCOUNTSDB_PREFIX };
	MDB_val key = { name.n + 1, key_bytes };
	MDB_val value = { lines.n, (void *)(uintptr_t)lines.p };

	if (name.n == 0 || name.n > ACCOUNTSDB_NAME_MAX || lines.n > ACCOUNTSDB_RECORD_MAX) {
		why_say(why, "the name or the record is too long");
		return -EINVAL;
	}
	memcpy(key_bytes + 1, name.p, name.n);
	int r = mdb_put(t->txn, t->dbi, &key, &value, MDB_NOOVERWRITE);

	if (r == MDB_KEYEXIST) {
		why_say(why, "the account is there twice");
		return -EEXIST;
	}
	if (r == 0 && ++t->count % COMMIT_ACCOUNTS == 0 && (r = commit(t)) == 0)
		r = mdb_txn_begin(t->env, NULL, 0, &t->txn);
	return r == 0 ? 0 : say(why, t, r);
}

int accountsdb_finish(struct accountsdb *t, struct why *why)
{
	char mark[] = ACCOUNTSDB_MARK;
	MDB_val key = { sizeof(mark) - 1, mark };
	MDB_val value = { sizeof(t->count), &t->count };
	int r = mdb_put(t->txn, t->dbi, &key, &value, 0);

	(void)(r || (r = commit(t)) || (r = mdb_env_sync(t->env, 1)));
	if (r == 0 && rename(t->fresh, t->path) < 0)
		r = errno;
	if (r != 0) {
		r = say(why, t, r);
		accountsdb_abandon(t);
		return r;
	}
	free_table(t);
	return 0;
}

void accountsdb_abandon(struct accountsdb *t)
{
	if (!t)
		return;
	(void)unlink(t->fresh);
	free_table(t);
}
