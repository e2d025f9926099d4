/* The end of the relay: when it is over, and what the client is told.
 *
 * Of a client that has left, what is still on its way for it is read away within drain_bytes and
 * drain_time, so that the connection can be given back.
 */
#include "proxyd/relay.h"

#include "lib/clock.h"
#include "proxyd/io.h"

/* Nothing that could still be passed on is left of a client that sends no more. */
static bool is_all_passed_on(const struct relay *r)
{
	return r->approved == 0 && r->follow.outstanding_count < FOLLOW_OUTSTANDING &&
	       r->follow.client != FOLLOW_REFUSED &&
	       (r->follow.client != FOLLOW_WAIT || !r->follow.waits_for_idle);
}

/* DONE on behalf of a client that left IDLE without it. */
static enum session_end end_idle(struct relay *r)
{
	if (!r->follow.owes_done || r->approved > 0)
		return END_NONE;
	if (io_write(r->s->backend.fd, SPAN("DONE\r\n"),
		     clock_ms() + relay_ms(r->s->settings->backend_timeout)) < 0)
		return END_BACKEND_LOST;
	follow_sent_done(&r->follow);
	return END_NONE;
}

/* The client left: is there still something to wait for that makes the connection quiet? */
static bool may_become_quiet(const struct relay *r)
{
	return follow_quiet(&r->follow) == NOT_CACHED_BUSY &&
	       r->drained < r->s->settings->drain_bytes;
}

/* LOGOUT waits for the answers to what was sent before it, and for the client to take them. */
static bool logout_is_due(const struct relay *r)
{
	bool answered = (r->follow.outstanding_count == 0 || r->backend_ended) && r->looked_at == 0;

	return answered || clock_ms() >= r->logout_at + relay_ms(r->s->settings->backend_timeout);
}

static void note_leaving(struct relay *r, bool logout)
{
	if (logout && r->logout_at == 0)
		r->logout_at = clock_ms();
	if (r->client_ended && r->ended_at == 0)
		r->ended_at = clock_ms();
}

enum session_end relay_judge(struct relay *r)
{
	bool logout = r->follow.client == FOLLOW_LOGOUT && r->approved == 0;
	enum session_end end = END_NONE;

	note_leaving(r, logout);
	if (!logout && r->backend_ended && r->repeat.armed && relay_replace_backend(r))
		return END_NONE;
	if (!logout && r->backend_ended && (r->looked_at == 0 || r->client_gone))
		return r->backend_deaf ? END_BACKEND_LOST : END_BACKEND_CLOSED;
	if (logout || (r->client_ended && is_all_passed_on(r)))
		end = end_idle(r);
	if (end != END_NONE)
		return end;
	if (logout && !r->client_gone)
		return logout_is_due(r) ? END_LOGOUT : END_NONE;
	if (!r->client_ended)
		return END_NONE;
	if (clock_ms() < r->ended_at + relay_ms(r->s->settings->drain_time) &&
	    (!is_all_passed_on(r) || may_become_quiet(r)))
		return END_NONE;
	return logout ? END_LOGOUT : END_CLIENT_CLOSED;
}

void relay_say_goodbye(struct relay *r)
{
	char bytes[FOLLOW_TAG + 60];
	struct buf out = BUF_OVER(bytes);
	struct span tag = { r->follow.logout_tag, r->follow.logout_tag_length };

	if (relay_is_between_responses(r) && buf_add_str(&out, "* BYE LOGOUT received\r\n") == 0 &&
	    buf_add(&out, tag) == 0 && buf_add_str(&out, " OK Completed\r\n") == 0)
		session_tell_last(r->s, buf_span(&out));
}

void relay_say_bye(struct relay *r, enum session_end end)
{
	if (relay_is_between_responses(r) && !r->follow.bye && !r->client_gone)
		session_say_bye(r->s, end);
}

bool relay_may_say_logout(const struct relay *r)
{
	return r->approved == 0 && !r->follow.owes_done &&
	       (r->follow.client == FOLLOW_LINE || r->follow.client == FOLLOW_LOGOUT);
}
