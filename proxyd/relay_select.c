/* The first command of a session, when mailboxes may be left open on idle connections (kept.h).
 *
 * On a connection with an open mailbox nothing is for the client before its first command. If that
 * opens the same mailbox in the same way and there is no news, the kept answer is its answer;
 * else UNSELECT goes out in front of it, and the answer to that is for nobody. The first command of
 * each session is what the next one is expected to begin with.
 */
#include "proxyd/relay.h"

#include <errno.h>

#include "lib/clock.h"
#include "proxyd/backend.h"
#include "proxyd/io.h"
#include "proxyd/kept.h"

void relay_expect_select(struct relay *r)
{
	const struct session *s = r->s;

	r->first_waits = s->backend.examined || (s->settings->select_cache && !s->offer.open);
	r->follow.selected = s->backend.examined;
}

/* The connection turned out to be of no use: another one takes its place. */
static enum session_end replace(struct relay *r, int why)
{
	if (why == -ECANCELED)
		return END_SHUTDOWN;
	r->s->backend.examined = r->follow.selected = false;
	return relay_replace_backend(r) ? END_NONE : END_BACKEND_LOST;
}

static enum session_end answer(struct relay *r, struct span tag)
{
	const struct select_text *kept = &r->s->mailbox->kept;
	struct buf *down = &r->s->backend.in;

	if (buf_add(down, select_lines(kept)) < 0 || buf_add(down, tag) < 0 ||
	    buf_add_char(down, ' ') < 0 || buf_add(down, select_result(kept)) < 0 ||
	    buf_add_str(down, "\r\n") < 0)
		return END_INTERNAL;
	r->looked_at = down->len;
	r->s->select_use = SELECT_HIT;
	r->s->backend.examined = false; /* from here on it is the client's own */
	relay_forget_repeat(r);
	return END_NONE;
}

enum session_end relay_unselect(struct relay *r)
{
	char bytes[50];
	struct buf out = BUF_OVER(bytes);

	r->s->select_use = SELECT_MISS;
	r->hidden = tag_random();
	if (buf_add(&out, tag_span(&r->hidden)) < 0 || buf_add_str(&out, " UNSELECT\r\n") < 0)
		return END_INTERNAL;
	int n = io_write(r->s->backend.fd, buf_span(&out),
			 clock_ms() + relay_ms(r->s->settings->backend_timeout));

	if (n < 0)
		return replace(r, n);
	r->hides = true;
	r->follow.selected = false;
	return END_NONE;
}

/* The first command on a connection with an open mailbox. *ret_answered: there is no more to do. */
static enum session_end serve(struct relay *r, bool examine, struct span tag, struct span name,
			      bool *ret_answered)
{
	struct session *s = r->s;
	bool same = false;

	if (examine && select_is_same(name, select_name(&s->mailbox->kept))) {
		int n = kept_ask(s, &same);

		if (n < 0)
			return replace(r, n);
	}
	*ret_answered = same;
	return same ? answer(r, tag) : relay_unselect(r);
}

enum session_end relay_select(struct relay *r)
{
	struct session *s = r->s;
	struct span in = buf_span(&s->in), tag, name = SPAN_NONE;
	const char *lf = memchr(in.p, '\n', in.n);
	size_t length = lf ? (size_t)(lf - in.p) + 1 : 0;
	bool answered = false;

	if (length == 0 && in.n < s->in.cap)
		return END_NONE;
	bool whole = length > 1 && in.p[length - 2] == '\r';
	struct span line = { in.p, whole ? length - 2 : 0 };
	bool examine = select_is_examine(line, &tag, &name);
	enum session_end end = END_NONE;

	r->first_waits = false;
	r->follow.selected = s->backend.examined; /* it may have been replaced meanwhile */
	s->wishes = examine && s->settings->select_cache;
	if (s->wishes) {
		memcpy(s->mailbox->wish, name.p, name.n);
		s->mailbox->wish_length = name.n;
	}
	if (s->backend.examined)
		end = serve(r, examine, tag, name, &answered);
	if (end == END_NONE && answered) {
		if (s->traced)
			relay_trace_answer(r, length, buf_span(&s->backend.in));
		buf_consume(&s->in, length);
		s->from_client += length;
	}
	return end;
}

/* One response of the mail host, which is for nobody. 0, 1 when it was the last such, -errno. */
static int hide_one(struct relay *r, int64_t deadline)
{
	struct backend *b = &r->s->backend;
	struct span line, result;
	int n = backend_next(b, deadline, &line);

	if (n < 0)
		return n;
	if (tag_completes(&r->hidden, line, &result))
		n = span_istarts(result, SPAN("OK")) ? 1 : -EPROTO;
	else if (!span_istarts(line, SPAN("* ")) || span_istarts(line, SPAN("* BYE")))
		n = -EPROTO;
	backend_taken(b);
	return n;
}

enum session_end relay_hide(struct relay *r)
{
	int64_t deadline = clock_ms() + relay_ms(r->s->settings->backend_timeout);
	int n = 0;

	while (n == 0)
		n = hide_one(r, deadline);
	r->hides = false;
	r->s->backend.examined = false;
	if (n < 0)
		return replace(r, n);
	relay_forget_repeat(r);
	relay_count_early(r);
	return END_NONE;
}
