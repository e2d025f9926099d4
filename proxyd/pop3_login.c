/* A login of POP3: the broker's lease, the mail host's verdict (pop3_backend.c), the client's
 * answer. The mail host's texts never come back to the client, its codes do.
 */
#include "proxyd/pop3.h"

#include "lib/fd.h"
#include "proxyd/announced.h"
#include "proxyd/backend.h"
#include "proxyd/oldlog.h"
#include "proxyd/pop3_backend.h"
#include "proxyd/pop3_line.h"
#include "proxyd/refusal.h"

static void send_outcome(struct session *s, enum backend_verdict verdict)
{
	static const enum msg_outcome outcomes[] = {
		[BACKEND_ACCEPTED] = OUTCOME_ACCEPTED,
		[BACKEND_REFUSED] = OUTCOME_REFUSED,
		[BACKEND_FAILED] = OUTCOME_FAILED,
	};
	struct msg m = { .type = MSG_OUTCOME, .OUTCOME = { .outcome = outcomes[verdict] } };

	(void)link_push(&s->link, &m, -1);
}

static enum login_result accept_client(struct session *s, enum session_end *ret_end)
{
	struct span user = session_claimed_user(s);

	memcpy(s->user, user.p, user.n);
	s->user_length = user.n;
	session_wipe_credentials(s); /* telling a slow client may take a while */
	*ret_end = session_tell(s, SPAN("+OK Logged in.\r\n"));
	oldlog_write(s, OLDLOG_NEW, SPAN_NONE);
	return *ret_end == END_NONE ? LOGIN_OK : LOGIN_OVER;
}

static enum login_result log_in_fresh(struct session *s, enum session_end *ret_end)
{
	const struct backend_account account = { .credentials = &s->credentials,
						 .caller = announced_facts(s),
						 .timeout = s->settings->backend_timeout,
						 .utf8 = s->utf8 };
	struct backend_answer answer;

	oldlog_write(s, OLDLOG_CREATING, SPAN_NONE);
	enum backend_verdict verdict = pop3_backend_log_in(&s->backend, &account, &answer);

	send_outcome(s, verdict);
	if (verdict == BACKEND_ACCEPTED)
		return accept_client(s, ret_end);
	backend_close(&s->backend, false);
	if (verdict != BACKEND_REFUSED)
		s->backend.challenge = SPAN_NONE;
	bool open = verdict == BACKEND_FAILED && !*answer.code;
	const struct refusal f = { .code = open ? "UNAVAILABLE" : answer.code,
				   .why = span_str(answer.why),
				   .line = oldlog_failure(&s->backend),
				   .more = { s->backend.said, s->backend.said_length } };

	return refusal_tell(s, SPAN_NONE, &f, ret_end);
}

static bool fit_in_lines(const struct credentials *c)
{
	return pop3_is_one_line((struct span){ c->user, c->user_length }) &&
	       pop3_is_one_line((struct span){ c->authzid, c->authzid_length }) &&
	       pop3_is_one_line((struct span){ c->secret, c->secret_length });
}

static enum login_result attempt(struct session *s, enum session_end *ret_end)
{
	struct msg reply;
	AUTO_FD fd = -1;

	if (s->credentials.refusal != 0)
		return refusal_tell_verdict(s, SPAN_NONE, ret_end);
	if (!fit_in_lines(&s->credentials))
		return refusal_tell_reason(s, SPAN_NONE, REFUSAL_UNKNOWN,
					   SPAN("line end in name or password"), ret_end);
	*ret_end = login_request_lease(s, false, &reply, &fd);
	if (*ret_end == END_NO_BROKER)
		return refusal_tell_reason(s, SPAN_NONE, REFUSAL_UNAVAILABLE,
					   SPAN("the broker did not answer"), ret_end);
	if (*ret_end != END_NONE)
		return LOGIN_OVER;
	if (reply.type == MSG_REFUSED)
		return refusal_tell_refused(s, SPAN_NONE, &reply.REFUSED, ret_end);
	if (reply.type != MSG_LEASED || (reply.LEASED.cached && !reply.LEASED.made)) {
		*ret_end = END_INTERNAL; /* a used connection of POP3 there must never be */
		return LOGIN_OVER;
	}
	login_take_lease(s, &reply.LEASED, take_fd(&fd));
	return s->backend.made ? accept_client(s, ret_end) : log_in_fresh(s, ret_end);
}

enum login_result pop3_login_try(struct session *s, enum session_end *ret_end)
{
	enum login_result result = attempt(s, ret_end);

	session_wipe_credentials(s);
	return result;
}

int pop3_add_refusal(struct buf *out, const char *code)
{
	const char *told = pop3_code_told(span_str(code));
	int r;

	(void)((r = buf_add_str(out, "-ERR ")) || (r = *told ? buf_add_char(out, '[') : 0) ||
	       (r = buf_add_str(out, told)) || (r = *told ? buf_add_str(out, "] ") : 0) ||
	       (r = buf_add_str(out, "Login failed.\r\n")));
	return r;
}
