/* Logging in at a mail host with what the client gave (RFC 9051 sections 6.2.2, 6.2.3, 7.1;
 * SASL-IR: RFC 4959; LITERAL+: RFC 7888; ID: RFC 2971; tokens: RFC 7628).
 *
 * One round trip where the mail host offers AUTH=PLAIN with SASL-IR; the password never goes to one
 * that says LOGINDISABLED and offers nothing else; its human texts never come back to the client.
 * A mail host that refuses a token first reports why, and waits for an answer that says nothing: it
 * gets that at once, so that no client keeps a mail host waiting, and the client has the report.
 */
#include "proxyd/backend.h"

#include <errno.h>

#include "lib/base64.h"
#include "lib/large.h"
#include "lib/clock.h"
#include "lib/sasl.h"
#include "proxyd/announced.h"
#include "proxyd/capability.h"
#include "proxyd/imap_args.h"
#include "proxyd/follow.h"
#include "proxyd/io.h"
#include "proxyd/sasl_oauth.h"

#define ID_OUT	    (SESSION_ID_MAX + CALLER_OUT_MAX)
#define OUT_MAX	    (BACKEND_MESSAGE_MAX * 2 + ID_OUT + 200) /* every byte escaped */
#define PREAUTH_OUT (ID_OUT + 1100)
#define READ_MOST   (64 * 1024) /* bytes of answers */
#define LOGIN_STEPS 2 /* times backend_timeout: the longest that a login may take in all */

/* One login in progress. */
struct attempt {
	const struct backend_account *account;
	struct backend *b;
	struct tag tag;
	struct span status; /* of the tagged completion */
	int64_t deadline;   /* of the whole login */
	size_t read;	    /* of the mail host's answers */
	bool accepts;	    /* what it says to the user is the user's to hear: from his login on */
	struct backend_answer *answer;
};

/* What a refusal's code says. Codes that are not listed are not passed on, and say nothing of the
 * password; a refusal without any code does. */
static const struct {
	const char *code;
	enum backend_verdict verdict;
	bool wrong;
} codes[] = {
	{ "AUTHENTICATIONFAILED", BACKEND_REFUSED, true },
	{ "AUTHORIZATIONFAILED", BACKEND_REFUSED, true },
	{ "EXPIRED", BACKEND_REFUSED, true },
	{ "PRIVACYREQUIRED", BACKEND_REFUSED, false },
	{ "CONTACTADMIN", BACKEND_REFUSED, false },
	{ "NOPERM", BACKEND_REFUSED, false },
	{ "LIMIT", BACKEND_FAILED, false },
	{ "UNAVAILABLE", BACKEND_FAILED, false },
	{ "INUSE", BACKEND_FAILED, false },
	{ "SERVERBUG", BACKEND_FAILED, false },
};

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

const char *backend_trouble(int error)
{
	switch (error) {
	case -ECONNRESET:
	case -EPIPE:
		return "the mail host closed the connection";
	case -ETIMEDOUT:
		return "the mail host did not answer within backend_timeout";
	case -EMSGSIZE:
		return "a response was too long";
	case -ECANCELED:
		return "this process was stopped";
	default:
		return "the connection broke";
	}
}

/* Why there is no verdict. */
static const char *broken(struct attempt *a, int error)
{
	a->b->lost = error == -ECONNRESET || error == -EPIPE;
	return backend_trouble(error);
}

/* The same for an answer that has not come. */
static const char *miss(struct attempt *a, enum backend_unheard what, int error)
{
	a->b->unheard = what;
	return broken(a, error);
}

void backend_keep_refusal(struct backend *b, struct span status)
{
	b->said_length = status.n < sizeof(b->said) ? status.n : sizeof(b->said);
	memcpy(b->said, status.p, b->said_length);
}

static void keep_capabilities(struct backend *b, struct span list)
{
	if (list.n > sizeof(b->capabilities))
		list.n = sizeof(b->capabilities);
	memcpy(b->capabilities, list.p, list.n);
	b->capabilities_length = list.n;
	b->capabilities_stale = false;
}

static struct span capabilities(const struct backend *b)
{
	return (struct span){ b->capabilities, b->capabilities_length };
}

void backend_keep_report(struct backend *b, struct span line)
{
	static LARGE char kept[BACKEND_REPORT_MAX];
	char decoded[BACKEND_REPORT_MAX];
	struct span text = span_from(line, 2);

	if (line.n < 3 || line.p[1] != ' ' || text.n > sizeof(kept) ||
	    base64_decode(text, decoded, sizeof(decoded)) < 0)
		return;
	memcpy(kept, text.p, text.n);
	b->challenge = (struct span){ kept, text.n };
}

/* Keeps a status response, ALERT mostly, which a client must show its user (RFC 9051 section 7.1).
 */
static void keep_notice(struct backend *b, struct span line)
{
	static LARGE char kept[BACKEND_NOTICES_MAX];
	size_t at = b->notices.n;

	if (!follow_is_status(line) || at + line.n + 2 > sizeof(kept))
		return;
	memcpy(kept + at, line.p, line.n);
	memcpy(kept + at + line.n, "\r\n", 2);
	b->notices = (struct span){ kept, at + line.n + 2 };
}

/* Reads until the tagged completion (1) or a continuation request (0), keeping capability lists; or
 * -errno. */
static int read_answer(struct attempt *a)
{
	for (;;) {
		struct span line, list;
		int r = backend_next(a->b, next_deadline(a), &line);

		if (r < 0)
			return r;
		a->read += a->b->taken;
		if (a->read > READ_MOST)
			return -EMSGSIZE;
		if (capability_in_line(line, &list))
			keep_capabilities(a->b, list);
		else if (a->accepts)
			keep_notice(a->b, line);
		if (span_istarts(line, SPAN("* BYE")))
			return -ECONNRESET;
		if (tag_completes(&a->tag, line, &a->status))
			return 1; /* the caller calls backend_taken() */
		bool continuation = line.n > 0 && line.p[0] == '+';

		if (continuation)
			backend_keep_report(a->b, line);
		backend_taken(a->b);
		if (continuation)
			return 0;
	}
}

/* Appends "tag text". */
static int begin_command(struct attempt *a, struct buf *out, const char *text)
{
	int r;

	a->tag = tag_random();
	(void)((r = buf_add(out, tag_span(&a->tag))) || (r = buf_add_str(out, text)));
	return r;
}

static int send_and_wipe(struct attempt *a, struct buf *out)
{
	int r = io_write(a->b->fd, buf_span(out), next_deadline(a));

	buf_wipe(out);
	return r;
}

/* Asks for the capability list. 0 or -errno. */
static int ask_capabilities(struct attempt *a)
{
	char bytes[60];
	struct buf out = BUF_OVER(bytes);
	int r = begin_command(a, &out, " CAPABILITY\r\n");

	if (r == 0)
		r = send_and_wipe(a, &out);
	if (r == 0)
		r = read_answer(a);
	if (r == 1)
		backend_taken(a->b);
	return r < 0 ? r : r == 1 && a->b->capabilities_length > 0 ? 0 : -EPROTO;
}

/* A greeting must be OK: PREAUTH is somebody else's login (RFC 9051 section 7.1.4). */
static const char *read_greeting(struct attempt *a)
{
	struct span line, list;
	int r = backend_next(a->b, next_deadline(a), &line);

	if (r < 0)
		return miss(a, UNHEARD_GREETING, r);
	bool ok = span_istarts(line, SPAN("* OK")), preauth = span_istarts(line, SPAN("* PREAUTH"));
	bool bye = span_istarts(line, SPAN("* BYE"));

	a->b->capabilities_length = 0;
	if (ok && capability_in_line(line, &list))
		keep_capabilities(a->b, list);
	backend_taken(a->b);
	if (ok)
		return NULL;
	return preauth ? "the mail host greets with PREAUTH, a login that is not this user's"
	       : bye   ? "the mail host greets with BYE"
		       : "the mail host's greeting is not IMAP";
}

/* The greeting, if it is not gone, and the list before login. NULL, or why there is none. */
static const char *greet(struct attempt *a)
{
	const char *why = a->b->greeted ? NULL : read_greeting(a);
	int r = why || a->b->capabilities_length > 0 ? 0 : ask_capabilities(a);

	return r < 0 ? broken(a, r) : why;
}

int backend_greet(struct backend *b, uint32_t timeout)
{
	const struct backend_account account = { .timeout = timeout };
	struct backend_answer answer = { .code = "" };
	struct attempt a = { .account = &account,
			     .b = b,
			     .deadline = clock_ms() + (int64_t)timeout * 1000 * LOGIN_STEPS,
			     .answer = &answer };

	return greet(&a) ? -EPROTO : 0;
}

static int add_one_id(struct span arguments, struct buf *out)
{
	struct tag tag = tag_random();
	int r;

	(void)((r = buf_add(out, tag_span(&tag))) || (r = buf_add_str(out, " ID ")) ||
	       (r = buf_add(out, arguments)) || (r = buf_add_str(out, "\r\n")));
	return r;
}

/* Is the mail host to be told how many proxies there were? One of our kind always is, so that two
 * that have each other for the mail host find out. */
static bool counts_proxies(const struct attempt *a)
{
	const struct caller_facts *f = &a->account->caller;

	return f->tell || f->hops > 0 || capability_has(capabilities(a->b), SPAN("XIMAPPROXY"));
}

/* Who is calling and what the client said with ID go in front, in the same packet; the answers are
 * read past. Two commands: a list that is too long must not cost the count of proxies. */
static int add_id(struct attempt *a, struct buf *out)
{
	char bytes[CALLER_OUT_MAX];
	struct buf facts = BUF_OVER(bytes);
	int r = 0;

	if (!capability_has(capabilities(a->b), SPAN("ID")))
		return 0;
	if (counts_proxies(a))
		(void)((r = caller_add_id(&a->account->caller, &facts)) ||
		       (r = add_one_id(buf_span(&facts), out)));
	return r == 0 && a->account->id.n > 0 ? add_one_id(a->account->id, out) : r;
}

/* The site's own command, which goes behind ID and in front of the login, so that both are answered
 * when this returns. NULL, or why there can be no login. */
static const char *say_preauth(struct attempt *a)
{
	static LARGE char bytes[PREAUTH_OUT];
	struct buf out = BUF_OVER(bytes);
	int r;

	(void)((r = add_id(a, &out)) || (r = begin_command(a, &out, " ")) ||
	       (r = buf_add(&out, a->account->preauth)) || (r = buf_add_str(&out, "\r\n")) ||
	       (r = send_and_wipe(a, &out)) || (r = read_answer(a)));
	a->b->unheard = UNHEARD_PREAUTH;
	if (r < 0)
		return broken(a, r);
	if (r == 0)
		return "the mail host wants more than the line of preauth_command";
	bool ok = span_istarts(a->status, SPAN("OK"));

	if (ok)
		a->b->unheard = HEARD_ALL;
	backend_taken(a->b);
	return ok ? NULL : "the mail host did not answer preauth_command with OK";
}

/* authzid NUL user NUL password (RFC 4616). */
static int write_plain(const struct credentials *c, struct span user, struct buf *out)
{
	int r;

	(void)((r = buf_add(out, (struct span){ c->authzid, c->authzid_length })) ||
	       (r = buf_add_char(out, '\0')) || (r = buf_add(out, user)) ||
	       (r = buf_add_char(out, '\0')) ||
	       (r = buf_add(out, (struct span){ c->secret, c->secret_length })));
	return r;
}

int backend_add_message(const struct backend *b, const struct credentials *c, struct buf *out)
{
	const struct span user = { b->user, b->user_length };
	static LARGE char message[BACKEND_MESSAGE_MAX], base64[BACKEND_MESSAGE_MAX * 4 / 3 + 4];
	struct buf plain = BUF_OVER(message);
	struct sasl_row row;
	int r = sasl_token_of(c->kind, &row)
			? sasl_oauth_write(c->kind, user,
					   (struct span){ c->secret, c->secret_length }, &plain)
			: write_plain(c, user, &plain);
	int n = r == 0 ? base64_encode(buf_span(&plain), base64, sizeof(base64)) : r;

	if (n > 0) {
		(void)((r = buf_add(out, (struct span){ base64, (size_t)n })) ||
		       (r = buf_add_str(out, "\r\n")));
		explicit_bzero(base64, (size_t)n);
	}
	buf_wipe(&plain);
	large_release(message, sizeof(message));
	large_release(base64, sizeof(base64));
	return n < 0 ? n : r;
}

static int add_message(struct attempt *a, struct buf *out)
{
	return backend_add_message(a->b, a->account->credentials, out);
}

/* Sends AUTHENTICATE and the message, in one step where that can be. 1: completed, see a->status;
 * 0: the mail host wants more; or -errno. */
static int authenticate_by(struct attempt *a, struct span mechanism, struct buf *out)
{
	bool initial = capability_has(capabilities(a->b), SPAN("SASL-IR"));
	int r;

	(void)((r = begin_command(a, out, " AUTHENTICATE ")) || (r = buf_add(out, mechanism)) ||
	       (r = initial ? buf_add_char(out, ' ') : buf_add_str(out, "\r\n")) ||
	       (r = initial ? add_message(a, out) : 0) || (r = send_and_wipe(a, out)) ||
	       (r = read_answer(a)));
	if (r != 0 || initial)
		return r;
	a->b->challenge = SPAN_NONE; /* it only asked for the message */
	(void)((r = add_message(a, out)) || (r = send_and_wipe(a, out)) || (r = read_answer(a)));
	return r;
}

/* 1: completed, see a->status; or -errno. */
static int login_by_plain(struct attempt *a, struct buf *out)
{
	int r = authenticate_by(a, SPAN("PLAIN"), out);

	return r == 0 ? -EPROTO : r;
}

/* The same. A report of an error is one step more. */
static int login_by_token(struct attempt *a, const struct sasl_row *mechanism, struct buf *out)
{
	int r = authenticate_by(a, mechanism->name, out);

	if (r == 0)
		(void)((r = buf_add(out, sasl_oauth_answer(mechanism->proof))) ||
		       (r = buf_add_str(out, "\r\n")) || (r = send_and_wipe(a, out)) ||
		       (r = read_answer(a)));
	return r == 0 ? -EPROTO : r;
}

/* Appends a string as a quoted string, or as a literal, for which it may have to wait for the mail
 * host. 1 when the mail host has refused meanwhile. */
static int add_string(struct attempt *a, struct buf *out, struct span value)
{
	size_t before = out->len;
	struct span list = capabilities(a->b);
	bool plus = capability_has(list, SPAN("LITERAL+")) ||
		    (capability_has(list, SPAN("LITERAL-")) && value.n <= 4096);
	int r = imap_add_quoted(out, value);

	if (r != -EINVAL)
		return r;
	out->len = before;
	(void)((r = buf_add_char(out, '{')) || (r = buf_add_u64(out, value.n)) ||
	       (r = buf_add_str(out, plus ? "+}\r\n" : "}\r\n")));
	if (r == 0 && !plus) {
		r = send_and_wipe(a, out);
		if (r == 0)
			r = read_answer(a);
	}
	return r == 0 ? buf_add(out, value) : r;
}

static int login_by_login(struct attempt *a, struct buf *out)
{
	const struct credentials *c = a->account->credentials;
	int r;

	(void)((r = begin_command(a, out, " LOGIN ")) ||
	       (r = add_string(a, out, (struct span){ a->b->user, a->b->user_length })) ||
	       (r = buf_add_char(out, ' ')) ||
	       (r = add_string(a, out, (struct span){ c->secret, c->secret_length })) ||
	       (r = buf_add_str(out, "\r\n")) || (r = send_and_wipe(a, out)) ||
	       (r = read_answer(a)));
	return r == 0 ? -EPROTO : r;
}

/* The tagged NO or BAD: which verdict, which code. */
static enum backend_verdict judge_refusal(struct attempt *a)
{
	struct span status = a->status, word = span_word(&status, ' ');
	struct span code = span_from(status, 1);

	backend_keep_refusal(a->b, a->status);
	if (!span_ieq(word, SPAN("NO")))
		return fail(a, "the mail host answered the login with BAD");
	a->answer->why = "the mail host refused the login";
	a->answer->wrong = code.n < 2 || code.p[0] != '[';
	if (a->answer->wrong)
		return BACKEND_REFUSED;
	code = span_from(code, 1);
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		size_t n = strlen(codes[i].code);

		if (code.n > n && code.p[n] == ']' && span_istarts(code, span_str(codes[i].code))) {
			a->answer->code = codes[i].code;
			a->answer->wrong = codes[i].wrong;
			return codes[i].verdict;
		}
	}
	return BACKEND_REFUSED;
}

/* Why the mail host cannot be told these credentials, or NULL. */
static const char *find_obstacle(struct attempt *a, bool offered, bool token)
{
	if (offered)
		return NULL;
	if (token) {
		/* not for lack of a good token, nor will it go away by itself (RFC 5530) */
		a->answer->code = "CANNOT";
		return "the mail host does not offer the client's mechanism for tokens";
	}
	if (capability_has(capabilities(a->b), SPAN("LOGINDISABLED")))
		return "the mail host offers no login without TLS; no password was sent";
	return a->account->credentials->authzid_length > 0
		       ? "the mail host offers no AUTH=PLAIN, which an authorization identity needs"
		       : NULL;
}

/* Is AUTH=NAME in the list? */
static bool offers(const struct backend *b, struct span name)
{
	char bytes[40];
	struct buf word = BUF_OVER(bytes);

	return buf_add_str(&word, "AUTH=") == 0 && buf_add(&word, name) == 0 &&
	       capability_has(capabilities(b), buf_span(&word));
}

/* Sends the credentials by the best mechanism on offer and reads the verdict. */
static enum backend_verdict authenticate(struct attempt *a)
{
	static LARGE char bytes[OUT_MAX];
	struct buf out = BUF_OVER(bytes);
	struct sasl_row row = { .name = { "PLAIN", 5 } };
	bool token = sasl_token_of(a->account->credentials->kind, &row);
	bool offered = offers(a->b, row.name);
	const char *why = find_obstacle(a, offered, token);

	if (why)
		return fail(a, why);
	why = a->account->preauth.n > 0 ? say_preauth(a) : NULL;

	if (why)
		return fail(a, why);
	int r = a->account->preauth.n > 0 ? 0 : add_id(a, &out);

	if (r == 0) {
		/* lists from here on are those after login */
		a->b->capabilities_stale = a->accepts = true;
		a->b->challenge = SPAN_NONE;
		r = token     ? login_by_token(a, &row, &out)
		    : offered ? login_by_plain(a, &out)
			      : login_by_login(a, &out);
	}
	buf_wipe(&out);
	buf_release(&out);
	if (!token) /* what asks for a password or a literal is no report */
		a->b->challenge = SPAN_NONE;
	if (r < 0)
		return fail(a, miss(a, UNHEARD_LOGIN, r));
	enum backend_verdict verdict =
		span_istarts(a->status, SPAN("OK")) ? BACKEND_ACCEPTED : judge_refusal(a);

	backend_taken(a->b);
	return verdict;
}

enum backend_verdict backend_log_in(struct backend *b, const struct backend_account *account,
				    struct backend_answer *ret)
{
	struct attempt a = { .account = account,
			     .b = b,
			     .deadline =
				     clock_ms() + (int64_t)account->timeout * 1000 * LOGIN_STEPS,
			     .answer = ret };

	b->unheard = HEARD_ALL;
	b->said_length = 0;
	b->lost = false;
	b->notices = SPAN_NONE;
	*ret = (struct backend_answer){ .code = "" };
	ret->why = greet(&a);
	if (ret->why)
		return BACKEND_FAILED;
	enum backend_verdict verdict = authenticate(&a);

	if (verdict != BACKEND_ACCEPTED)
		return verdict;
	int r = b->capabilities_stale && !account->list_can_wait ? ask_capabilities(&a) : 0;

	return r < 0 ? fail(&a, miss(&a, UNHEARD_LOGIN, r)) : BACKEND_ACCEPTED;
}

enum backend_verdict backend_login(struct session *s, bool list_can_wait, const char **ret_code,
				   const char **ret_why)
{
	const struct backend_account account = { .credentials = &s->credentials,
						 .id = { s->id_arguments, s->id_length },
						 .preauth = { s->backend.preauth,
							      s->backend.preauth_length },
						 .caller = announced_facts(s),
						 .timeout = s->settings->backend_timeout,
						 .list_can_wait = list_can_wait };
	struct backend_answer answer;
	enum backend_verdict verdict = backend_log_in(&s->backend, &account, &answer);

	*ret_code = answer.code;
	*ret_why = answer.why;
	return verdict;
}

int backend_ask_list(struct session *s)
{
	const struct backend_account account = { .timeout = s->settings->backend_timeout };
	struct attempt a = { .account = &account,
			     .b = &s->backend,
			     .deadline = clock_ms() + (int64_t)account.timeout * 1000,
			     .accepts = true };

	s->backend.capabilities_length = 0;
	return ask_capabilities(&a);
}
