/* Reading a backend's responses, and ending its connection. */
#include "proxyd/backend.h"

#include <errno.h>

#include "lib/clock.h"
#include "lib/fd.h"
#include "proxyd/follow.h"
#include "proxyd/io.h"
#include "proxyd/rewrite.h"

#define REFUSAL_LINES 10 /* of a refusal, at most */

/* The length of the whole response at the front of the buffer with its last line feed, or 0 when it
 * is not complete yet. */
static size_t response_length(struct span in)
{
	size_t at = 0;

	for (;;) {
		const char *lf = at < in.n ? memchr(in.p + at, '\n', in.n - at) : NULL;

		if (!lf)
			return 0;
		size_t end = (size_t)(lf - in.p) + 1;
		struct span line = { in.p + at, end - at - 1 };
		uint64_t length;
		bool sync;

		if (line.n > 0 && line.p[line.n - 1] == '\r')
			line.n--;
		/* only untagged data has literals; at > 0 is such a response's later line */
		bool data = at > 0 || (line.n > 0 && line.p[0] == '*' && !follow_is_status(line));

		if (!data || !follow_literal_at_end(line, &length, &sync))
			return end;
		if (length > in.n - end)
			return 0;
		at = end + (size_t)length;
	}
}

/* Reads once, and leaves the room that the relay needs when it takes over what is read too much. */
static int fill(struct backend *b, int64_t deadline)
{
	for (;;) {
		int n = io_fill_leaving(b->fd, &b->in, REWRITE_ROOM);

		if (n != -EAGAIN && n != -EINTR)
			return n;
		int r = io_wait(b->fd, POLLIN, deadline);

		if (r < 0)
			return r;
	}
}

int backend_next(struct backend *b, int64_t deadline, struct span *ret)
{
	for (;;) {
		struct span in = buf_span(&b->in);
		size_t length = response_length(in);

		if (length > 0) {
			b->taken = length;
			*ret = (struct span){ in.p, length - 1 };
			if (ret->n > 0 && ret->p[ret->n - 1] == '\r')
				ret->n--;
			return 0;
		}
		int n = fill(b, deadline);

		if (n <= 0)
			return n == 0 ? -ECONNRESET : n == -ENOBUFS ? -EMSGSIZE : n;
	}
}

void backend_taken(struct backend *b)
{
	buf_consume(&b->in, b->taken);
	b->taken = 0;
}

void backend_close(struct backend *b, bool polite)
{
	if (b->fd >= 0 && polite) {
		struct tag tag = tag_random();
		char bytes[40];
		struct buf out = BUF_OVER(bytes);

		if (buf_add(&out, tag_span(&tag)) == 0 && buf_add_str(&out, " LOGOUT\r\n") == 0)
			(void)io_write_now(b->fd, buf_span(&out));
	}
	fd_drop(&b->fd);
	b->in.off = b->in.len = 0;
	b->leased = b->examined = false;
}

int backend_prove(struct session *s)
{
	struct backend *b = &s->backend;
	int64_t deadline = clock_ms() + (int64_t)s->settings->backend_timeout * 1000;
	struct tag tag = tag_random();
	char bytes[40];
	struct buf out = BUF_OVER(bytes);
	struct span line, status;
	int r;

	(void)((r = buf_add(&out, tag_span(&tag))) || (r = buf_add_str(&out, " NOOP\r\n")) ||
	       (r = io_write(b->fd, buf_span(&out), deadline)) ||
	       (r = backend_next(b, deadline, &line)));
	if (r < 0)
		return r;
	/* Nothing is selected, so nothing but the completion may come. */
	bool good = tag_completes(&tag, line, &status) && span_istarts(status, SPAN("OK"));

	backend_taken(b);
	return good && b->in.len == 0 ? 0 : -EPROTO;
}

int backend_repeat(struct session *s, const struct fingerprint_step *step)
{
	struct backend *b = &s->backend;
	int64_t deadline = clock_ms() + (int64_t)s->settings->backend_timeout * 1000;
	struct tag tag = tag_random();
	char bytes[FINGERPRINT_LINE + 40];
	struct buf out = BUF_OVER(bytes);
	struct span line, status;
	int r;

	(void)((r = buf_add(&out, tag_span(&tag))) || (r = buf_add_char(&out, ' ')) ||
	       (r = buf_add(&out, step->command)) || (r = buf_add_str(&out, "\r\n")) ||
	       (r = io_write(b->fd, buf_span(&out), deadline)) ||
	       (r = backend_next(b, deadline, &line)));
	if (r == 0 && step->untagged.n > 0) {
		if (!span_eq(line, step->untagged))
			return -EPROTO; /* more may come or not */
		backend_taken(b);
		r = backend_next(b, deadline, &line);
	}
	if (r < 0)
		return r;
	bool same = tag_completes(&tag, line, &status) && span_istarts(status, SPAN("OK"));
	backend_taken(b);
	return same ? 0 : -EPROTO;
}

int backend_repeat_refused(struct session *s, struct span command)
{
	struct backend *b = &s->backend;
	int64_t deadline = clock_ms() + (int64_t)s->settings->backend_timeout * 1000;
	struct tag tag = tag_random();
	char bytes[FINGERPRINT_LINE + 40];
	struct buf out = BUF_OVER(bytes);
	struct span line, status;
	int r;

	(void)((r = buf_add(&out, tag_span(&tag))) || (r = buf_add_char(&out, ' ')) ||
	       (r = buf_add(&out, command)) || (r = buf_add_str(&out, "\r\n")) ||
	       (r = io_write(b->fd, buf_span(&out), deadline)));
	for (int lines = 0; r == 0 && lines < REFUSAL_LINES; lines++) {
		r = backend_next(b, deadline, &line);
		if (r < 0)
			return r;
		bool untagged = follow_is_status(line) && !span_istarts(line, SPAN("* BYE"));
		bool refused = tag_completes(&tag, line, &status) &&
			       !span_istarts(status, SPAN("OK"));

		backend_taken(b);
		if (!untagged)
			return refused ? 0 : -EPROTO;
	}
	return r < 0 ? r : -EPROTO;
}
