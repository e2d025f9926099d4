/* The state file in LMDB: open, judge from inside, commit.
 *
 * Not MDB_WRITEMAP: with it, a stray write of the broker's would land in the file, and the file
 * would be the size of the map. MDB_NOSYNC: the figures are worth nothing after a crash of the
 * machine.
 *
 * Whoever empties the file under us (`> pimpstats`) makes the next look at the map a SIGBUS, which
 * would take the broker and its cache along. So every call into LMDB runs under a guard that jumps
 * out of it; the environment is then abandoned as it is: never closed, because this thread may hold
 * its mutex, and glibc's list of robust mutexes would point into memory that is gone.
 */
#include "cachebrokerd/state_db.h"

#include <errno.h>
#include <limits.h>
#include <lmdb.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cachebrokerd/state_file.h"
#include "cachebrokerd/state_hosts.h"
#include "lib/clock.h"
#include "lib/span.h"

/* Errors of this file, beside -errno, LMDB's own and state_file.h's. */
enum { DAMAGED = -20011, OTHER_TIME = -20012 };

enum db {
	DB_META,
	DB_COUNTERS,
	DB_GAUGES,
	DB_PEAKS,
	DB_ENDS,
	DB_NOT_CACHED,
	DB_HISTORY,
	DB_HOSTS,
	DB_SESSIONS,
	DB_TRACE, /* behind the sessions: stays, whatever starts */
	DB_ORDERS,
	DB_COUNT
};

static const char *const db_names[DB_COUNT] = {
	[DB_META] = "meta",	    [DB_COUNTERS] = "counters", [DB_GAUGES] = "gauges",
	[DB_PEAKS] = "peaks",	    [DB_ENDS] = "ends",		[DB_NOT_CACHED] = "not_cached",
	[DB_HISTORY] = "history",   [DB_HOSTS] = "hosts",	[DB_SESSIONS] = "sessions",
	[DB_TRACE] = "trace",	    [DB_ORDERS] = "orders",
};

#define NAME(name, ...)	      #name,
#define WORD(name, word, ...) word,
static const char *const counter_names[] = { COUNTER_TABLE(NAME) };
static const char *const gauge_names[] = { GAUGE_TABLE(NAME) };
static const char *const end_words[] = { END_TABLE(WORD) };
static const char *const not_cached_words[] = { NOT_CACHED_TABLE(WORD) };
static const char *const history_names[] = { "logins" };

/* Where the members of struct state_numbers are kept. */
static const struct section {
	enum db db;
	const char *const *names;
	size_t count;
	size_t offset;
	size_t size;   /* of one value */
	bool survives; /* a broker's restart */
} sections[] = {
	{ DB_COUNTERS, counter_names, COUNTER_COUNT, offsetof(struct state_numbers, counters),
	  sizeof(uint64_t), true },
	{ DB_GAUGES, gauge_names, GAUGE_COUNT, offsetof(struct state_numbers, gauges),
	  sizeof(uint64_t), false },
	{ DB_PEAKS, gauge_names, GAUGE_COUNT, offsetof(struct state_numbers, peaks),
	  sizeof(struct statefile_peak), true },
	{ DB_ENDS, end_words, END_COUNT, offsetof(struct state_numbers, ends), sizeof(uint64_t),
	  true },
	{ DB_NOT_CACHED, not_cached_words, NOT_CACHED_COUNT,
	  offsetof(struct state_numbers, not_cached), sizeof(uint64_t), true },
	{ DB_HISTORY, history_names, 1, offsetof(struct state_numbers, history),
	  sizeof(struct statefile_history), true },
};
#define SECTION_COUNT (sizeof(sections) / sizeof(sections[0]))

struct state_db {
	MDB_env *env;
	MDB_dbi dbis[DB_COUNT];
	unsigned traces; /* the versions that are in the file */
	unsigned orders;
	bool abandoned;
};

/* The arguments of a call under guard. */
struct call {
	struct state_db *db;
	const char *path;
	struct state_numbers *loaded;
	struct state_host **hosts;
	const struct state_numbers *numbers;
	const struct state_row *rows;
	int64_t now;
	bool fresh;
	bool without_new_rows;
};

static _Thread_local sigjmp_buf *guard;

/* Abandoned environments, chained by their user contexts. */
static MDB_env *abandoned_envs;

static void jump_out(int number)
{
	if (guard)
		siglongjmp(*guard, 1);
	/* Not ours: happen again with the default action. */
	signal(number, SIG_DFL);
}

/* LMDB aborts when a page makes no sense to it; that is damage, too. */
static void jump_out_of_assert(MDB_env *env, const char *text)
{
	(void)env;
	(void)text;
	if (guard)
		siglongjmp(*guard, 1);
}

static void install_guard(void)
{
	struct sigaction action = { .sa_handler = jump_out };

	sigemptyset(&action.sa_mask);
	sigaction(SIGBUS, &action, NULL);
}

static int run_guarded(int (*work)(struct call *), struct call *c)
{
	sigjmp_buf here;

	if (c->db->abandoned)
		return DAMAGED;
	if (sigsetjmp(here, 1) != 0) {
		guard = NULL;
		c->db->abandoned = true;
		(void)mdb_env_set_userctx(c->db->env, abandoned_envs);
		abandoned_envs = c->db->env;
		return DAMAGED;
	}
	guard = &here;
	int r = work(c);

	guard = NULL;
	return r;
}

/* LMDB returns its own negative codes and positive errno. */
static int from_lmdb(int r)
{
	return r > 0 ? -r : r;
}

static MDB_val val(const void *bytes, size_t n)
{
	return (MDB_val){ n, (void *)(uintptr_t)bytes };
}

static int put(MDB_txn *txn, MDB_dbi dbi, const char *name, const void *bytes, size_t n)
{
	MDB_val key = val(name, strlen(name)), data = val(bytes, n);

	return mdb_put(txn, dbi, &key, &data, 0);
}

static int put_number_text(MDB_txn *txn, MDB_dbi dbi, const char *name, int64_t number)
{
	char text[24];
	int n = snprintf(text, sizeof(text), "%lld", (long long)number);

	return put(txn, dbi, name, text, (size_t)n);
}

static int put_numbers(MDB_txn *txn, const struct state_db *db, const struct state_numbers *numbers)
{
	int r = 0;

	for (size_t i = 0; i < SECTION_COUNT; i++) {
		const struct section *s = &sections[i];
		const char *from = (const char *)numbers + s->offset;

		for (size_t j = 0; r == 0 && j < s->count; j++)
			r = put(txn, db->dbis[s->db], s->names[j], from + j * s->size, s->size);
	}
	return r;
}

static int load_numbers(MDB_txn *txn, const struct state_db *db, struct state_numbers *numbers)
{
	int r = 0;

	for (size_t i = 0; i < SECTION_COUNT; i++) {
		const struct section *s = &sections[i];
		char *to = (char *)numbers + s->offset;

		for (size_t j = 0; s->survives && r == 0 && j < s->count; j++) {
			MDB_val key = val(s->names[j], strlen(s->names[j])), data;

			r = mdb_get(txn, db->dbis[s->db], &key, &data);
			if (r == 0 && data.mv_size == s->size)
				memcpy(to + j * s->size, data.mv_data, s->size);
			/* A row that is new in this version begins at zero. */
			r = r == MDB_NOTFOUND ? 0 : r;
		}
	}
	return r;
}

/* What the hosts have counted; who is connected to them is another start's affair. */
static int load_hosts(MDB_txn *txn, const struct state_db *db, struct state_host **hosts)
{
	MDB_val key, data;
	MDB_cursor *cursor;
	int r = mdb_cursor_open(txn, db->dbis[DB_HOSTS], &cursor);

	if (r != 0)
		return r;
	while ((r = mdb_cursor_get(cursor, &key, &data, MDB_NEXT)) == 0) {
		struct statefile_host *h;

		if (data.mv_size != sizeof(*h))
			continue;
		h = state_hosts_find(hosts, (struct span){ key.mv_data, key.mv_size });
		if (!h)
			break;
		memcpy(h, data.mv_data, sizeof(*h));
		h->state = STATEFILE_HOST_UNKNOWN;
		h->active = h->cached = 0;
	}
	mdb_cursor_close(cursor);
	return r == MDB_NOTFOUND ? 0 : r != 0 ? r : ENOMEM;
}

static bool meta_is(MDB_txn *txn, MDB_dbi meta, const char *name, const char *text)
{
	MDB_val key = val(name, strlen(name)), data;

	return mdb_get(txn, meta, &key, &data) == 0 &&
	       span_eq((struct span){ data.mv_data, data.mv_size }, span_str(text));
}

/* Is the content ours, of this schema and of this boot? An empty file is. */
static int judge_content(MDB_txn *txn, const char *boot_id)
{
	MDB_dbi main, meta;
	MDB_stat stat;
	char schema[12];
	MDB_val key = val("schema", 6), data;
	int r = mdb_dbi_open(txn, NULL, 0, &main);

	if (r != 0 || (r = mdb_stat(txn, main, &stat)) != 0)
		return r;
	if (stat.ms_entries == 0)
		return 0;
	r = mdb_dbi_open(txn, db_names[DB_META], 0, &meta);
	if (r == 0)
		r = mdb_get(txn, meta, &key, &data);
	if (r != 0)
		return r == MDB_NOTFOUND || r == MDB_INCOMPATIBLE ? STATE_FILE_FOREIGN : r;
	(void)snprintf(schema, sizeof(schema), "%d", STATEFILE_SCHEMA);
	return meta_is(txn, meta, "schema", schema) && meta_is(txn, meta, "boot_id", boot_id)
		       ? 0
		       : OTHER_TIME;
}

static int open_tables(MDB_txn *txn, struct state_db *db)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < DB_COUNT; i++)
		r = mdb_dbi_open(txn, db_names[i],
				 MDB_CREATE | (i == DB_SESSIONS ? MDB_INTEGERKEY : 0),
				 &db->dbis[i]);
	return r;
}

/* Empties what a start must not find: the sessions, and all with `fresh`. */
static int clear_tables(MDB_txn *txn, const struct state_db *db, bool fresh)
{
	int r = mdb_drop(txn, db->dbis[DB_SESSIONS], 0);

	for (size_t i = 0; r == 0 && fresh && i < DB_SESSIONS; i++)
		r = mdb_drop(txn, db->dbis[i], 0);
	return r;
}

/* A time that stays as it was first written. */
static int put_first_time(MDB_txn *txn, MDB_dbi meta, const char *name, int64_t now)
{
	MDB_val key = val(name, strlen(name)), data;
	int r = mdb_get(txn, meta, &key, &data);

	return r == MDB_NOTFOUND ? put_number_text(txn, meta, name, now) : r;
}

static int put_meta(MDB_txn *txn, MDB_dbi meta, const char *boot_id)
{
	int64_t now = clock_wall();
	/* It is the start of the whole, which a restarted broker goes on with. */
	int r = put_first_time(txn, meta, "started", now);

	(void)(r || (r = put_first_time(txn, meta, "reset", now)) ||
	       (r = put_number_text(txn, meta, "schema", STATEFILE_SCHEMA)) ||
	       (r = put(txn, meta, "boot_id", boot_id, strlen(boot_id))) ||
	       (r = put(txn, meta, "version", KEEPWARM_VERSION, strlen(KEEPWARM_VERSION))) ||
	       (r = put_number_text(txn, meta, "heartbeat", now)));
	return r;
}

/* The first transaction. */
static int prepare(struct call *c)
{
	char boot_id[64];
	MDB_txn *txn;
	int r = mdb_txn_begin(c->db->env, NULL, 0, &txn);

	if (r != 0)
		return from_lmdb(r);
	state_file_boot_id(boot_id, sizeof(boot_id));
	memset(c->loaded, 0, sizeof(*c->loaded));
	(void)((r = judge_content(txn, boot_id)) || (r = open_tables(txn, c->db)) ||
	       (r = clear_tables(txn, c->db, c->fresh)) ||
	       (r = load_numbers(txn, c->db, c->loaded)) ||
	       (r = load_hosts(txn, c->db, c->hosts)) ||
	       (r = state_names_load(txn, c->db->dbis[DB_TRACE], &c->loaded->traces)) ||
	       (r = state_names_load(txn, c->db->dbis[DB_ORDERS], &c->loaded->orders)) ||
	       (r = put_numbers(txn, c->db, c->loaded)) ||
	       (r = put_meta(txn, c->db->dbis[DB_META], boot_id)));
	if (r != 0) {
		mdb_txn_abort(txn);
		return from_lmdb(r);
	}
	return from_lmdb(mdb_txn_commit(txn));
}

static int open_env(struct call *c)
{
	char lock[PATH_MAX];
	int r = state_file_lock_name(c->path, lock, sizeof(lock));

	if (r < 0)
		return r;
	r = mdb_env_create(&c->db->env);
	if (r != 0)
		return from_lmdb(r);
	(void)((r = mdb_env_set_assert(c->db->env, jump_out_of_assert)) ||
	       (r = mdb_env_set_maxdbs(c->db->env, STATEFILE_DBS)) ||
	       (r = mdb_env_set_mapsize(c->db->env, STATEFILE_MAP_BYTES)) ||
	       (r = mdb_env_open(c->db->env, c->path, MDB_NOSUBDIR | MDB_NOSYNC, 0640)));
	if (r != 0)
		return from_lmdb(r);
	/* Readers of the group register in the lock file. Not ours: then it is as its owner wants
	 * it. */
	(void)chmod(lock, 0660);
	return prepare(c);
}

static int try_open(struct call *c)
{
	c->db->abandoned = false;
	int r = run_guarded(open_env, c);

	if (r < 0 && !c->db->abandoned) {
		mdb_env_close(c->db->env);
		c->db->env = NULL;
	}
	return r;
}

/* Makes room for our file. Returns 0, or why the file that is there cannot be used. */
static int clear_place(const char *path, enum state_db_found *found)
{
	enum state_file_kind kind;
	int r = state_file_judge(path, &kind);

	*found = STATE_DB_OURS;
	if (r < 0)
		return r;
	if (kind == STATE_FILE_EXPIRED) {
		*found = STATE_DB_REBUILT;
		return state_file_remove(path) == 0 ? 0 : state_file_empty(path);
	}
	if (kind == STATE_FILE_OLD) {
		bool again = false;

		r = state_file_keep_old(path, &again);
		*found = r > 0	 ? STATE_DB_OLD_LOST
			 : again ? STATE_DB_OLD_AGAIN
				 : STATE_DB_OLD;
	}
	return r < 0 ? r : 0;
}

/* May the file be thrown away after this error? LMDB's own errors mean that it could not be
 * understood. */
static bool may_rebuild(int error, const char *path)
{
	if (error == OTHER_TIME)
		return true;
	return (error == DAMAGED || (error <= MDB_LAST_ERRCODE && error >= MDB_KEYEXIST)) &&
	       state_file_is_ours(path);
}

int state_db_open(const char *path, bool fresh, struct state_numbers *numbers,
		  struct state_host **hosts, struct state_db **ret, enum state_db_found *found)
{
	int r = clear_place(path, found);

	if (r < 0)
		return r;
	struct state_db *db = calloc(1, sizeof(*db));
	struct call c = {
		.db = db, .path = path, .loaded = numbers, .hosts = hosts, .fresh = fresh
	};

	if (!db)
		return -ENOMEM;
	install_guard();
	r = try_open(&c);
	if (r < 0 && may_rebuild(r, path)) {
		*found = STATE_DB_REBUILT;
		r = state_file_remove(path);
		/* An abandoned environment may still hold the mutex in the lock file. */
		if (r < 0 && !db->abandoned)
			r = state_file_empty(path);
		if (r == 0)
			r = try_open(&c);
	}
	if (r < 0) {
		memset(numbers, 0, sizeof(*numbers));
		state_hosts_free(hosts);
		free(db);
		return r;
	}
	*ret = db;
	return 0;
}

static int put_host(MDB_txn *txn, MDB_dbi hosts, const struct state_row *row)
{
	size_t n = sizeof(struct statefile_host);
	MDB_val key = val(row->bytes + n, row->length - n), data = val(row->bytes, n);

	if (!row->is_gone)
		return mdb_put(txn, hosts, &key, &data, 0);
	int r = mdb_del(txn, hosts, &key, NULL);

	return r == MDB_NOTFOUND ? 0 : r;
}

static int put_rows(MDB_txn *txn, const struct state_db *db, const struct state_row *rows,
		    bool without_new)
{
	MDB_dbi sessions = db->dbis[DB_SESSIONS];
	int r = 0;

	for (; r == 0 && rows; rows = rows->next) {
		if (rows->is_host) {
			if (!without_new || rows->is_gone)
				r = put_host(txn, db->dbis[DB_HOSTS], rows);
			continue;
		}
		MDB_val key = val(&rows->id, sizeof(rows->id)),
			data = val(rows->bytes, rows->length);

		if (rows->length > 0) {
			r = without_new ? 0 : mdb_put(txn, sessions, &key, &data, 0);
			continue;
		}
		r = mdb_del(txn, sessions, &key, NULL);
		r = r == MDB_NOTFOUND ? 0 : r;
	}
	return r;
}

/* What changes rarely. */
static int put_rare(MDB_txn *txn, const struct state_db *db, const struct state_numbers *numbers)
{
	int r = 0;

	if (numbers->reset > 0)
		r = put_number_text(txn, db->dbis[DB_META], "reset", numbers->reset);
	if (r == 0 && numbers->traces.version != db->traces)
		r = state_names_put(txn, db->dbis[DB_TRACE], &numbers->traces);
	if (r == 0 && numbers->orders.version != db->orders)
		r = state_names_put(txn, db->dbis[DB_ORDERS], &numbers->orders);
	return r;
}

static int commit(struct call *c)
{
	struct state_db *db = c->db;
	MDB_txn *txn;
	int r = mdb_txn_begin(db->env, NULL, 0, &txn);

	if (r != 0)
		return from_lmdb(r);
	(void)((r = put_rows(txn, db, c->rows, c->without_new_rows)) ||
	       (r = put_numbers(txn, db, c->numbers)) || (r = put_rare(txn, db, c->numbers)) ||
	       (r = put_number_text(txn, db->dbis[DB_META], "heartbeat", c->now)));
	if (r != 0) {
		mdb_txn_abort(txn);
		return from_lmdb(r);
	}
	r = mdb_txn_commit(txn);
	if (r == 0) {
		db->traces = c->numbers->traces.version;
		db->orders = c->numbers->orders.version;
	}
	return from_lmdb(r);
}

int state_db_commit(struct state_db *db, const struct state_numbers *numbers,
		    const struct state_row *rows, int64_t now)
{
	struct call c = { .db = db, .numbers = numbers, .rows = rows, .now = now };
	int r = run_guarded(commit, &c);

	if (r != MDB_MAP_FULL)
		return r;
	state_db_check_readers(db);
	c.without_new_rows = true;
	r = run_guarded(commit, &c);
	return r == 0 ? -ENOBUFS : r;
}

static int check_readers(struct call *c)
{
	int dead;

	return from_lmdb(mdb_reader_check(c->db->env, &dead));
}

void state_db_check_readers(struct state_db *db)
{
	struct call c = { .db = db };

	(void)run_guarded(check_readers, &c);
}

void state_db_close(struct state_db *db)
{
	if (!db)
		return;
	if (!db->abandoned)
		mdb_env_close(db->env);
	free(db);
}

const char *state_db_error(int error)
{
	switch (error) {
	case STATE_FILE_FOREIGN:
		return "it is no state file of this program, so it is left alone: see "
		       "stat_filename";
	case DAMAGED:
		return "it was cut short or is damaged";
	case OTHER_TIME:
		return "it is of another boot or version";
	case -ENOBUFS:
	case MDB_MAP_FULL:
		return "it is full";
	}
	return mdb_strerror(error > -4096 ? -error : error);
}
