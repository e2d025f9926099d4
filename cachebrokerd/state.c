/* The state file's writer: memory on this side, the file on the other side of a thread.
 *
 * The broker's thread owns the figures and a map of all rows; a changed row is also on the list of
 * dirty ones, once, however often it changes: that is what bounds memory while the writer is
 * behind. A tick moves the dirty rows into the job and wakes the writer, which owns the job until
 * it says idle; so the lock covers one word and is never held during a commit. The writer does not
 * log: the broker's thread does, when it finds the result.
 */
#include "cachebrokerd/state.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Without memory a row is left out of the statistics; uthash would exit. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>
#include <utlist.h>

#include "cachebrokerd/state_db.h"
#include "cachebrokerd/state_history.h"
#include "cachebrokerd/state_hosts.h"
#include "cachebrokerd/state_words.h"
#include "lib/clock.h"
#include "lib/log.h"

#define TICK_MS		100
#define HEARTBEAT_MS	(STATEFILE_HEARTBEAT * 1000 - 500)
#define RETRY_MS	10000
#define READER_CHECK_MS 60000
#define TEXT_MAX	512

/* A row that is in the file, or will be, or must leave it. */
struct entry {
	uint64_t id;
	int64_t since;
	enum statefile_session_state what;
	bool written;	       /* the writer has been given it */
	struct state_row *row; /* not yet given to the writer; set while on the dirty list */
	struct entry *prev, *next;
	UT_hash_handle hh;
};

enum phase { PHASE_IDLE, PHASE_WORK, PHASE_STOP };

struct job {
	struct state_numbers numbers;
	struct state_row *rows;
	int64_t wall;
	bool check_readers;
	int result;
};

struct state {
	/* the broker's thread */
	char *path;
	struct state_numbers now;
	struct entry *entries;
	struct entry *dirty;
	struct state_host *hosts;
	struct state_numbers noted; /* whose counters are in the history */
	bool changed;
	int error; /* of the last commit; logged already */
	bool told_full;
	bool left; /* nothing may be written any more */
	int64_t last_ms;
	int64_t reader_check_ms;
	/* both */
	pthread_mutex_t lock;
	pthread_cond_t wake;
	enum phase phase;
	/* whose it is, `phase` says: the writer's in PHASE_WORK */
	struct job job;
	struct state_db *db; /* NULL: count in memory only */
	pthread_t writer;
};

static void free_rows(struct state_row *rows)
{
	while (rows) {
		struct state_row *next = rows->next;

		free(rows);
		rows = next;
	}
}

static void do_job(struct state *s)
{
	struct job *job = &s->job;

	if (job->check_readers)
		state_db_check_readers(s->db);
	job->result = state_db_commit(s->db, &job->numbers, job->rows, job->wall);
	/* What did not fit is given up; after any other error the rows are tried again. */
	if (job->result == 0 || job->result == -ENOBUFS) {
		free_rows(job->rows);
		job->rows = NULL;
	}
}

static void *write_jobs(void *argument)
{
	struct state *s = argument;

	pthread_mutex_lock(&s->lock);
	while (s->phase != PHASE_STOP) {
		if (s->phase == PHASE_IDLE) {
			pthread_cond_wait(&s->wake, &s->lock);
			continue;
		}
		pthread_mutex_unlock(&s->lock);
		do_job(s);
		pthread_mutex_lock(&s->lock);
		s->phase = PHASE_IDLE;
		pthread_cond_broadcast(&s->wake);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

/* The thread gets no signal but SIGBUS, which is its own doing and must not be blocked
 * (state_db.c). */
static int start_writer(struct state *s)
{
	sigset_t most, before;

	sigfillset(&most);
	sigdelset(&most, SIGBUS);
	pthread_sigmask(SIG_SETMASK, &most, &before);
	int r = pthread_create(&s->writer, NULL, write_jobs, s);

	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -r;
}

struct state *state_open(const char *path, bool fresh)
{
	struct state *s = calloc(1, sizeof(*s));
	enum state_db_found found;

	if (!s || !(s->path = strdup(path))) {
		free(s);
		return NULL;
	}
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->wake, NULL);
	int r = state_db_open(path, fresh, &s->now, &s->hosts, &s->db, &found);

	if (r == 0) {
		state_words_found(path, found);
		r = start_writer(s);
	}
	if (r < 0) {
		state_words_unusable(path, r);
		state_db_close(s->db);
		s->db = NULL;
	}
	s->noted = s->now;
	return s;
}

void state_count(struct state *s, enum counter which, uint64_t by)
{
	s->now.counters[which] += by;
	s->changed = true;
}

void state_uncount(struct state *s, enum counter which, uint64_t by)
{
	uint64_t *count = &s->now.counters[which];

	*count -= by < *count ? by : *count; /* it may have been counted before state_reset() */
	s->changed = true;
}

void state_count_end(struct state *s, enum session_end end)
{
	s->now.ends[end]++;
	s->changed = true;
}

void state_count_not_cached(struct state *s, enum not_cached reason)
{
	s->now.not_cached[reason]++;
	s->changed = true;
}

void state_gauge(struct state *s, enum gauge which, uint64_t value)
{
	struct statefile_peak *peak = &s->now.peaks[which];

	if (s->now.gauges[which] == value && peak->value >= value)
		return;
	s->now.gauges[which] = value;
	if (value > peak->value)
		*peak = (struct statefile_peak){ value, clock_wall() };
	s->changed = true;
}

struct state_names *state_traces_of(struct state *s)
{
	return &s->now.traces;
}

struct state_names *state_orders_of(struct state *s)
{
	return &s->now.orders;
}

void state_orders_changed(struct state *s)
{
	s->now.orders.version++;
	s->changed = true;
}

void state_traces_changed(struct state *s)
{
	s->now.traces.version++;
	s->changed = true;
}

static struct entry *find_entry(struct state *s, uint64_t id)
{
	struct entry *e;

	HASH_FIND(hh, s->entries, &id, sizeof(id), e);
	return e;
}

static struct entry *add_entry(struct state *s, uint64_t id)
{
	struct entry *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->id = id;
	HASH_ADD(hh, s->entries, id, sizeof(e->id), e);
	if (!e->hh.tbl) {
		free(e);
		return NULL;
	}
	return e;
}

static void drop_entry(struct state *s, struct entry *e)
{
	if (e->row) {
		DL_DELETE(s->dirty, e);
		free(e->row);
	}
	HASH_DEL(s->entries, e);
	free(e);
}

/* Puts the row in the place of one that has not gone to the writer yet. */
static void set_row(struct state *s, struct entry *e, struct state_row *row)
{
	if (e->row)
		free(e->row);
	else
		DL_APPEND(s->dirty, e);
	e->row = row;
	s->changed = true;
}

static struct span cut(struct span text)
{
	return (struct span){ text.p, text.n < TEXT_MAX ? text.n : TEXT_MAX };
}

static struct state_row *make_row(const struct entry *e, uint32_t service,
				  const struct span texts[3])
{
	struct statefile_session head = {
		.state = e->what,
		.service = service,
		.since = e->since,
		.user_length = (uint16_t)texts[0].n,
		.client_length = (uint16_t)texts[1].n,
		.host_length = (uint16_t)texts[2].n,
	};
	size_t length = sizeof(head) + texts[0].n + texts[1].n + texts[2].n;
	struct state_row *row = malloc(sizeof(*row) + length);

	if (!row)
		return NULL;
	*row = (struct state_row){ .id = e->id, .length = length };
	char *to = row->bytes;

	memcpy(to, &head, sizeof(head));
	to += sizeof(head);
	for (size_t i = 0; i < 3; i++) {
		if (texts[i].n > 0)
			memcpy(to, texts[i].p, texts[i].n);
		to += texts[i].n;
	}
	return row;
}

void state_session(struct state *s, uint64_t id, enum statefile_session_state what,
		   uint32_t service, struct span user, struct span client, struct span host)
{
	const struct span texts[3] = { cut(user), cut(client), cut(host) };

	if (!s->db)
		return;
	struct entry *e = find_entry(s, id);

	if (!e && !(e = add_entry(s, id)))
		return;
	if (e->since == 0 || e->what != what)
		e->since = clock_wall();
	e->what = what;
	struct state_row *row = make_row(e, service, texts);

	if (row)
		set_row(s, e, row);
	else if (!e->row && !e->written)
		drop_entry(s, e);
}

void state_session_tls(struct state *s, uint64_t id, struct span tls)
{
	struct entry *e = find_entry(s, id);
	struct statefile_session head;
	struct span text = cut(tls);

	if (!e || !e->row || e->row->length == 0)
		return;
	size_t length = e->row->length + text.n;
	struct state_row *row = realloc(e->row, sizeof(*row) + length);

	if (!row)
		return;
	memcpy(&head, row->bytes, sizeof(head));
	head.tls_length = (uint16_t)text.n;
	memcpy(row->bytes, &head, sizeof(head));
	memcpy(row->bytes + row->length, text.p, text.n);
	row->length = length;
	e->row = row;
}

void state_session_moved(struct state *s, uint64_t id, uint64_t from_client, uint64_t from_backend)
{
	struct entry *e = find_entry(s, id);
	struct statefile_session head;

	if (!e || !e->row || e->row->length == 0)
		return;
	memcpy(&head, e->row->bytes, sizeof(head));
	head.from_client = from_client;
	head.from_backend = from_backend;
	memcpy(e->row->bytes, &head, sizeof(head));
}

void state_session_gone(struct state *s, uint64_t id)
{
	struct entry *e = find_entry(s, id);

	if (!e)
		return;
	if (!e->written) {
		drop_entry(s, e);
		return;
	}
	struct state_row *removal = malloc(sizeof(*removal));

	if (!removal) /* the row stays until the next start: nothing else can be done */
		return;
	*removal = (struct state_row){ .id = id };
	set_row(s, e, removal);
}

/* The dirty rows become the job's; entries that are gone have no more to say. */
static void move_rows(struct state *s)
{
	struct entry *e, *next;

	DL_FOREACH_SAFE(s->dirty, e, next)
	{
		struct state_row *row = e->row;

		DL_DELETE(s->dirty, e);
		e->row = NULL;
		e->written = true;
		LL_PREPEND(s->job.rows, row);
		if (row->length == 0)
			drop_entry(s, e);
	}
}

struct statefile_host *state_host(struct state *s, const char *label)
{
	struct statefile_host *h = state_hosts_find(&s->hosts, span_str(label));

	if (h)
		state_hosts_hold(s->hosts, span_str(label));
	return h;
}

unsigned state_count_hosts(struct state *s, bool (*is_one)(const void *context, struct span label),
			   const void *context)
{
	return state_hosts_count(s->hosts, is_one, context);
}

void state_host_gone(struct state *s, const char *label)
{
	state_hosts_release(s->hosts, span_str(label));
	s->changed = true;
}

static int64_t grown(const struct state *s, enum counter which)
{
	return (int64_t)(s->now.counters[which] - s->noted.counters[which]);
}

static void note_history(struct state *s)
{
	state_history_add(&s->now.history, clock_wall(), grown(s, COUNTER_logins_fresh),
			  grown(s, COUNTER_logins_reused),
			  grown(s, COUNTER_logins_failed) + grown(s, COUNTER_logins_refused));
	s->noted = s->now;
}

void state_reset(struct state *s)
{
	struct state_numbers *n = &s->now;

	note_history(s);
	memset(n->counters, 0, sizeof(n->counters));
	memset(n->ends, 0, sizeof(n->ends));
	memset(n->not_cached, 0, sizeof(n->not_cached));
	n->reset = clock_wall();
	for (size_t i = 0; i < GAUGE_COUNT; i++)
		n->peaks[i] = (struct statefile_peak){ n->gauges[i], n->reset };
	state_hosts_reset(s->hosts);
	s->noted = s->now;
	s->changed = true;
}

/* Gives the writer what there is. A job that failed keeps its rows; newer ones wait until it is
 * through, so that the file never goes back in time and memory stays bounded by the map. */
static void hand_over(struct state *s, int64_t now_ms)
{
	struct job *job = &s->job;

	note_history(s);
	job->numbers = s->now;
	job->wall = clock_wall();
	job->check_readers = now_ms - s->reader_check_ms >= READER_CHECK_MS;
	if (job->check_readers)
		s->reader_check_ms = now_ms;
	s->changed = job->rows != NULL;
	if (!job->rows) {
		move_rows(s);
		state_hosts_rows(&s->hosts, &job->rows);
	}
	s->last_ms = now_ms;
	pthread_mutex_lock(&s->lock);
	s->phase = PHASE_WORK;
	pthread_cond_broadcast(&s->wake);
	pthread_mutex_unlock(&s->lock);
}

/* One line when the writing stops, one when it goes on; one in all about a full file, because that
 * comes and goes with the sessions. The job is ours. */
static void report(struct state *s)
{
	bool full = s->job.result == -ENOBUFS;
	int result = full ? 0 : s->job.result;

	if (full && !s->told_full) {
		s->told_full = true;
		log_printf(LOG_WARNING, "state file %s is full: some sessions are missing in it",
			   s->path);
	}
	if (result != 0 && s->error == 0)
		log_printf(LOG_WARNING,
			   "state file %s cannot be written: %s; pimpstat shows old "
			   "figures, mail is served all the same",
			   s->path, state_db_error(result));
	if (result == 0 && s->error != 0)
		log_printf(LOG_NOTICE, "state file %s: written again", s->path);
	s->error = result;
}

static bool is_idle(struct state *s)
{
	pthread_mutex_lock(&s->lock);
	bool idle = s->phase == PHASE_IDLE;

	pthread_mutex_unlock(&s->lock);
	return idle;
}

static void end_writer(struct state *s)
{
	pthread_mutex_lock(&s->lock);
	s->phase = PHASE_STOP;
	pthread_cond_broadcast(&s->wake);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->writer, NULL);
}

static void drop_all(struct state *s)
{
	struct entry *e, *next;

	free_rows(s->job.rows);
	s->job.rows = NULL;
	HASH_ITER(hh, s->entries, e, next)
	drop_entry(s, e);
}

/* The writer is idle: closes the file as it is. */
static void leave_now(struct state *s)
{
	end_writer(s);
	state_db_close(s->db);
	s->db = NULL;
	drop_all(s);
}

void state_leave(struct state *s)
{
	s->left = true;
	if (s->db && is_idle(s))
		leave_now(s);
}

void state_tick(struct state *s, int64_t now_ms)
{
	int64_t pause = HEARTBEAT_MS;

	if (!s->db || !is_idle(s))
		return;
	if (s->left) {
		leave_now(s);
		return;
	}
	report(s);
	if (s->error != 0)
		pause = RETRY_MS;
	else if (s->changed || state_hosts_changed(s->hosts))
		pause = TICK_MS;
	if (s->last_ms == 0 || now_ms - s->last_ms >= pause)
		hand_over(s, now_ms);
}

static void wait_idle(struct state *s)
{
	pthread_mutex_lock(&s->lock);
	while (s->phase == PHASE_WORK)
		pthread_cond_wait(&s->wake, &s->lock);
	pthread_mutex_unlock(&s->lock);
}

/* Commits what is left (twice, when rows of a failed job are in front) and ends the thread. */
static void finish_writer(struct state *s)
{
	wait_idle(s);
	report(s);
	for (int i = 0; i < 2; i++) {
		hand_over(s, s->last_ms);
		wait_idle(s);
		report(s);
		if (s->error != 0 || !s->dirty)
			break;
	}
	end_writer(s);
}

void state_close(struct state *s)
{
	if (!s)
		return;
	if (s->db && s->left) {
		wait_idle(s);
		end_writer(s);
	} else if (s->db) {
		finish_writer(s);
	}
	state_db_close(s->db);
	drop_all(s);
	state_hosts_free(&s->hosts);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->wake);
	free(s->path);
	free(s);
}
