/* A login of POP3: the broker's lease, the mail host's verdict, the client's answer.
 *
 * USER and PASS carry all that stands behind them in their line, and every mail host knows them;
 * AUTH is used only for what they cannot carry: tokens, an authorization identity, blanks where a
 * server may cut them off. A line end in a name or password is refused, whoever sent it: the rest
 * would be a command. The mail host's texts never come back to the client, its codes do.
 */
#include "proxyd/pop3.h"

#include <errno.h>

#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/large.h"
#include "lib/sasl.h"
#include "proxyd/announced.h"
#include "proxyd/backend.h"
#include "proxyd/io.h"
#include "proxyd/oldlog.h"
#include "proxyd/pop3_line.h"
#include "proxyd/refusal.h"

#define OUT_MAX	    (BACKEND_MESSAGE_MAX * 4 / 3 + 20)
#define CAPA_MOST   100 /* lines of a mail host's list */
#define LOGIN_STEPS 2	/* times backend_timeout: the longest that a login may take in all */

/* One login in progress. */
struct attempt {
	struct session *s;
	struct backend *b;
	int64_t deadline; /* of the whole login */
	struct span code; /* of the answer that decided; lives until backend_taken() */
	const char *inside, *why;
	bool mechanism; /* it offers the one that is needed */
	bool xclient;	/* it offers XCLIENT to us */
	bool kin;	/* it is a proxy of our kind: counts proxies, whoever says XCLIENT */
};

static struct span text_of(const char *p, size_t n)
{
	return (struct span){ p, n };
}

static int64_t next_deadline(const struct attempt *a)
{
	int64_t step = clock_ms() + (int64_t)a->s->settings->backend_timeout * 1000;

	return step < a->deadline ? step : a->deadline;
}

static enum backend_verdict fail(struct attempt *a, const char *why)
{
	a->why = why;
	return BACKEND_FAILED;
}

static enum backend_verdict broke(struct attempt *a, enum backend_unheard what, int error)
{
	a->b->unheard = what;
	return fail(a, backend_trouble(error));
}

/* Sends the line, and overwrites it; reads the answer's first line, which the caller takes with
 * backend_taken(). Its status, or -errno. */
static int say(struct attempt *a, struct buf *out, struct span *ret_line)
{
	int r = io_write(a->b->fd, buf_span(out), next_deadline(a));

	buf_wipe(out);
	out->off = out->len = 0;
	if (r == 0)
		r = backend_next(a->b, next_deadline(a), ret_line);
	return r < 0 ? r : (int)pop3_status_of(*ret_line, &a->code);
}

/* The answer is -ERR: which verdict, which code. */
static enum backend_verdict refused(struct attempt *a, struct span line)
{
	bool wrong;

	backend_keep_refusal(a->b, line);
	a->inside = pop3_code_heard(a->code, &wrong);
	a->why = "the mail host refused the login";
	backend_taken(a->b);
	return wrong ? BACKEND_REFUSED : BACKEND_FAILED;
}

/* What is neither +OK nor -ERR has come, or nothing. */
static enum backend_verdict odd(struct attempt *a, enum backend_unheard what, int status)
{
	return status < 0 ? broke(a, what, status)
			  : fail(a, "the mail host's answer is not POP3");
}

/* "+OK [XCLIENT] ..." is Dovecot's way to offer it without CAPA, and ours. */
static void note_greeting(struct attempt *a, struct span line)
{
	struct span offer = SPAN("+OK [XCLIENT] ");

	a->xclient = span_istarts(line, offer);
	a->kin = span_istarts(span_from(line, a->xclient ? offer.n : strlen("+OK ")),
			      SPAN("Keepwarm "));
}

/* A greeting of -ERR is no verdict on anybody: it has not been told who it is. */
static enum backend_verdict read_greeting(struct attempt *a)
{
	struct span line;
	int r = backend_next(a->b, next_deadline(a), &line);
	bool wrong;

	if (r < 0)
		return broke(a, UNHEARD_GREETING, r);
	enum pop3_status status = pop3_status_of(line, &a->code);

	if (status == POP3_ERR && a->code.n > 0) {
		a->inside = pop3_code_heard(a->code, &wrong);
		if (wrong)
			a->inside = "";
	}
	note_greeting(a, line);
	backend_taken(a->b);
	if (status == POP3_OK)
		return BACKEND_ACCEPTED;
	return fail(a, status == POP3_ERR ? "the mail host greets with -ERR"
					  : "the mail host's greeting is not POP3");
}

/* "COMMAND text" */
static int add_line(struct buf *out, const char *command, struct span text)
{
	int r;

	if (!pop3_is_one_line(text))
		return -EINVAL;
	(void)((r = buf_add_str(out, command)) || (r = buf_add(out, text)) ||
	       (r = buf_add_str(out, "\r\n")));
	return r;
}

static enum backend_verdict login_by_user(struct attempt *a, struct buf *out)
{
	const struct credentials *c = &a->s->credentials;
	const struct {
		const char *command;
		struct span text;
	} steps[] = {
		{ "USER ", text_of(a->b->user, a->b->user_length) },
		{ "PASS ", text_of(c->secret, c->secret_length) },
	};

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		struct span line;
		int status = add_line(out, steps[i].command, steps[i].text);

		if (status == 0)
			status = say(a, out, &line);
		if (status == POP3_ERR)
			return refused(a, line);
		if (status != POP3_OK)
			return odd(a, UNHEARD_LOGIN, status);
		backend_taken(a->b);
	}
	return BACKEND_ACCEPTED;
}

/* One line of the list (RFC 2449 section 5). */
static void note_capability(struct attempt *a, struct span line, struct span mechanism)
{
	struct span word = span_word(&line, ' ');

	a->xclient = a->xclient || span_ieq(word, SPAN("XCLIENT"));
	a->kin = a->kin || (span_ieq(word, SPAN("IMPLEMENTATION")) &&
			    span_istarts(line, SPAN("Keepwarm")));
	if (!span_ieq(word, SPAN("SASL")))
		return;
	while ((word = span_word(&line, ' ')).n > 0)
		a->mechanism = a->mechanism || span_ieq(word, mechanism);
}

/* Asks whether the mechanism is offered. 0 or -errno; without CAPA nothing is. */
static int ask_capabilities(struct attempt *a, struct span mechanism, struct buf *out)
{
	struct span line;
	int status = buf_add_str(out, "CAPA\r\n");

	if (status == 0)
		status = say(a, out, &line);
	if (status < 0)
		return status;
	backend_taken(a->b);
	if (status != POP3_OK)
		return status == POP3_ERR ? 0 : -EPROTO;
	for (int i = 0; i < CAPA_MOST; i++) {
		int r = backend_next(a->b, next_deadline(a), &line);

		if (r < 0)
			return r;
		bool last = span_eq(line, SPAN("."));

		note_capability(a, line, mechanism);
		backend_taken(a->b);
		if (last)
			return 0;
	}
	return -EMSGSIZE;
}

/* Tells the mail host who is calling, if it wants to know; that it does not is no failure. 0 or
 * -errno. */
static int tell_caller(struct attempt *a, struct buf *out)
{
	const struct caller_facts facts = announced_facts(a->s);
	struct span line;
	int status = 0;

	if (a->b->greeted || (facts.tell && !a->xclient)) /* no greeting was seen that offers it */
		status = ask_capabilities(a, SPAN_NONE, out);
	if (status < 0 || (!a->kin && !(a->xclient && (facts.tell || facts.hops > 0))))
		return status;
	status = caller_add_xclient(&facts, a->xclient, out);
	if (status == 0)
		status = say(a, out, &line);
	if (status < 0)
		return status;
	backend_taken(a->b);
	return status == POP3_OK || status == POP3_ERR ? 0 : -EPROTO;
}

/* The command, then the message when it is asked for: a server need not take a long line
 * (RFC 5034 section 4). Of a token that is refused there may be a report first. */
static enum backend_verdict login_by_auth(struct attempt *a, const struct sasl_row *row,
					  bool token, struct buf *out)
{
	struct span line;
	int status = add_line(out, "AUTH ", row->name);

	if (status == 0)
		status = say(a, out, &line);
	for (int step = 0; status == POP3_MORE && step < (token ? 2 : 1); step++) {
		if (step > 0)
			backend_keep_report(a->b, line);
		backend_taken(a->b);
		status = step == 0 ? backend_add_message(a->b, &a->s->credentials, out)
				   : add_line(out, "", sasl_oauth_answer(row->proof));
		if (status == 0)
			status = say(a, out, &line);
	}
	if (status == POP3_ERR)
		return refused(a, line);
	if (status != POP3_OK)
		return odd(a, UNHEARD_LOGIN, status);
	backend_taken(a->b);
	return BACKEND_ACCEPTED;
}

/* Sends the credentials in the best way and reads the verdict. */
static enum backend_verdict authenticate(struct attempt *a, struct buf *out)
{
	const struct credentials *c = &a->s->credentials;
	struct sasl_row row = { .name = { "PLAIN", 5 } };
	bool token = sasl_token_of(c->kind, &row), must = token || c->authzid_length > 0;

	if (!must && pop3_is_plain(text_of(a->b->user, a->b->user_length)) &&
	    pop3_is_plain(text_of(c->secret, c->secret_length)))
		return login_by_user(a, out);
	int r = ask_capabilities(a, row.name, out);

	if (r < 0)
		return broke(a, UNHEARD_LOGIN, r);
	if (a->mechanism)
		return login_by_auth(a, &row, token, out);
	if (!must)
		return login_by_user(a, out);
	a->inside = "CANNOT";
	return fail(a, token ? "the mail host does not offer the client's mechanism for tokens"
			     : "the mail host offers no SASL PLAIN, which an authorization "
			       "identity needs");
}

static enum backend_verdict log_in(struct attempt *a)
{
	static LARGE char bytes[OUT_MAX];
	struct buf out = BUF_OVER(bytes);

	a->b->unheard = HEARD_ALL;
	a->b->said_length = 0;
	a->b->lost = false;
	a->b->challenge = SPAN_NONE;
	enum backend_verdict verdict =
		a->b->greeted ? BACKEND_ACCEPTED : read_greeting(a);

	int r = verdict == BACKEND_ACCEPTED ? tell_caller(a, &out) : 0;

	if (r < 0)
		verdict = broke(a, UNHEARD_LOGIN, r);
	if (verdict == BACKEND_ACCEPTED)
		verdict = authenticate(a, &out);
	buf_wipe(&out);
	buf_release(&out);
	return verdict;
}

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
	struct attempt a = { .s = s,
			     .b = &s->backend,
			     .deadline = clock_ms() + (int64_t)s->settings->backend_timeout * 1000 *
							      LOGIN_STEPS,
			     .inside = "",
			     .why = "" };

	oldlog_write(s, OLDLOG_CREATING, SPAN_NONE);
	enum backend_verdict verdict = log_in(&a);

	send_outcome(s, verdict);
	if (verdict == BACKEND_ACCEPTED)
		return accept_client(s, ret_end);
	backend_close(&s->backend, false);
	if (verdict != BACKEND_REFUSED)
		s->backend.challenge = SPAN_NONE;
	const struct refusal f = { .code = verdict == BACKEND_FAILED && !*a.inside ? "UNAVAILABLE"
										   : a.inside,
				   .why = span_str(a.why),
				   .line = oldlog_failure(&s->backend),
				   .more = { s->backend.said, s->backend.said_length } };

	return refusal_tell(s, SPAN_NONE, &f, ret_end);
}

static bool fit_in_lines(const struct credentials *c)
{
	return pop3_is_one_line(text_of(c->user, c->user_length)) &&
	       pop3_is_one_line(text_of(c->authzid, c->authzid_length)) &&
	       pop3_is_one_line(text_of(c->secret, c->secret_length));
}

static enum login_result attempt(struct session *s, enum session_end *ret_end)
{
	struct msg reply;
	AUTO_FD fd = -1;

	if (!fit_in_lines(&s->credentials))
		return refusal_tell_reason(s, SPAN_NONE, REFUSAL_UNKNOWN,
					   SPAN("line end in name or password"), ret_end);
	*ret_end = login_request_lease(s, false, &reply, &fd);
	if (*ret_end == END_NO_BROKER)
		return refusal_tell_reason(s, SPAN_NONE, REFUSAL_UNAVAILABLE,
					   SPAN("the broker did not answer"), ret_end);
	if (*ret_end != END_NONE)
		return LOGIN_OVER;
	if (reply.type == MSG_REFUSED) {
		s->id = reply.REFUSED.session;
		return refusal_tell_reason(s, SPAN_NONE, reply.REFUSED.reason, reply.REFUSED.text,
					   ret_end);
	}
	if (reply.type != MSG_LEASED || reply.LEASED.cached) {
		*ret_end = END_INTERNAL; /* a used connection of POP3 there must never be */
		return LOGIN_OVER;
	}
	login_take_lease(s, &reply.LEASED, take_fd(&fd));
	return log_in_fresh(s, ret_end);
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

	(void)((r = buf_add_str(out, "-ERR ")) ||
	       (r = *told ? buf_add_char(out, '[') : 0) || (r = buf_add_str(out, told)) ||
	       (r = *told ? buf_add_str(out, "] ") : 0) ||
	       (r = buf_add_str(out, "Login failed.\r\n")));
	return r;
}
