/* The state file's only reader: everything is copied within one read transaction, which therefore
 * lasts as long as a copy does. A reader that dawdles keeps pages from being used again and fills
 * the map.
 *
 * Where the lock file cannot be written there is no registering as a reader: the file is read
 * without (MDB_NOLOCK) and again if the writer has committed meanwhile. A lock file is never made
 * here: made by root, it would keep the broker out.
 *
 * The file is mapped: should somebody cut it short while it is read, the kernel sends SIGBUS, and
 * LMDB aborts when a page makes no sense to it. Either jumps out of it; what it held is not given
 * back then.
 */
#include "pimpstat/model.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <lmdb.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/fd.h"
#include "pimpstat/format.h"

#define OLD_BYTES	 72
#define ATTEMPTS_NO_LOCK 20
#define DEAD_AFTER	 (3 * STATEFILE_HEARTBEAT)
#define TIME_MOST	 (1ll << 40)

/* Errors beside LMDB's own. */
enum { WRONG_SCHEMA = -20001, NOT_OURS = -20002, CHANGED = -20003, TORN = -20004 };

#define NAME(name, ...)	       #name,
#define MEANING(name, meaning) meaning,
#define WORD(name, word, ...)  word,
#define LAST_OF_5(name, word, error, bye, meaning) meaning,
#define LAST_OF_3(name, word, meaning) meaning,
const char *const model_counter_names[] = {COUNTER_TABLE(NAME)};
const char *const model_counter_meanings[] = {COUNTER_TABLE(MEANING)};
const char *const model_gauge_names[] = {GAUGE_TABLE(NAME)};
const char *const model_gauge_meanings[] = {GAUGE_TABLE(MEANING)};
const char *const model_end_meanings[] = {END_TABLE(LAST_OF_5)};
const char *const model_not_cached_meanings[] = {NOT_CACHED_TABLE(LAST_OF_3)};
static const char *const end_words[] = {END_TABLE(WORD)};
static const char *const not_cached_words[] = {NOT_CACHED_TABLE(WORD)};

static const char *const history_names[] = {"logins"};

static const struct section {
	const char *db;
	const char *const *names;
	size_t count;
	size_t offset;
	size_t size; /* of one value */
} sections[] = {
	{"counters", model_counter_names, COUNTER_COUNT, offsetof(struct model, counters), 8},
	{"gauges", model_gauge_names, GAUGE_COUNT, offsetof(struct model, gauges), 8},
	{"peaks", model_gauge_names, GAUGE_COUNT, offsetof(struct model, peaks),
	 sizeof(struct statefile_peak)},
	{"ends", end_words, END_COUNT, offsetof(struct model, ends), 8},
	{"not_cached", not_cached_words, NOT_CACHED_COUNT, offsetof(struct model, not_cached), 8},
	{"history", history_names, 1, offsetof(struct model, history),
	 sizeof(struct statefile_history)},
};

static int get(MDB_txn *txn, MDB_dbi dbi, const char *name, struct span *ret)
{
	MDB_val key = {strlen(name), (void *)(uintptr_t)name}, data;
	int r = mdb_get(txn, dbi, &key, &data);

	*ret = r == 0 ? (struct span){data.mv_data, data.mv_size} : SPAN_NONE;
	return r;
}

/* Times are added to and multiplied with: one that makes no sense, in a file that anything may have
 * written, is none. */
static int64_t sane_time(int64_t seconds)
{
	return seconds < 0 || seconds > TIME_MOST ? 0 : seconds;
}

static int64_t get_time(MDB_txn *txn, MDB_dbi dbi, const char *name)
{
	struct span text;
	uint64_t number;

	if (get(txn, dbi, name, &text) != 0 || span_u64(text, TIME_MOST, &number) < 0)
		return 0;
	return (int64_t)number;
}

static int copy_meta(MDB_txn *txn, struct model *m)
{
	struct span text;
	uint64_t schema;
	MDB_dbi dbi;
	int r = mdb_dbi_open(txn, "meta", 0, &dbi);

	if (r != 0 || get(txn, dbi, "schema", &text) != 0 ||
	    span_u64(text, UINT32_MAX, &schema) < 0)
		return r == 0 || r == MDB_NOTFOUND || r == MDB_INCOMPATIBLE ? NOT_OURS : r;
	if (get(txn, dbi, "version", &text) == 0)
		(void)format_foreign(text, false, sizeof(m->version) - 8, m->version,
				     sizeof(m->version));
	m->schema = schema;
	if (schema != STATEFILE_SCHEMA)
		return WRONG_SCHEMA;
	m->started = get_time(txn, dbi, "started");
	m->heartbeat = get_time(txn, dbi, "heartbeat");
	m->reset = get_time(txn, dbi, "reset");
	return 0;
}

/* Rows that an older broker did not know are zero. */
static int copy_section(MDB_txn *txn, const struct section *s, struct model *m)
{
	char *to = (char *)m + s->offset;
	MDB_dbi dbi;
	int r = mdb_dbi_open(txn, s->db, 0, &dbi);

	for (size_t i = 0; r == 0 && i < s->count; i++) {
		struct span value;

		r = get(txn, dbi, s->names[i], &value);
		if (r == 0 && value.n == s->size)
			memcpy(to + i * s->size, value.p, s->size);
		r = r == MDB_NOTFOUND ? 0 : r;
	}
	return r == MDB_NOTFOUND ? 0 : r;
}

static struct span take_text(const char **at, size_t n)
{
	struct span text = {*at, n};

	*at += n;
	return text;
}

/* One row, whose texts borrow the copy at `row`. Returns false for one that makes no sense. */
static bool read_session(uint64_t id, struct span row, struct model_session *ret)
{
	struct statefile_session head;

	if (row.n < sizeof(head))
		return false;
	memcpy(&head, row.p, sizeof(head));
	if (row.n < sizeof(head) + head.user_length + head.client_length + head.host_length +
			    head.tls_length)
		return false;
	const char *at = row.p + sizeof(head);

	*ret = (struct model_session){
		.id = id,
		.state = head.state,
		.service = head.service,
		.since = sane_time(head.since),
		.has_bytes = head.state == STATEFILE_CACHED,
		.from_client = head.from_client,
		.from_backend = head.from_backend,
	};
	ret->user = take_text(&at, head.user_length);
	ret->client = take_text(&at, head.client_length);
	ret->host = take_text(&at, head.host_length);
	ret->tls = take_text(&at, head.tls_length);
	return true;
}

static int each_session(MDB_cursor *cursor, struct model *m, size_t rows, size_t bytes)
{
	MDB_val key, data;
	size_t used = 0;
	int r;

	while ((r = mdb_cursor_get(cursor, &key, &data, MDB_NEXT)) == 0) {
		uint64_t id;

		/* Only without a lock can there be more than were counted. */
		if (m->session_count == rows || data.mv_size > bytes - used)
			return CHANGED;
		if (key.mv_size != sizeof(id))
			continue;
		memcpy(&id, key.mv_data, sizeof(id));
		memcpy(m->bytes + used, data.mv_data, data.mv_size);
		struct span row = {m->bytes + used, data.mv_size};

		used += data.mv_size;
		m->session_count += read_session(id, row, &m->sessions[m->session_count]);
	}
	return r == MDB_NOTFOUND ? 0 : r;
}

static int each_host(MDB_cursor *cursor, struct model *m, size_t rows, size_t bytes)
{
	MDB_val key, data;
	size_t used = 0;
	int r;

	while ((r = mdb_cursor_get(cursor, &key, &data, MDB_NEXT)) == 0) {
		struct model_host *h = &m->hosts[m->host_count];

		if (m->host_count == rows || key.mv_size > bytes - used)
			return CHANGED;
		if (data.mv_size != sizeof(h->figures))
			continue;
		memcpy(&h->figures, data.mv_data, sizeof(h->figures));
		h->figures.failed_at = sane_time(h->figures.failed_at);
		if (h->figures.error_length > sizeof(h->figures.error))
			h->figures.error_length = 0;
		memcpy(m->host_bytes + used, key.mv_data, key.mv_size);
		h->name = (struct span){m->host_bytes + used, key.mv_size};
		used += key.mv_size;
		m->host_count++;
	}
	return r == MDB_NOTFOUND ? 0 : r;
}

static int each_order(MDB_cursor *cursor, struct model *m)
{
	MDB_val key, data;
	int r;

	m->order_count = 0;
	while ((r = mdb_cursor_get(cursor, &key, &data, MDB_NEXT)) == 0) {
		struct model_order *o = &m->orders[m->order_count];
		struct statefile_order row;

		if (m->order_count == MODEL_ORDERS || data.mv_size != sizeof(row) ||
		    key.mv_size > sizeof(o->host))
			continue;
		memcpy(&row, data.mv_data, sizeof(row));
		memcpy(o->host, key.mv_data, key.mv_size);
		o->length = key.mv_size;
		o->kind = row.kind;
		o->since = sane_time(row.since);
		m->order_count++;
	}
	return r == MDB_NOTFOUND ? 0 : r;
}

static int copy_orders(MDB_txn *txn, struct model *m)
{
	MDB_dbi dbi;
	MDB_cursor *cursor;
	int r = mdb_dbi_open(txn, "orders", 0, &dbi);

	if (r == 0)
		r = mdb_cursor_open(txn, dbi, &cursor);
	if (r != 0)
		return r == MDB_NOTFOUND ? 0 : r;
	r = each_order(cursor, m);
	mdb_cursor_close(cursor);
	return r;
}

/* Is this "name:port" what the order names? An address has brackets there, if a port follows. */
static bool order_names(const struct model_order *o, struct span label)
{
	struct span host = {o->host, o->length};
	size_t colon = label.n;

	while (colon > 0 && label.p[colon - 1] != ':')
		colon--;
	if (colon == 0)
		return false;
	struct span name = {label.p, colon - 1};

	if (host.n == label.n + 2 && host.p[0] == '[')
		return memcmp(host.p + 1, name.p, name.n) == 0 && host.p[name.n + 1] == ']' &&
		       memcmp(host.p + name.n + 2, label.p + name.n, label.n - name.n) == 0;
	return span_eq(host, name) || span_eq(host, label);
}

/* Orders for hosts that nobody has been sent to yet are rows, too: one that was misspelt shows. */
static void add_ordered_hosts(struct model *m)
{
	size_t known = m->host_count;

	for (size_t i = 0; i < m->order_count; i++) {
		const struct model_order *o = &m->orders[i];
		bool found = false;

		for (size_t j = 0; j < known && !found; j++)
			found = order_names(o, m->hosts[j].name);
		if (!found)
			m->hosts[m->host_count++] =
				(struct model_host){.name = {o->host, o->length},
						    .figures = {.state = o->kind}};
	}
}

static void own_sessions(struct model *m, void *rows, char *texts)
{
	m->sessions = rows;
	m->bytes = texts;
}

static void own_hosts(struct model *m, void *rows, char *texts)
{
	m->hosts = rows;
	m->host_bytes = texts;
}

static const struct table {
	const char *db;
	size_t row_size;
	void (*own)(struct model *m, void *rows, char *texts);
	int (*each)(MDB_cursor *cursor, struct model *m, size_t rows, size_t bytes);
} tables[] = {
	{"sessions", sizeof(struct model_session), own_sessions, each_session},
	{"hosts", sizeof(struct model_host), own_hosts, each_host},
};

/* One of the tables whose rows are many: room for them, then each. */
static int copy_table(MDB_txn *txn, struct model *m, const struct table *t)
{
	MDB_dbi dbi;
	MDB_stat stat;
	MDB_cursor *cursor;
	int r = mdb_dbi_open(txn, t->db, 0, &dbi);

	if (r != 0 || (r = mdb_stat(txn, dbi, &stat)) != 0)
		return r == MDB_NOTFOUND ? 0 : r;
	size_t bytes = (stat.ms_leaf_pages + stat.ms_overflow_pages) * stat.ms_psize;
	void *rows = calloc(stat.ms_entries + 1 + MODEL_ORDERS, t->row_size);
	char *texts = malloc(bytes + 1);

	t->own(m, rows, texts);
	if (!rows || !texts)
		return ENOMEM;
	r = mdb_cursor_open(txn, dbi, &cursor);
	if (r == 0) {
		r = t->each(cursor, m, stat.ms_entries, bytes);
		mdb_cursor_close(cursor);
	}
	return r;
}

static int copy_all(MDB_env *env, struct model *m)
{
	MDB_txn *txn;
	MDB_envinfo info;
	int r = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn);

	if (r != 0)
		return r;
	size_t id = mdb_txn_id(txn);

	r = copy_meta(txn, m);
	for (size_t i = 0; r == 0 && i < sizeof(sections) / sizeof(sections[0]); i++)
		r = copy_section(txn, &sections[i], m);
	for (size_t i = 0; i < GAUGE_COUNT; i++)
		m->peaks[i].when = sane_time(m->peaks[i].when);
	if (sane_time(m->history.newest) != m->history.newest)
		memset(&m->history, 0, sizeof(m->history));
	for (size_t i = 0; r == 0 && i < sizeof(tables) / sizeof(tables[0]); i++)
		r = copy_table(txn, m, &tables[i]);
	if (r == 0)
		r = copy_orders(txn, m);
	if (r == 0 && m->hosts)
		add_ordered_hosts(m);
	mdb_txn_abort(txn);

	unsigned flags = 0;

	(void)mdb_env_get_flags(env, &flags);
	if ((flags & MDB_NOLOCK) && mdb_env_info(env, &info) == 0 && info.me_last_txnid != id)
		return CHANGED;
	return r;
}

/* Can this process register as a reader? */
static bool may_lock(const char *path)
{
	char lock[PATH_MAX];
	int n = snprintf(lock, sizeof(lock), "%s-lock", path);

	if (n < 0 || (size_t)n >= sizeof(lock))
		return false;
	return access(lock, R_OK | W_OK) == 0;
}

static sigjmp_buf *guard;

static void jump_out(int number)
{
	if (guard)
		siglongjmp(*guard, 1);
	/* Not ours: happen again with the default action. */
	(void)signal(number, SIG_DFL);
}

static void jump_out_of_assert(MDB_env *env, const char *text)
{
	(void)env;
	(void)text;
	if (guard)
		siglongjmp(*guard, 1);
}

static int open_and_copy(const char *path, unsigned flags, struct model *m)
{
	MDB_env *env;
	int r = mdb_env_create(&env);

	if (r != 0)
		return r;
	(void)((r = mdb_env_set_assert(env, jump_out_of_assert)) ||
	       (r = mdb_env_set_maxdbs(env, STATEFILE_DBS)) ||
	       (r = mdb_env_open(env, path, MDB_NOSUBDIR | MDB_RDONLY | flags, 0)) ||
	       (r = copy_all(env, m)));
	mdb_env_close(env);
	return r;
}

static int copy_guarded(const char *path, unsigned flags, struct model *m)
{
	struct sigaction action = {.sa_handler = jump_out}, before;
	sigjmp_buf here;

	sigemptyset(&action.sa_mask);
	(void)sigaction(SIGBUS, &action, &before);
	/* volatile: set behind sigsetjmp() */
	volatile int r = TORN;

	if (sigsetjmp(here, 1) == 0) {
		guard = &here;
		r = open_and_copy(path, flags, m);
	}
	guard = NULL;
	(void)sigaction(SIGBUS, &before, NULL);
	return r;
}

/* What can be said before LMDB looks. Returns 0, a positive errno or NOT_OURS. */
static int judge(const char *path, char *why, size_t cap)
{
	struct stat st;
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0 || fstat(fd, &st) < 0)
		return errno;
	if (!S_ISREG(st.st_mode))
		return NOT_OURS;
	if (st.st_size == 0)
		(void)snprintf(why, cap,
			       "%s: the state file is empty: no broker has written it yet; "
			       "start the service or see its log",
			       path);
	if (st.st_size == OLD_BYTES)
		(void)snprintf(why, cap,
			       "%s: this is the statistics file of the old imapproxyd: start "
			       "this version's service, which replaces it",
			       path);
	return st.st_size == 0 || st.st_size == OLD_BYTES ? CHANGED : 0;
}

static void explain(int error, const char *path, const struct model *m, char *why, size_t cap)
{
	switch (error) {
	case ENOENT:
		(void)snprintf(why, cap,
			       "%s: there is no state file: start the service, or name its "
			       "configuration with -f",
			       path);
		return;
	case EACCES:
	case EPERM:
		(void)snprintf(why, cap,
			       "%s: no permission: run pimpstat as root or as a member of the "
			       "file's group (proc_groupname)",
			       path);
		return;
	case WRONG_SCHEMA:
		(void)snprintf(why, cap,
			       "%s: the state file is of another version: of format %" PRIu64
			       ", written by Keepwarm %s; this pimpstat (%s) reads format %d: use "
			       "the one that came with the broker, or restart the service",
			       path, m->schema, m->version, KEEPWARM_VERSION, STATEFILE_SCHEMA);
		return;
	case TORN:
		(void)snprintf(why, cap,
			       "%s: the state file was cut short or is damaged: remove it and "
			       "restart the service",
			       path);
		return;
	case NOT_OURS:
	case MDB_INVALID:
	case MDB_VERSION_MISMATCH:
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
		(void)snprintf(why, cap,
			       "%s: this is no state file: check stat_filename, or remove "
			       "the file and restart the service",
			       path);
		return;
	case CHANGED:
		(void)snprintf(why, cap,
			       "%s: the state file changes too fast to be read without its "
			       "lock file: run pimpstat as root or as a member of its group",
			       path);
		return;
	}
	(void)snprintf(why, cap, "%s: cannot be read: %s; try again or restart the service", path,
		       mdb_strerror(error));
}

int model_read(const char *path, struct model *m, char *why, size_t cap)
{
	memset(m, 0, sizeof(*m));
	int r = judge(path, why, cap);

	if (r != 0 && r != CHANGED)
		explain(r, path, m, why, cap);
	unsigned flags = may_lock(path) ? 0 : MDB_NOLOCK;

	for (int i = 0; r == 0; i++) {
		r = copy_guarded(path, flags, m);
		if (r == 0)
			return 0;
		explain(r, path, m, why, cap);
		model_wipe(m);
		if (r == CHANGED && i < ATTEMPTS_NO_LOCK)
			r = 0;
	}
	return r == TORN ? -2 : -1;
}

void model_wipe(struct model *m)
{
	free(m->sessions);
	free(m->hosts);
	free(m->bytes);
	free(m->host_bytes);
	memset(m, 0, sizeof(*m));
}

bool model_is_running(const struct model *m, int64_t now)
{
	return now - m->heartbeat <= DEAD_AFTER;
}

int model_reuse_per_mille(const struct model *m)
{
	uint64_t logins = m->counters[COUNTER_logins], reused = m->counters[COUNTER_logins_reused];

	if (logins == 0)
		return -1;
	/* Each figure is right, but they were not counted at the same instant. */
	if (reused > logins)
		reused = logins;
	return (int)((double)reused * 1000 / (double)logins + 0.5);
}

const char *model_host_word(uint32_t state)
{
	static const char *const words[] = {
		[STATEFILE_HOST_UNKNOWN] = "?",
		[STATEFILE_HOST_UP] = "up",
		[STATEFILE_HOST_DOWN] = "down",
		[STATEFILE_HOST_DRAINED] = "drain",
		[STATEFILE_HOST_PAUSED] = "pause",
	};

	return state < sizeof(words) / sizeof(words[0]) ? words[state] : "?";
}

const char *model_state_word(uint32_t state)
{
	static const char *const words[] = {
		[STATEFILE_LOGIN] = "login",
		[STATEFILE_ACTIVE] = "active",
		[STATEFILE_CACHED] = "cached",
	};

	return state < sizeof(words) / sizeof(words[0]) ? words[state] : "?";
}
