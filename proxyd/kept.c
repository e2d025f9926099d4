/* Talking about a mailbox that is left open on an idle connection.
 *
 * It is opened anew when its session is over, and never kept as the client had it: what that one
 * has been told in answers to its own FETCH the mail host does not tell again, so that a NOOP would
 * be silent about an answer that is stale. All commands of one step go out in one write; Dovecot
 * answers STATUS before a NOOP that still looks at the mailbox, so completions may come in any
 * order.
 */
#include "proxyd/kept.h"

#include <errno.h>

#include "lib/clock.h"
#include "proxyd/backend.h"
#include "proxyd/capability.h"
#include "proxyd/io.h"

enum { STEP_UNSELECT, STEP_EXAMINE, STEP_NOOP, STEP_STATUS, STEP_COUNT };

/* Commands on their way. */
struct talk {
	struct tag tags[STEP_COUNT];
	unsigned asked, answered, good; /* bits of the steps */
	struct select_text *text;	/* that is put together; NULL: none */
	struct span status;		/* that must come */
	bool odd;			/* something came that should not */
};

static int add_step(struct talk *t, unsigned step, const char *verb, struct span name,
		    const char *rest, struct buf *out)
{
	int r;

	t->tags[step] = tag_random();
	t->asked |= 1u << step;
	(void)((r = buf_add(out, tag_span(&t->tags[step]))) || (r = buf_add_str(out, verb)) ||
	       (r = buf_add(out, name)) || (r = buf_add_str(out, rest)));
	return r;
}

static bool is_under_way(const struct talk *t, unsigned step)
{
	return t->asked & ~t->answered & 1u << step;
}

static void take_untagged(struct talk *t, struct span line)
{
	if (is_under_way(t, STEP_UNSELECT))
		return;
	if (t->text && is_under_way(t, STEP_EXAMINE))
		t->odd = t->odd || select_add_line(t->text, line) < 0;
	else if (t->text)
		t->odd = t->odd || select_add_status(t->text, line) < 0;
	else if (t->status.n > 0 && span_eq(t->status, line))
		t->status.n = 0; /* once */
	else
		t->odd = true;
}

/* The completion of one of the commands? */
static bool take_tagged(struct talk *t, struct span line)
{
	struct span result;

	for (unsigned step = 0; step < STEP_COUNT; step++) {
		if (!is_under_way(t, step) || !tag_completes(&t->tags[step], line, &result))
			continue;
		t->answered |= 1u << step;
		if (span_istarts(result, SPAN("OK")))
			t->good |= 1u << step;
		if (step == STEP_EXAMINE)
			t->odd = t->odd || select_add_result(t->text, result) < 0;
		return true;
	}
	return false;
}

/* Sends the commands and reads until all are answered and nothing is behind. 0 or -errno. */
static int hold(struct session *s, struct talk *t, struct span commands)
{
	struct backend *b = &s->backend;
	int64_t deadline = clock_ms() + (int64_t)s->settings->backend_timeout * 1000;
	int r = io_write(b->fd, commands, deadline);

	while (r == 0 && t->answered != t->asked) {
		struct span line;

		r = backend_next(b, deadline, &line);
		if (r < 0)
			break;
		if (span_istarts(line, SPAN("* BYE")))
			r = -ECONNRESET;
		else if (span_istarts(line, SPAN("* ")))
			take_untagged(t, line);
		else if (!take_tagged(t, line))
			r = -EPROTO;
		backend_taken(b);
	}
	return r == 0 && b->in.len > 0 ? -EPROTO : r;
}

static bool is_good(const struct talk *t, unsigned step)
{
	return t->good & 1u << step;
}

bool kept_is_wanted(const struct session *s)
{
	struct span list = { s->backend.capabilities, s->backend.capabilities_length };

	return s->wishes && s->settings->select_cache && s->marks.fingerprint_length == 0 &&
	       capability_has(list, SPAN("UNSELECT"));
}

int kept_open(struct session *s, bool selected, bool *ret_kept)
{
	struct session_mailbox *m = s->mailbox;
	struct span name = { m->wish, m->wish_length };
	struct talk t = { .text = &m->kept };
	char bytes[2 * SELECT_NAME + 200];
	struct buf out = BUF_OVER(bytes);
	int r = select_begin(&m->kept, m->text, sizeof(m->text), name);

	if (r == 0 && selected)
		r = add_step(&t, STEP_UNSELECT, " UNSELECT\r\n", SPAN_NONE, "", &out);
	(void)(r || (r = add_step(&t, STEP_EXAMINE, " EXAMINE ", name, "\r\n", &out)) ||
	       (r = add_step(&t, STEP_NOOP, " NOOP\r\n", SPAN_NONE, "", &out)) ||
	       (r = add_step(&t, STEP_STATUS, " STATUS ", name, " " SELECT_STATUS "\r\n", &out)) ||
	       (r = hold(s, &t, buf_span(&out))));
	if (r == 0 && !is_good(&t, STEP_NOOP))
		r = -EPROTO;
	*ret_kept = r == 0 && !t.odd && is_good(&t, STEP_STATUS) && select_is_whole(&m->kept);
	return r;
}

int kept_ask(struct session *s, bool *ret_same)
{
	const struct select_text *kept = &s->mailbox->kept;
	struct talk t = { .status = select_status(kept) };
	char bytes[SELECT_NAME + 200];
	struct buf out = BUF_OVER(bytes);
	int r;

	(void)((r = add_step(&t, STEP_NOOP, " NOOP\r\n", SPAN_NONE, "", &out)) ||
	       (r = add_step(&t, STEP_STATUS, " STATUS ", select_name(kept),
			     " " SELECT_STATUS "\r\n", &out)) ||
	       (r = hold(s, &t, buf_span(&out))));
	if (r == 0 && !is_good(&t, STEP_NOOP))
		r = -EPROTO;
	*ret_same = r == 0 && !t.odd && is_good(&t, STEP_STATUS) && t.status.n == 0;
	return r;
}

int kept_close(struct session *s)
{
	struct talk t = { 0 };
	char bytes[50];
	struct buf out = BUF_OVER(bytes);
	int r;

	s->backend.examined = false;
	(void)((r = add_step(&t, STEP_UNSELECT, " UNSELECT\r\n", SPAN_NONE, "", &out)) ||
	       (r = hold(s, &t, buf_span(&out))));
	return r == 0 && !is_good(&t, STEP_UNSELECT) ? -EPROTO : r;
}

int kept_prove(struct session *s)
{
	bool same;
	int r = kept_ask(s, &same);

	if (r < 0 || same)
		return r;
	s->select_use = SELECT_MISS;
	return kept_close(s);
}
