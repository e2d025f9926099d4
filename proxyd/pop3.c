/* POP3 before login: the proxy's own, since no mail host is known yet.
 *
 * What a client may rely on is said before anybody knows which mail host it will be: so only what
 * every one does, or what the proxy itself does. After login CAPA is the mail host's. LANG is
 * answered, and not in the list: after login it is the mail host's, too, and few have it. APOP is
 * the proxy's own: its challenge must be one that no client and no session can choose.
 */
#include "proxyd/pop3.h"

#include <errno.h>

#include "lib/clock.h"
#include "lib/sasl.h"
#include "proxyd/announced.h"
#include "proxyd/command_reader.h"
#include "proxyd/pop3_line.h"
#include "proxyd/sasl_challenge.h"
#include "proxyd/sasl_client.h"
#include "proxyd/tls.h"
#include "proxyd/tracer.h"

#define APOP_DIGEST 32 /* MD5, in hex */

/* What the dialogue shares: how long it may last, how often it may fail. */
struct dialogue {
	struct session *s;
	int64_t deadline;
	unsigned errors;
	unsigned failed_logins;
	bool logged_in;
	size_t user_length; /* of USER's name, which outlives a PASS that was refused; 0: none */
	char user[SESSION_USER_MAX];
	bool command_gone; /* the command is no longer in the buffer */
};

/* `args` is all that stands behind the command and one blank. */
typedef enum session_end command_fn(struct dialogue *d, struct span args);

/* An answer to something wrong: only so many of them. */
static enum session_end complain(struct dialogue *d, struct span text)
{
	enum session_end end = session_tell(d->s, text);

	if (end == END_NONE && ++d->errors >= d->s->settings->max_errors)
		end = END_TOO_MANY_ERRORS;
	return end;
}

/* Appends the offered mechanisms, each behind `before` and in front of `behind`. */
static int add_mechanisms(const struct session *s, const char *before, const char *behind,
			  struct buf *out)
{
	struct sasl_row row;
	int r = 0;

	for (size_t i = 0; r == 0 && sasl_row_at(i, &row); i++)
		if (tls_mechanisms(s) & row.bit)
			(void)((r = buf_add_str(out, before)) || (r = buf_add(out, row.name)) ||
			       (r = buf_add_str(out, behind)));
	return r;
}

/* A mail host without TOP or UIDL is hard to find, and some clients look for them here. */
static enum session_end on_capa(struct dialogue *d, struct span args)
{
	char bytes[400];
	struct buf out = BUF_OVER(bytes);
	const struct session *s = d->s;
	bool may_log_in = tls_may_log_in(s);
	int r;

	(void)args;
	(void)((r = buf_add_str(&out, "+OK Capabilities follow\r\nTOP\r\nUIDL\r\nRESP-CODES\r\n"
				      "AUTH-RESP-CODE\r\nPIPELINING\r\n")) ||
	       (r = tls_is_offered(s) ? buf_add_str(&out, "STLS\r\n") : 0) ||
	       (r = announced_trusts(s) ? buf_add_str(&out, "XCLIENT\r\n") : 0) ||
	       (r = may_log_in ? buf_add_str(&out, "UTF8 USER\r\nUSER\r\n") : 0));
	if (r == 0 && may_log_in && (tls_mechanisms(s) & ~(uint32_t)SASL_APOP))
		(void)((r = buf_add_str(&out, "SASL")) || (r = add_mechanisms(s, " ", "", &out)) ||
		       (r = buf_add_str(&out, "\r\n")));
	if (r < 0 || buf_add_str(&out, "IMPLEMENTATION Keepwarm\r\n.\r\n") < 0)
		return END_INTERNAL;
	return session_tell(d->s, buf_span(&out));
}

static enum session_end on_quit(struct dialogue *d, struct span args)
{
	enum session_end end = session_tell(d->s, SPAN("+OK Bye.\r\n"));

	(void)args;
	return end == END_NONE ? END_LOGOUT : end;
}

/* The command, which holds a password, leaves the buffer before anything takes time. */
static void drop_command(struct dialogue *d)
{
	if (!d->command_gone)
		(void)command_skip(d->s, COMMAND_WHOLE, d->deadline);
	d->command_gone = true;
}

static enum session_end try_login(struct dialogue *d)
{
	enum session_end end = END_NONE;

	drop_command(d);
	switch (pop3_login_try(d->s, &end)) {
	case LOGIN_OK:
		d->logged_in = true;
		return END_NONE;
	case LOGIN_REFUSED:
		if (d->s->traced)
			tracer_end();
		return ++d->failed_logins >= d->s->settings->login_attempts ? END_TOO_MANY_LOGINS
									    : END_NONE;
	case LOGIN_OVER:
		break;
	}
	return end;
}

static enum session_end on_user(struct dialogue *d, struct span args)
{
	session_wipe_credentials(d->s);
	d->user_length = 0;
	if (args.n == 0)
		return complain(d, SPAN("-ERR A name is needed.\r\n"));
	if (args.n > sizeof(d->user))
		return complain(d, SPAN("-ERR [AUTH] Login failed.\r\n"));
	memcpy(d->user, args.p, args.n);
	d->user_length = args.n;
	return session_tell(d->s, SPAN("+OK Password, please.\r\n"));
}

static enum session_end on_pass(struct dialogue *d, struct span args)
{
	struct credentials *to = &d->s->credentials;

	if (d->user_length == 0)
		return complain(d, SPAN("-ERR USER comes first.\r\n"));
	if (args.n == 0)
		return complain(d, SPAN("-ERR A password is needed.\r\n"));
	if (args.n > sizeof(to->secret))
		return complain(d, SPAN("-ERR [AUTH] Login failed.\r\n"));
	memcpy(to->user, d->user, d->user_length);
	to->user_length = d->user_length;
	memcpy(to->secret, args.p, args.n);
	sasl_client_note_secret(to, args.n);
	to->secret_length = args.n;
	to->authzid_length = 0;
	to->kind = PROOF_PASSWORD;
	to->sasl = false;
	return try_login(d);
}

/* What AUTH alone meant before there was a standard, and some clients still say. */
static enum session_end list_mechanisms(struct dialogue *d)
{
	char bytes[300];
	struct buf out = BUF_OVER(bytes);

	if (buf_add_str(&out, "+OK Mechanisms follow\r\n") < 0 ||
	    add_mechanisms(d->s, "", "\r\n", &out) < 0 || buf_add_str(&out, ".\r\n") < 0)
		return END_INTERNAL;
	return session_tell(d->s, buf_span(&out));
}

static enum session_end refuse_message(struct dialogue *d, int error)
{
	if (error == -ECANCELED)
		return complain(d, SPAN("-ERR Authentication cancelled.\r\n"));
	if (error == -ENOBUFS)
		return complain(d, SPAN("-ERR [AUTH] Login failed.\r\n"));
	if (error == -ENODATA)
		return complain(d, SPAN("-ERR A user name is needed with the token.\r\n"));
	return complain(d, SPAN("-ERR Invalid authentication data.\r\n"));
}

static enum session_end on_auth(struct dialogue *d, struct span args)
{
	struct span name = span_word(&args, ' '), initial = span_word(&args, ' ');
	bool has_initial = initial.n > 0;

	if (name.n == 0)
		return list_mechanisms(d);
	session_wipe_credentials(d->s);
	d->user_length = 0;
	const struct sasl_client *m = sasl_client_find(d->s, name);

	if (!m)
		return complain(d, SPAN("-ERR This mechanism is not offered.\r\n"));
	int r = sasl_client_begin(d->s, m, initial, has_initial);

	drop_command(d);
	enum session_end end =
		r == 0 ? sasl_client_go_on(d->s, m, has_initial, d->deadline, &r) : END_NONE;

	if (end == END_NONE && r == 0)
		return try_login(d);
	session_wipe_credentials(d->s);
	return end == END_NONE ? refuse_message(d, r) : end;
}

/* RFC 1939 section 7. No mail host could be asked: the challenge is ours. */
static enum session_end on_apop(struct dialogue *d, struct span args)
{
	struct credentials *to = &d->s->credentials;
	int r = 0;

	session_wipe_credentials(d->s);
	d->user_length = 0;
	if (d->s->apop == 0)
		return complain(d, SPAN("-ERR There is no APOP here.\r\n"));
	if (args.n == 0 || args.n > SESSION_USER_MAX + 1 + APOP_DIGEST)
		return complain(d, SPAN("-ERR A name and a digest are needed.\r\n"));
	memcpy(to->secret, args.p, args.n);
	sasl_client_note_secret(to, args.n);
	to->secret_length = args.n;
	to->authzid_length = 0;
	to->kind = PROOF_VERIFIED;
	to->sasl = true;
	to->mechanism = SPAN("APOP");
	drop_command(d);
	enum session_end end = sasl_challenge_apop(d->s, d->deadline, &r);

	if (end == END_NONE && r == 0)
		return try_login(d);
	session_wipe_credentials(d->s);
	return end == END_NONE ? refuse_message(d, r) : end;
}

/* RFC 6856 section 2.1: from now on the client takes messages and texts in UTF-8. It is told the
 * mail host with the login, if that knows the command. */
static enum session_end on_utf8(struct dialogue *d, struct span args)
{
	if (args.n > 0)
		return complain(d, SPAN("-ERR UTF8 takes no arguments.\r\n"));
	d->s->utf8 = true;
	return session_tell(d->s, SPAN("+OK UTF-8 is welcome.\r\n"));
}

/* RFC 6856 section 3: our own texts, up to the login, have one language. */
static enum session_end on_lang(struct dialogue *d, struct span args)
{
	struct span tag = span_word(&args, ' ');

	if (args.n > 0)
		return complain(d, SPAN("-ERR LANG takes one language.\r\n"));
	if (tag.n == 0)
		return session_tell(d->s, SPAN("+OK Languages follow\r\nen English\r\n"
					       "i-default English\r\n.\r\n"));
	if (span_eq(tag, SPAN("*")) || span_ieq(tag, SPAN("en")) || span_istarts(tag, SPAN("en-")))
		return session_tell(d->s, SPAN("+OK en English\r\n"));
	if (span_ieq(tag, SPAN("i-default")))
		return session_tell(d->s, SPAN("+OK i-default English\r\n"));
	return complain(d, SPAN("-ERR There is only English here.\r\n"));
}

/* Whatever else the client sends before it has its answer could have been put there by somebody
 * between, to be taken for what came inside of TLS: the session ends. */
static enum session_end on_stls(struct dialogue *d, struct span args)
{
	if (args.n > 0)
		return complain(d, SPAN("-ERR STLS takes no arguments.\r\n"));
	if (d->s->stream == STREAM_TLS)
		return complain(d, SPAN("-ERR TLS is active already.\r\n"));
	if (!tls_is_offered(d->s))
		return complain(d, SPAN("-ERR There is no TLS here.\r\n"));
	enum session_end end = tls_check_silence(d->s);

	if (end == END_NONE && d->s->link.sock < 0)
		end = session_meet(d->s);
	if (end == END_NONE)
		end = session_tell(d->s, SPAN("+OK Begin TLS now.\r\n"));
	if (end != END_NONE)
		return end;
	session_wipe_credentials(d->s); /* a name from before is nobody's (RFC 2595 section 4) */
	d->user_length = 0;
	d->s->utf8 = false;
	drop_command(d);
	return tls_begin(d->s);
}

/* Dovecot's command, by which a proxy says whom it serves. That a login has come through so many
 * proxies is heard from anybody. */
static enum session_end on_xclient(struct dialogue *d, struct span args)
{
	struct caller_said said;

	caller_read_xclient(args, &said);
	announced_note(d->s, &said);
	if (said.address_length > 0 && !announced_trusts(d->s))
		return complain(d, SPAN("-ERR You are not in trusted_addresses.\r\n"));
	return session_tell(d->s, SPAN("+OK Noted.\r\n"));
}

static const struct {
	struct span name;
	command_fn *run;
	bool private; /* it says a name or a password */
} commands[] = {
	{ { "CAPA", 4 }, on_capa, false },	 { { "USER", 4 }, on_user, true },
	{ { "PASS", 4 }, on_pass, true },	 { { "AUTH", 4 }, on_auth, true },
	{ { "STLS", 4 }, on_stls, false },	 { { "QUIT", 4 }, on_quit, false },
	{ { "UTF8", 4 }, on_utf8, false },	 { { "LANG", 4 }, on_lang, false },
	{ { "XCLIENT", 7 }, on_xclient, false }, { { "APOP", 4 }, on_apop, true },
};

static enum session_end run_command(struct dialogue *d, struct span line)
{
	const char *blank = line.n > 0 ? memchr(line.p, ' ', line.n) : NULL;
	struct span verb = { line.p, blank ? (size_t)(blank - line.p) : line.n };
	struct span args = span_from(line, verb.n + 1);

	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (!span_ieq(verb, commands[i].name))
			continue;
		if (commands[i].private && !tls_may_log_in(d->s))
			return complain(d, SPAN("-ERR No login without TLS.\r\n"));
		return commands[i].run(d, args);
	}
	return complain(d, SPAN("-ERR Please log in first.\r\n"));
}

static enum session_end judge(struct dialogue *d, enum command_read what, struct span line)
{
	if (what != COMMAND_WHOLE)
		return complain(d, SPAN("-ERR Line too long.\r\n"));
	if (!pop3_is_one_line(line))
		return complain(d, SPAN("-ERR Invalid characters in command.\r\n"));
	return run_command(d, line);
}

bool pop3_greets_by_broker(const struct session *s)
{
	return s->hello.service == SERVICE_POP3 && tls_may_log_in(s) &&
	       (tls_mechanisms(s) & SASL_APOP);
}

enum session_end pop3_greet(struct session *s)
{
	struct span challenge = SPAN_NONE;
	char bytes[512];
	struct buf out = BUF_OVER(bytes);
	enum session_end end = pop3_greets_by_broker(s) ? sasl_challenge_greet(s, &challenge)
							: END_NONE;
	int r;

	if (end != END_NONE)
		return end;
	/* the code saves Dovecot's proxy a CAPA */
	(void)((r = buf_add_str(&out, announced_trusts(s) ? "+OK [XCLIENT] Keepwarm ready."
							  : "+OK Keepwarm ready.")) ||
	       (r = challenge.n > 0 ? buf_add_char(&out, ' ') : 0) ||
	       (r = buf_add(&out, challenge)) || (r = buf_add_str(&out, "\r\n")));
	return r < 0 ? END_INTERNAL : session_tell(s, buf_span(&out));
}

enum session_end pop3_run(struct session *s)
{
	struct dialogue d = { .s = s,
			      .deadline = s->started + (int64_t)s->settings->login_timeout * 1000 };
	enum session_end end = END_NONE;

	while (end == END_NONE && !d.logged_in) {
		struct span line;
		enum command_read what = command_read_line(s, d.deadline, &line, &end);

		d.command_gone = false;
		if (what == COMMAND_END)
			break;
		end = judge(&d, what, line);
		if (!d.command_gone && (end == END_NONE || what == COMMAND_WHOLE)) {
			enum session_end skipped = command_skip(s, what, d.deadline);

			end = end == END_NONE ? skipped : end;
		}
	}
	session_wipe_credentials(s);
	return end;
}
