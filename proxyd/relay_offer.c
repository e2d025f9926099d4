/* The relay while its connection is only offered (offer.h): one command after the other, until the
 * connection is the client's own, or another one has taken its place.
 *
 * Nothing else is under way then, and the client's password is kept; so it is not for long.
 */
#include "proxyd/relay.h"

#include <string.h>

#include "lib/clock.h"

/* The offered connection is not what the client wants. */
static enum session_end exchange(struct relay *r)
{
	/* a SELECT may have been tried on it, and refused */
	bool untouched =
		follow_quiet(&r->follow) == NOT_CACHED_NOTHING && !r->follow.selected;
	enum session_end end = login_exchange(r->s, untouched);

	relay_follow(r);
	if (end != END_NONE)
		return end;
	/* it was repeated there, and answered the same */
	(void)fingerprint_repeat(&r->follow.fingerprint, offer_answers(&r->s->offer));
	follow_repeated(&r->follow, offer_asked(&r->s->offer));
	if (r->s->offer.answered == 0 && r->s->offer.asked_length == 0)
		relay_expect_repeat(r, r->s->offer_until);
	relay_count_early(r);
	return END_NONE;
}

/* The opening's next command is answered here, as a fresh connection would answer it. */
static enum session_end answer(struct relay *r, size_t length, const struct fingerprint_step *step)
{
	struct session *s = r->s;
	char bytes[OFFER_TAG + 2 * FINGERPRINT_LINE + 10];
	struct buf out = BUF_OVER(bytes);
	struct span line = buf_span(&s->in), tag = span_word(&line, ' ');

	if (buf_add(&out, step->untagged) < 0 ||
	    (step->untagged.n > 0 && buf_add_str(&out, "\r\n") < 0) || buf_add(&out, tag) < 0 ||
	    buf_add_char(&out, ' ') < 0 || buf_add(&out, step->tagged) < 0 ||
	    buf_add_str(&out, "\r\n") < 0)
		return END_INTERNAL;
	if (s->traced)
		relay_trace_answer(r, length, buf_span(&out));
	offer_answered(&s->offer);
	buf_consume(&s->in, length);
	s->from_client += length;
	return session_tell(s, buf_span(&out));
}

/* Will nobody know whether this command was answered with OK? */
static bool tag_hides_result(struct span line)
{
	return span_word(&line, ' ').n > FOLLOW_TAG_SHOWN;
}

/* One command on a connection that is only offered: how much of what waits may be shown to the
 * follower, *ret_most. */
static enum session_end consider(struct relay *r, size_t *ret_most)
{
	struct session *s = r->s;
	struct span in = buf_span(&s->in);
	const char *lf = memchr(in.p, '\n', in.n);
	size_t length = lf ? (size_t)(lf - in.p) + 1 : 0;
	struct fingerprint_step step;

	*ret_most = 0;
	if (length == 0 && in.n < s->in.cap)
		return END_NONE;
	if (length < 2 || in.p[length - 2] != '\r')
		return exchange(r);
	enum offer_verdict verdict =
		offer_judge(&s->offer, (struct span){ in.p, length - 2 }, &step);

	if (verdict == OFFER_ANSWER)
		return answer(r, length, &step);
	if (verdict == OFFER_SWAP || (verdict == OFFER_ENABLES && tag_hides_result(in)))
		return exchange(r);
	if (verdict == OFFER_ENABLES)
		offer_ask(&s->offer, (struct span){ in.p, length - 2 });
	*ret_most = length;
	return END_NONE;
}

bool relay_is_still(const struct relay *r)
{
	return r->approved == 0 && r->s->backend.in.len == 0 && relay_is_between_responses(r) &&
	       r->follow.outstanding_count == 0 && r->follow.client == FOLLOW_LINE &&
	       !r->backend_ended;
}

bool relay_is_offer_due(const struct relay *r)
{
	const struct buf *in = &r->s->in;

	return r->s->offer.open && relay_is_still(r) &&
	       (r->s->offer.asked_length > 0 || in->len == in->cap ||
		memchr(buf_span(in).p, '\n', in->len));
}

bool relay_is_offer_over(const struct relay *r)
{
	return r->s->offer.open && clock_ms() >= r->s->offer_until && relay_is_still(r);
}

bool relay_is_offer_stuck(const struct relay *r)
{
	return r->s->offer.open && !relay_is_still(r) &&
	       clock_ms() >= r->s->offer_until + relay_ms(r->s->settings->backend_timeout);
}

enum session_end relay_pass(struct relay *r)
{
	struct session *s = r->s;
	enum session_end end = END_NONE;
	size_t most = 0;

	if (r->first_waits)
		end = relay_select(r);
	if (r->first_waits)
		return end;
	while (s->offer.open && end == END_NONE && most == 0) {
		if (!relay_is_still(r))
			return END_NONE;
		bool asked = s->offer.asked_length > 0;

		if (offer_is_taken(&s->offer) || (asked && r->follow.last_ok)) {
			login_keep(s);
			break;
		}
		size_t waits = s->in.len;

		end = asked || relay_is_offer_over(r) ? exchange(r) : consider(r, &most);
		if (s->in.len == waits && most == 0)
			break;
	}
	if (end == END_NONE)
		relay_approve(r, s->offer.open ? most : SIZE_MAX);
	return end;
}
