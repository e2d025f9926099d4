/* Who is traced.
 *
 * The table is the state file's (state_names.h), so it outlives us. A user is traced when the log
 * has his mark: until then he stands in the table as pending, so that nobody else takes his place.
 * XPROXY_TRACE has one user, as of old; the admin socket has others beside him.
 */
#include "cachebrokerd/tracing.h"

#include <errno.h>
#include <stdlib.h>

#include "cachebrokerd/protocol_log.h"
#include "cachebrokerd/state_names.h"
#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/kv.h"
#include "lib/log.h"

#define PENDING 0x100 /* among the bits of `by`, never in a file that is read */
#define BY_ANY	(STATEFILE_TRACE_COMMAND | STATEFILE_TRACE_ADMIN)

struct tracing {
	struct broker *broker;
	struct state_names *users;
	struct protocol_log *log;
};

/* One that is being started. */
struct start {
	struct tracing *tracing;
	tracing_done_fn *done;
	void *context;
	size_t length;
	char user[STATE_NAME_MAX];
};

static void say(int priority, const char *what, struct span user)
{
	char bytes[1100];
	struct buf line = BUF_OVER(bytes);

	if (buf_add_str(&line, what) == 0 && kv_add(&line, "user", user) == 0)
		(void)log_write(priority, buf_span(&line));
}

static void on_failed(void *context, int error)
{
	struct tracing *t = context;

	log_printf(LOG_WARNING, "protocol log %s: %s: tracing has ended for all users",
		   t->broker->config.protocol_log_filename,
		   error == -EOVERFLOW ? "protocol_log_max is reached" : strerror(-error));
	t->users->count = 0;
	state_traces_changed(t->broker->state);
	/* also those that joined when the disk had failed and this was not known here */
	for (struct client *c = t->broker->clients; c; c = c->next)
		tracing_leave(c);
}

struct tracing *tracing_new(struct broker *b)
{
	struct tracing *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->broker = b;
	t->users = state_traces_of(b->state);
	t->log = protocol_log_new(b->loop, b->config.protocol_log_filename,
				  b->config.protocol_log_max, on_failed, t);
	if (!t->log) {
		free(t);
		return NULL;
	}
	for (size_t i = 0; i < t->users->count; i++) {
		t->users->all[i].trace.by &= BY_ANY;
		say(LOG_NOTICE, "still traced:", state_name_text(&t->users->all[i]));
	}
	return t;
}

void tracing_free(struct tracing *t)
{
	if (t)
		protocol_log_free(t->log);
	free(t);
}

static bool is_traced(struct tracing *t, struct span user)
{
	const struct state_name *row = t->users->count > 0 ? state_names_find(t->users, user)
							   : NULL;

	return row && !(row->trace.by & PENDING);
}

static struct span user_of(const struct client *c)
{
	return (struct span){ c->lease.user, c->lease.user_length };
}

void tracing_join(struct client *c)
{
	struct tracing *t = c->broker->tracing;
	const struct msg m = { .type = MSG_TRACE };
	AUTO_FD fd = -1;

	if (!is_traced(t, user_of(c)))
		return;
	tracing_leave(c);
	int r = protocol_log_join(t->log, c->id, user_of(c), &fd);

	if (r == 0)
		c->traced = peer_send(c->peer, &m, fd) == 0;
	else
		say(LOG_WARNING, "a session cannot be traced, there are too many:", user_of(c));
}

void tracing_leave(struct client *c)
{
	if (c->traced)
		protocol_log_leave(c->broker->tracing->log, c->id);
	c->traced = false;
}

/* The mark stands: his sessions join. */
static void on_begun(void *context, int result)
{
	struct start *s = context;
	struct tracing *t = s->tracing;
	struct span user = { s->user, s->length };
	struct state_name *row = state_names_find(t->users, user);

	if (row && result == 0) {
		row->trace.by &= BY_ANY;
		say(LOG_NOTICE, "traced from now on:", user);
		for (struct client *c = t->broker->clients, *next; c; c = next) {
			next = c->next;
			if ((c->state == CLIENT_LEASED || c->orphan) && span_eq(user_of(c), user))
				tracing_join(c);
		}
	} else if (row) {
		state_names_remove(t->users, row);
	}
	state_traces_changed(t->broker->state);
	if (s->done)
		s->done(s->context, row || result < 0 ? result : -ECANCELED);
	free(s);
}

int tracing_start(struct tracing *t, struct span user, enum statefile_trace_by by,
		  tracing_done_fn *done, void *context)
{
	struct state_name *row = state_names_find(t->users, user);

	if (row) {
		row->trace.by |= by;
		state_traces_changed(t->broker->state);
		return 1;
	}
	struct start *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	row = state_names_add(t->users, user);
	if (!row) {
		free(s);
		return -ENOSPC;
	}
	row->trace = (struct statefile_trace){ .since = clock_wall(), .by = by | PENDING };
	*s = (struct start){
		.tracing = t, .done = done, .context = context, .length = user.n
	};
	memcpy(s->user, user.p, user.n);
	int r = protocol_log_ask(t->log, PROTOCOL_BEGIN, user, on_begun, s);

	if (r < 0) {
		state_names_remove(t->users, row);
		free(s);
	}
	return r;
}

static struct state_name *row_of_command(struct tracing *t)
{
	for (size_t i = 0; i < t->users->count; i++)
		if (t->users->all[i].trace.by & STATEFILE_TRACE_COMMAND)
			return &t->users->all[i];
	return NULL;
}

struct span tracing_user(struct tracing *t)
{
	const struct state_name *row = row_of_command(t);

	return row ? state_name_text(row) : SPAN_NONE;
}

int tracing_stop(struct tracing *t, struct span user, enum statefile_trace_by by,
		 tracing_done_fn *done, void *context)
{
	struct state_name *row =
		user.n > 0 ? state_names_find(t->users, user) : row_of_command(t);
	struct state_name gone = { .length = 0 };

	if (!row && by == STATEFILE_TRACE_ADMIN)
		return -ENOENT;
	if (row) {
		row->trace.by &= by == STATEFILE_TRACE_ADMIN ? 0 : ~(uint32_t)by;
		state_traces_changed(t->broker->state);
		if (row->trace.by & BY_ANY)
			return 1;
		gone = *row;
		state_names_remove(t->users, row);
		protocol_log_leave_user(t->log, state_name_text(&gone));
		say(LOG_NOTICE, "not traced any more:", state_name_text(&gone));
	}
	return protocol_log_ask(t->log, PROTOCOL_END, state_name_text(&gone), done, context);
}

int tracing_clear(struct tracing *t, tracing_done_fn *done, void *context)
{
	return protocol_log_ask(t->log, PROTOCOL_CLEAR, SPAN_NONE, done, context);
}

static int add_row(const struct state_name *row, struct buf *out)
{
	static const char *const by[] = { [0] = "nobody",
					  [STATEFILE_TRACE_COMMAND] = "XPROXY_TRACE",
					  [STATEFILE_TRACE_ADMIN] = "pimpstat",
					  [BY_ANY] = "both" };
	char bytes[1200];
	struct buf line = BUF_OVER(bytes);
	int r;

	(void)((r = kv_add(&line, "user", state_name_text(row))) ||
	       (r = kv_add_u64(&line, "since", (uint64_t)row->trace.since)) ||
	       (r = kv_add(&line, "by", span_str(by[row->trace.by & BY_ANY]))) ||
	       (r = buf_add_char(&line, '\n')));
	return r < 0 ? r : buf_add(out, buf_span(&line));
}

size_t tracing_list(struct tracing *t, size_t from, struct buf *out)
{
	for (size_t i = from; i < t->users->count; i++) {
		size_t before = out->len;

		if (add_row(&t->users->all[i], out) < 0) {
			out->len = before;
			return before > 0 ? i : 0;
		}
	}
	return 0;
}
