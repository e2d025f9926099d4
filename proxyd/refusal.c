/* What becomes of a login that failed.
 *
 * A report about a token (RFC 7628 section 3.2.3) is told before the tagged answer; the client's
 * answer to it says nothing, but its "*" wants another tagged answer.
 */
#include "proxyd/refusal.h"

#include "lib/clock.h"
#include "lib/codes.h"
#include "lib/kv.h"
#include "lib/large.h"
#include "lib/log.h"
#include "proxyd/backend.h"
#include "proxyd/command_reader.h"
#include "proxyd/imap_args.h"
#include "proxyd/pop3.h"

#define REPORT_LINE (BACKEND_REPORT_MAX + 4)

/* What the client is told when there is no lease. */
static const struct {
	enum msg_refusal reason;
	const char *code;
	enum oldlog line;
} refusals[] = {
	{ REFUSAL_UNAVAILABLE, "UNAVAILABLE", OLDLOG_NO_HOST },
	{ REFUSAL_UNKNOWN, "AUTHENTICATIONFAILED", OLDLOG_REFUSED_HERE },
	{ REFUSAL_LIMIT, "LIMIT", OLDLOG_FAILED },
	{ REFUSAL_ROOM, "LIMIT", OLDLOG_NO_ROOM },
	{ REFUSAL_ATTEMPTS, "LIMIT", OLDLOG_FAILED },
	{ REFUSAL_SHUTDOWN, "UNAVAILABLE", OLDLOG_NO_HOST },
	{ REFUSAL_PASSWORD, "AUTHENTICATIONFAILED", OLDLOG_REFUSED_HERE },
	{ REFUSAL_SECRET, "AUTHENTICATIONFAILED", OLDLOG_FAILED },
};

/* The row of a reason; that of one which is not known is the first. */
static size_t row_of(uint32_t reason)
{
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
		if ((uint32_t)refusals[i].reason == reason)
			return i;
	return 0;
}

struct span session_claimed_user(const struct session *s)
{
	return (struct span){ s->credentials.user, s->credentials.user_length };
}

/* One line a failed login: what fail2ban and the like read. */
static void log_failure(struct session *s, const struct refusal *f)
{
	char bytes[LOG_LINE_MAX];
	struct buf line = BUF_OVER(bytes);

	if (s->settings->old_log) {
		oldlog_failed(s, f->line, f->code, f->more.n > 0 ? f->more : f->why);
		return;
	}
	if (buf_add_str(&line, "login failed") < 0 || kv_add_u64(&line, "session", s->id) < 0 ||
	    kv_add(&line, "user", session_claimed_user(s)) < 0 ||
	    kv_add(&line, "client", s->hello.client) < 0 ||
	    kv_add_u64(&line, "port", s->hello.client_port) < 0 ||
	    (s->said.address_length > 0 &&
	     kv_add(&line, "origin", (struct span){ s->said.address, s->said.address_length }) <
		     0) ||
	    kv_add(&line, "code", span_str(*f->code ? f->code : "none")) < 0 ||
	    kv_add(&line, "why", f->why) < 0)
		return;
	if (log_write(LOG_NOTICE, buf_span(&line)) == 0)
		return;
	struct msg m = { .type = MSG_LINE, .LINE = { .line = buf_span(&line) } };

	if (m.LINE.line.n > 1500)
		m.LINE.line.n = 1500;
	(void)link_push(&s->link, &m, -1); /* the logger was restarted: the broker writes it */
}

/* tag NO [CODE] LOGIN failed */
static enum session_end refuse(struct session *s, struct span tag, const char *code)
{
	char bytes[IMAP_TAG_MAX + 100];
	struct buf out = BUF_OVER(bytes);

	if (s->hello.service == SERVICE_POP3)
		return pop3_add_refusal(&out, code) < 0 ? END_INTERNAL
							: session_tell(s, buf_span(&out));
	if (buf_add(&out, tag) < 0 || buf_add_str(&out, " NO ") < 0 ||
	    (*code && (buf_add_char(&out, '[') < 0 || buf_add_str(&out, code) < 0 ||
		       buf_add_str(&out, "] ") < 0)) ||
	    buf_add_str(&out,
			s->credentials.sasl ? "AUTHENTICATE failed\r\n" : "LOGIN failed\r\n") < 0)
		return END_INTERNAL;
	return session_tell(s, buf_span(&out));
}

/* What RFC 9051 section 6.2.2 wants to be said to "*", whatever else there was to say. */
static enum session_end answer_cancelled(struct session *s, struct span tag)
{
	char bytes[IMAP_TAG_MAX + 100];
	struct buf out = BUF_OVER(bytes);

	if (s->hello.service == SERVICE_POP3)
		return session_tell(s, SPAN("-ERR Authentication cancelled.\r\n"));
	if (buf_add(&out, tag) < 0 || buf_add_str(&out, " BAD Authentication cancelled\r\n") < 0)
		return END_INTERNAL;
	return session_tell(s, buf_span(&out));
}

/* Passes on the mail host's report why it refuses a token. The client's answer says nothing, unless
 * it cancels; the mail host has been answered already. */
static enum session_end report_error(struct session *s, bool *ret_cancelled)
{
	static LARGE char bytes[REPORT_LINE];
	struct buf out = BUF_OVER(bytes);
	int64_t deadline = s->started + (int64_t)s->settings->login_timeout * 1000;
	struct span report = s->backend.challenge, line;

	s->backend.challenge = SPAN_NONE;
	session_wipe_credentials(s); /* a client may take its time */
	if (report.n == 0)
		return END_NONE;
	if (buf_add_str(&out, "+ ") < 0 || buf_add(&out, report) < 0 ||
	    buf_add_str(&out, "\r\n") < 0)
		return END_INTERNAL;
	enum session_end end = session_tell(s, buf_span(&out));

	if (end != END_NONE)
		return end;
	enum command_read r = command_read_line(s, deadline, &line, &end);

	if (r == COMMAND_END)
		return end;
	*ret_cancelled = r == COMMAND_WHOLE && span_eq(line, SPAN("*"));
	return command_skip(s, r, deadline);
}

enum login_result refusal_tell(struct session *s, struct span tag, const struct refusal *f,
			       enum session_end *ret_end)
{
	bool cancelled = false;

	log_failure(s, f);
	*ret_end = report_error(s, &cancelled);
	if (*ret_end == END_NONE)
		*ret_end = cancelled ? answer_cancelled(s, tag) : refuse(s, tag, f->code);
	return *ret_end == END_NONE ? LOGIN_REFUSED : LOGIN_OVER;
}

/* `code` is what a mail host has said, in the place of the reason's; empty: nothing. */
static enum login_result tell(struct session *s, struct span tag, uint32_t reason, const char *code,
			      struct span why, enum session_end *ret_end)
{
	size_t row = row_of(reason);
	struct refusal f = { .code = refusals[row].code, .line = refusals[row].line, .why = why };

	if (*code) {
		f.code = code;
		f.line = f.line == OLDLOG_NO_HOST ? OLDLOG_FAILED : f.line; /* it has answered */
	}
	if (f.line == OLDLOG_NO_HOST)
		oldlog_write(s, OLDLOG_CREATING, SPAN_NONE);
	return refusal_tell(s, tag, &f, ret_end);
}

enum login_result refusal_tell_reason(struct session *s, struct span tag, uint32_t reason,
				      struct span why, enum session_end *ret_end)
{
	return tell(s, tag, reason, "", why, ret_end);
}

enum login_result refusal_tell_refused(struct session *s, struct span tag,
				       const struct msg_REFUSED *refused,
				       enum session_end *ret_end)
{
	s->id = refused->session;
	return tell(s, tag, refused->reason, code_word(refused->code), refused->text, ret_end);
}

enum login_result refusal_tell_verdict(struct session *s, struct span tag,
				       enum session_end *ret_end)
{
	const struct credentials *c = &s->credentials;
	const struct span why = { c->secret, c->secret_length };

	return refusal_tell_reason(s, tag, c->refusal, why, ret_end);
}
