/* Giving a backend connection back.
 *
 * The barrier: UNSELECT, if a mailbox is or may be selected, and NOOP go out in one write under
 * random tags. When NOOP's completion has been read and nothing is behind it, everything the
 * session ever asked for has been answered. UNSELECT may be answered BAD (nothing was selected);
 * never CLOSE, which expunges (RFC 9051 section 6.4.1). A mail host without UNSELECT (Courier) is
 * asked to EXAMINE a mailbox that cannot exist: a SELECT or EXAMINE that fails leaves none selected
 * (section 6.3.2), and only NO says that it failed as it should.
 */
#include "proxyd/giveback.h"

#include <errno.h>

#include "lib/clock.h"
#include "proxyd/backend.h"
#include "proxyd/capability.h"
#include "proxyd/io.h"
#include "proxyd/kept.h"

static struct span capabilities(const struct session *s)
{
	return (struct span){ s->backend.capabilities, s->backend.capabilities_length };
}

static enum not_cached obstacle(const struct session *s, const struct follow *f)
{
	if (s->backend.fd < 0)
		return NOT_CACHED_BACKEND_GONE;
	if (!s->backend.leased)
		return NOT_CACHED_NO_LEASE;
	if (!s->settings->caching)
		return NOT_CACHED_OFF;
	enum not_cached reason = follow_quiet(f);

	if (reason != NOT_CACHED_NOTHING)
		return reason;
	return s->backend.in.len > 0 ? NOT_CACHED_BUSY : NOT_CACHED_NOTHING;
}

void giveback_note(struct session *s, const struct follow *f)
{
	const struct fingerprint *fp = &f->fingerprint;
	struct session_marks *marks = &s->marks;
	struct buf text = BUF_OVER(marks->fingerprint);

	if (fingerprint_write(fp, &text) < 0)
		(void)buf_add_char(&text, '?');
	marks->fingerprint_length = text.len;
	if (fingerprint_is_known(fp))
		marks->opening = (struct span){ fp->opening, fp->opening_length };
}

bool giveback_announce(struct session *s, const struct follow *f)
{
	const struct session_marks *marks = &s->marks;
	struct msg m = {
		.type = MSG_RETURNING,
		.RETURNING = { .fingerprint = { marks->fingerprint, marks->fingerprint_length } }
	};

	s->not_cached = obstacle(s, f);
	if (s->not_cached != NOT_CACHED_NOTHING)
		return false;
	if (link_push(&s->link, &m, -1) < 0) {
		s->not_cached = NOT_CACHED_NO_LEASE;
		return false;
	}
	return true;
}

/* Reads up to and with the completion of tag. Untagged data may come in front while a mailbox is
 * open; otherwise only status responses have a reason to. */
static int read_until(struct session *s, const struct tag *tag, bool selected, int64_t deadline,
		      struct span *ret_status)
{
	for (;;) {
		struct span line;
		int r = backend_next(&s->backend, deadline, &line);

		if (r < 0)
			return r;
		if (tag_completes(tag, line, ret_status))
			return 0; /* the caller calls backend_taken() */
		if (!span_istarts(line, SPAN("* ")) || span_istarts(line, SPAN("* BYE")) ||
		    (!selected && !follow_is_status(line)))
			return -EPROTO;
		backend_taken(&s->backend);
	}
}

/* Appends the command under `tag` that leaves no mailbox selected. The name is one that could exist
 * (INBOX. is Courier's only namespace), so that its NO comes from having looked for it. */
static int add_unselect(const struct tag *tag, bool has_unselect, struct buf *out)
{
	struct tag name = tag_random();
	int r;

	(void)((r = buf_add(out, tag_span(tag))) ||
	       (r = buf_add_str(out, has_unselect ? " UNSELECT" : " EXAMINE INBOX.")) ||
	       (r = has_unselect ? 0 : buf_add(out, tag_span(&name))) ||
	       (r = buf_add_str(out, "\r\n")));
	return r;
}

static int reset(struct session *s, bool selected)
{
	bool has_unselect = capability_has(capabilities(s), SPAN("UNSELECT"));
	struct tag unselect = tag_random(), noop = tag_random();
	int64_t deadline = clock_ms() + (int64_t)s->settings->backend_timeout * 1000;
	char bytes[100];
	struct buf out = BUF_OVER(bytes);
	struct span status;
	int r = 0;

	if (selected)
		r = add_unselect(&unselect, has_unselect, &out);
	(void)(r || (r = buf_add(&out, tag_span(&noop))) || (r = buf_add_str(&out, " NOOP\r\n")) ||
	       (r = io_write(s->backend.fd, buf_span(&out), deadline)));
	if (r == 0 && selected) {
		r = read_until(s, &unselect, true, deadline, &status);
		if (r == 0 && span_istarts(status, SPAN("NO")) == has_unselect)
			r = -EPROTO;
		if (r == 0)
			backend_taken(&s->backend);
	}
	if (r == 0)
		r = read_until(s, &noop, false, deadline, &status);
	if (r < 0)
		return r;
	bool good = span_istarts(status, SPAN("OK"));

	backend_taken(&s->backend);
	return good && s->backend.in.len == 0 ? 0 : -EPROTO;
}

void giveback_run(struct session *s, const struct follow *f)
{
	bool wanted = kept_is_wanted(s);
	int r = wanted ? kept_open(s, f->selected, &s->keeps) : 0;

	if (r == 0 && !s->keeps)
		r = reset(s, f->selected || wanted);
	s->giving = r == 0;
	if (s->giving)
		return;
	s->not_cached = NOT_CACHED_RESET_FAILED;
	backend_close(&s->backend, false);
}
