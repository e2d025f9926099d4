/* Logging in at a mail host with POP3 (RFC 1939 section 7, RFC 5034).
 *
 * USER and PASS carry all that stands behind them in their line, and every mail host knows them;
 * AUTH is used only for what they cannot carry: tokens, an authorization identity, blanks where a
 * server may cut them off. A line end in a name or password is refused, whoever sent it: the rest
 * would be a command. Sessions and errands log in here alike.
 */
#include "proxyd/pop3_backend.h"

#include <errno.h>

#include "lib/clock.h"
#include "lib/large.h"
#include "lib/sasl.h"
#include "proxyd/io.h"
#include "proxyd/pop3_line.h"

#define OUT_MAX	    (BACKEND_MESSAGE_MAX * 4 / 3 + 20)
#define SMALL	    380 /* bytes of names and password that most logins have: for these */
#define OUT_SMALL   (SMALL * 4 / 3 + 20) /* the stack does, and no page is touched for it */
#define CAPA_MOST   100 /* lines of a mail host's list */
#define LOGIN_STEPS 2	/* times the account's time-out: the longest that a login may take in all */

/* One login in progress. */
struct attempt {
	const struct backend_account *account;
	struct backend *b;
	int64_t deadline; /* of the whole login */
	struct span code; /* of the answer that decided; lives until backend_taken() */
	struct backend_answer *answer;
	bool mechanism; /* it offers the one that is needed, */
	bool utf8;	/* and UTF8 (RFC 6856) */
	bool xclient;	/* it offers XCLIENT to us */
	bool kin;	/* it is a proxy of our kind: counts proxies, whoever says XCLIENT */
};

static struct span text_of(const char *p, size_t n)
{
	return (struct span){ p, n };
}

static int64_t next_deadline(const struct attempt *a)
{
	int64_t step = clock_ms() + (int64_t)a->account->timeout * 1000;

	return step < a->deadline ? step : a->deadline;
}

static enum backend_verdict fail(struct attempt *a, const char *why)
{
	a->answer->why = why;
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
	a->answer->code = pop3_code_heard(a->code, &wrong);
	a->answer->why = "the mail host refused the login";
	backend_taken(a->b);
	return wrong ? BACKEND_REFUSED : BACKEND_FAILED;
}

/* What is neither +OK nor -ERR has come, or nothing. */
static enum backend_verdict odd(struct attempt *a, enum backend_unheard what, int status)
{
	return status < 0 ? broke(a, what, status) : fail(a, "the mail host's answer is not POP3");
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
		a->answer->code = pop3_code_heard(a->code, &wrong);
		if (wrong)
			a->answer->code = "";
	}
	note_greeting(a, line);
	backend_taken(a->b);
	if (status == POP3_OK)
		return BACKEND_ACCEPTED;
	a->b->unheard = UNHEARD_GREETING;
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
	const struct credentials *c = a->account->credentials;
	const struct {
		const char *command;
		struct span text;
		enum backend_unheard refused;
	} steps[] = {
		{ "USER ", text_of(a->b->user, a->b->user_length), UNHEARD_USER },
		{ "PASS ", text_of(c->secret, c->secret_length), UNHEARD_PASS },
	};

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		struct span line;
		int status = add_line(out, steps[i].command, steps[i].text);

		if (status == 0)
			status = say(a, out, &line);
		if (status == POP3_ERR) {
			a->b->unheard = steps[i].refused;
			return refused(a, line);
		}
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

	a->utf8 = a->utf8 || span_ieq(word, SPAN("UTF8"));
	a->xclient = a->xclient || span_ieq(word, SPAN("XCLIENT"));
	a->kin = a->kin ||
		 (span_ieq(word, SPAN("IMPLEMENTATION")) && span_istarts(line, SPAN("Keepwarm")));
	if (!span_ieq(word, SPAN("SASL")))
		return;
	while ((word = span_word(&line, ' ')).n > 0)
		a->mechanism = a->mechanism || span_ieq(word, mechanism);
}

/* Asks whether the mechanism and UTF8 are offered. 0 or -errno; without CAPA nothing is. */
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
	const struct caller_facts *facts = &a->account->caller;
	struct span line;
	int status = 0;

	if (a->b->greeted || (facts->tell && !a->xclient)) /* no greeting was seen that offers it */
		status = ask_capabilities(a, SPAN_NONE, out);
	if (status < 0 || (!a->kin && !(a->xclient && (facts->tell || facts->hops > 0))))
		return status;
	status = caller_add_xclient(facts, a->xclient, out);
	if (status == 0)
		status = say(a, out, &line);
	if (status < 0)
		return status;
	backend_taken(a->b);
	return status == POP3_OK || status == POP3_ERR ? 0 : -EPROTO;
}

/* The command, then the message when it is asked for: a server need not take a long line
 * (RFC 5034 section 4). Of a token that is refused there may be a report first. */
static enum backend_verdict login_by_auth(struct attempt *a, const struct sasl_row *row, bool token,
					  struct buf *out)
{
	struct span line;
	int status = add_line(out, "AUTH ", row->name);

	if (status == 0)
		status = say(a, out, &line);
	for (int step = 0; status == POP3_MORE && step < (token ? 2 : 1); step++) {
		if (step > 0)
			backend_keep_report(a->b, line);
		backend_taken(a->b);
		status = step == 0 ? backend_add_message(a->b, a->account->credentials, out)
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

/* Passes on the client's UTF8 where it is known. Elsewhere the login goes on without it, for the
 * client has only said what it can take, and a mail host that does not know the command sends
 * nothing else than it ever did. 0 or -errno. */
static int pass_on_utf8(struct attempt *a, struct buf *out)
{
	struct span line;

	if (!a->account->utf8 || !a->utf8)
		return 0;
	int status = add_line(out, "UTF8", SPAN_NONE);

	if (status == 0)
		status = say(a, out, &line);
	if (status < 0)
		return status;
	backend_taken(a->b);
	return status == POP3_OK || status == POP3_ERR ? 0 : -EPROTO;
}

/* Sends the credentials in the best way and reads the verdict. */
static enum backend_verdict authenticate(struct attempt *a, struct buf *out)
{
	const struct credentials *c = a->account->credentials;
	struct sasl_row row = { .name = { "PLAIN", 5 } };
	bool token = sasl_token_of(c->kind, &row), must = token || c->authzid_length > 0;
	bool is_plain = !must && pop3_is_plain(text_of(a->b->user, a->b->user_length)) &&
			pop3_is_plain(text_of(c->secret, c->secret_length));
	int r = is_plain && !a->account->utf8 ? 0 : ask_capabilities(a, row.name, out);

	if (r == 0)
		r = pass_on_utf8(a, out);
	if (r < 0)
		return broke(a, UNHEARD_LOGIN, r);
	if (a->mechanism && !is_plain)
		return login_by_auth(a, &row, token, out);
	if (!must)
		return login_by_user(a, out);
	a->answer->code = "CANNOT";
	return fail(a, token ? "the mail host does not offer the client's mechanism for tokens"
			     : "the mail host offers no SASL PLAIN, which an authorization "
			       "identity needs");
}

static bool fit_in_lines(const struct backend *b, const struct credentials *c)
{
	return pop3_is_one_line(text_of(b->user, b->user_length)) &&
	       pop3_is_one_line(text_of(c->authzid, c->authzid_length)) &&
	       pop3_is_one_line(text_of(c->secret, c->secret_length));
}

enum backend_verdict pop3_backend_log_in(struct backend *b, const struct backend_account *account,
					 struct backend_answer *ret)
{
	static LARGE char large[OUT_MAX];
	char small[OUT_SMALL];
	const struct credentials *c = account->credentials;
	bool is_large = c->kind != PROOF_PASSWORD ||
			c->authzid_length + b->user_length + c->secret_length > SMALL;
	struct buf out = { .data = is_large ? large : small,
			   .cap = is_large ? sizeof(large) : sizeof(small) };
	struct attempt a = { .account = account,
			     .b = b,
			     .deadline =
				     clock_ms() + (int64_t)account->timeout * 1000 * LOGIN_STEPS,
			     .answer = ret };

	b->unheard = HEARD_ALL;
	b->said_length = 0;
	b->lost = false;
	b->challenge = SPAN_NONE;
	*ret = (struct backend_answer){ .code = "", .why = "" };
	if (!fit_in_lines(b, c))
		return fail(&a, "line end in name or password");
	enum backend_verdict verdict = b->greeted ? BACKEND_ACCEPTED : read_greeting(&a);

	int r = verdict == BACKEND_ACCEPTED ? tell_caller(&a, &out) : 0;

	if (r < 0)
		verdict = broke(&a, UNHEARD_LOGIN, r);
	else if (verdict == BACKEND_ACCEPTED)
		verdict = authenticate(&a, &out);
	buf_wipe(&out);
	if (is_large)
		buf_release(&out);
	ret->wrong = verdict == BACKEND_REFUSED;
	return verdict;
}
