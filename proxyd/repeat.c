/* Judging what was sent. A line that is not complete yet cannot have been carried out: it is judged
 * when its end has been sent. */
#include "proxyd/repeat.h"

#include "proxyd/follow.h"
#include "proxyd/verbs.h"

void repeat_begin(struct repeat *r, bool armed)
{
	r->armed = armed;
	r->length = 0;
}

/* One line without its line feed. */
static bool may_repeat(struct span line)
{
	uint64_t length;
	bool sync;

	if (line.n > 0 && line.p[line.n - 1] == '\r')
		line.n--;
	if (follow_literal_at_end(line, &length, &sync))
		return false;
	struct span tag = span_word(&line, ' '), verb = span_word(&line, ' ');

	return tag.n > 0 && verb_is_repeatable(verb, span_word(&line, ' '));
}

bool repeat_note(struct repeat *r, struct span bytes)
{
	if (!r->armed)
		return false;
	r->armed = bytes.n <= sizeof(r->sent) - r->length;
	if (!r->armed)
		return false;
	memcpy(r->sent + r->length, bytes.p, bytes.n);
	r->length += bytes.n;

	struct span rest = repeat_sent(r);
	const char *lf;

	while (r->armed && rest.n > 0 && (lf = memchr(rest.p, '\n', rest.n)) != NULL) {
		size_t n = (size_t)(lf - rest.p);

		r->armed = may_repeat((struct span){ rest.p, n });
		rest = span_from(rest, n + 1);
	}
	return r->armed;
}
