/* The dialogue before login: the proxy's own, since no mail host is known yet.
 *
 * The answers are the old imapproxyd's, byte for byte: sites have monitoring that reads them.
 */
#include "proxyd/session.h"

#include <errno.h>

#include "lib/clock.h"
#include "proxyd/admin.h"
#include "proxyd/announced.h"
#include "proxyd/capability.h"
#include "proxyd/command_reader.h"
#include "proxyd/imap_args.h"
#include "proxyd/sasl_client.h"
#include "proxyd/tls.h"
#include "proxyd/tracer.h"

/* What the dialogue shares: how long it may last, how often it may fail. */
struct dialogue {
	struct session *s;
	int64_t deadline;
	unsigned errors;
	unsigned failed_logins;
	bool logged_in;
	bool command_gone; /* the command is no longer in the buffer */
};

typedef enum session_end command_fn(struct dialogue *d, const struct imap_command *c);

static enum session_end answer(struct dialogue *d, struct span tag, const char *text)
{
	char bytes[IMAP_TAG_MAX + 200];
	struct buf out = BUF_OVER(bytes);

	if (buf_add(&out, tag) < 0 || buf_add_char(&out, ' ') < 0 || buf_add_str(&out, text) < 0 ||
	    buf_add_str(&out, "\r\n") < 0)
		return END_INTERNAL;
	return session_tell(d->s, buf_span(&out));
}

/* An answer to something wrong: only so many of them. */
static enum session_end complain(struct dialogue *d, struct span tag, const char *text)
{
	enum session_end end = answer(d, tag, text);

	if (end == END_NONE && ++d->errors >= d->s->settings->max_errors)
		end = END_TOO_MANY_ERRORS;
	return end;
}

static enum session_end on_noop(struct dialogue *d, const struct imap_command *c)
{
	return answer(d, c->tag, "OK Completed");
}

/* The proxy's own list of capabilities. */
static enum session_end tell_list(struct session *s, const char *before, const char *behind)
{
	char bytes[CAPABILITY_OWN_MAX + 60];
	struct buf out = BUF_OVER(bytes);

	if (buf_add_str(&out, before) < 0 ||
	    capability_add_own(tls_is_offered(s), tls_may_log_in(s),
			       tls_mechanisms(s), &out) < 0 ||
	    buf_add_str(&out, behind) < 0)
		return END_INTERNAL;
	return session_tell(s, buf_span(&out));
}

static enum session_end on_capability(struct dialogue *d, const struct imap_command *c)
{
	enum session_end end = tell_list(d->s, "* CAPABILITY ", "\r\n");

	d->s->asked_capability = true;
	return end == END_NONE ? answer(d, c->tag, "OK Completed") : end;
}

static enum session_end on_logout(struct dialogue *d, const struct imap_command *c)
{
	char bytes[IMAP_TAG_MAX + 100];
	struct buf out = BUF_OVER(bytes);

	if (buf_add_str(&out, "* BYE LOGOUT received\r\n") < 0 || buf_add(&out, c->tag) < 0 ||
	    buf_add_str(&out, " OK Completed\r\n") < 0)
		return END_INTERNAL;
	enum session_end end = session_tell(d->s, buf_span(&out));

	return end == END_NONE ? END_LOGOUT : end;
}

/* Kept for the mail host, where its log may want it, without what a proxy says of its clients; a
 * list that is none is refused here. */
static enum session_end on_id(struct dialogue *d, const struct imap_command *c)
{
	char bytes[SESSION_ID_MAX];
	struct buf list = BUF_OVER(bytes), out = BUF_OVER(d->s->id_arguments);
	struct caller_said said = { .hops = 0 };
	int r = c->args.n > 0 ? imap_read_id(c->args, &list) : 0;

	if (r == 0)
		r = caller_read_id(buf_span(&list), &said, &out);
	announced_note(d->s, &said);

	if (r == -EINVAL) {
		d->s->id_length = 0;
		return complain(d, c->tag, "BAD Invalid arguments to Id");
	}
	d->s->id_length = r == 0 ? out.len : 0;
	return answer(d, c->tag, "OK Completed");
}

/* The command, which holds a password, leaves the buffer before anything takes time. */
static void drop_command(struct dialogue *d)
{
	if (!d->command_gone)
		(void)command_skip(d->s, COMMAND_WHOLE, d->deadline);
	d->command_gone = true;
}

static enum session_end try_login(struct dialogue *d, struct span tag_in_command)
{
	enum session_end end = END_NONE;
	char bytes[IMAP_TAG_MAX];
	struct span tag = { bytes, tag_in_command.n };

	memcpy(bytes, tag_in_command.p, tag.n);
	drop_command(d);
	switch (login_try(d->s, tag, &end)) {
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

/* Takes the two strings of LOGIN. -ENODATA: one is missing; -EINVAL; -ENOBUFS: one is too long. */
static int read_login(struct span args, struct credentials *to)
{
	struct buf user = BUF_OVER(to->user), secret = BUF_OVER(to->secret);
	int r = args.n > 0 && args.p[0] != ' ' ? imap_take_astring(&args, &user) : -ENODATA;

	if (r < 0)
		return r;
	if (args.n < 2 || args.p[0] != ' ')
		return args.n == 0 || args.p[0] == ' ' ? -ENODATA : -EINVAL;
	args = span_from(args, 1);
	r = imap_take_astring(&args, &secret);
	sasl_client_note_secret(to, secret.dirty);
	if (r < 0)
		return r;
	while (args.n > 0 && args.p[0] == ' ') /* the old program passed them on, and it worked */
		args = span_from(args, 1);
	if (args.n > 0 || user.len == 0)
		return -EINVAL;
	to->user_length = user.len;
	to->secret_length = secret.len;
	to->authzid_length = 0;
	to->kind = PROOF_PASSWORD;
	to->sasl = false;
	return 0;
}

static enum session_end on_login(struct dialogue *d, const struct imap_command *c)
{
	int r = read_login(c->args, &d->s->credentials);

	if (r == 0)
		return try_login(d, c->tag);
	session_wipe_credentials(d->s);
	switch (r) {
	case -ENODATA:
		return complain(d, c->tag, "BAD Missing required argument to Login");
	case -ENOBUFS:
		return complain(d, c->tag, "NO LOGIN failed");
	default:
		return complain(d, c->tag, "BAD Invalid arguments to Login");
	}
}

static enum session_end refuse_message(struct dialogue *d, struct span tag, int error)
{
	if (error == -ECANCELED)
		return complain(d, tag, "BAD Authentication cancelled");
	if (error == -ENOBUFS)
		return complain(d, tag, "NO AUTHENTICATE failed");
	if (error == -ENODATA)
		return complain(d, tag, "NO [CANNOT] A user name is needed with the token");
	return complain(d, tag, "BAD Invalid authentication data");
}

static enum session_end authenticate(struct dialogue *d, struct span tag,
				     const struct sasl_client *m, struct span initial,
				     bool has_initial)
{
	int r = sasl_client_begin(d->s, m, initial, has_initial);

	drop_command(d);
	enum session_end end =
		r == 0 ? sasl_client_go_on(d->s, m, has_initial, d->deadline, &r) : END_NONE;

	if (end != END_NONE)
		return end;
	if (r == 0)
		return try_login(d, tag);
	session_wipe_credentials(d->s);
	return refuse_message(d, tag, r);
}

static enum session_end on_authenticate(struct dialogue *d, const struct imap_command *c)
{
	/* The tag and the initial response outlive the command's bytes: the exchange reads on. */
	char tag_bytes[IMAP_TAG_MAX];
	struct span rest = c->args, tag = { tag_bytes, c->tag.n };
	struct span name = span_word(&rest, ' '), initial = span_word(&rest, ' ');

	memcpy(tag_bytes, c->tag.p, c->tag.n);
	if (name.n == 0)
		return complain(d, tag, "BAD Missing required argument to Authenticate");
	const struct sasl_client *m = sasl_client_find(d->s, name);

	return m ? authenticate(d, tag, m, initial, initial.n > 0)
		 : complain(d, tag, "NO no mechanism available");
}

/* Whatever else the client sends before it has its answer could have been put there by somebody
 * between, to be taken for what came inside of TLS: the session ends. */
static enum session_end on_starttls(struct dialogue *d, const struct imap_command *c)
{
	char bytes[IMAP_TAG_MAX]; /* looking behind the command may move it */
	struct span tag = { bytes, c->tag.n };

	memcpy(bytes, c->tag.p, tag.n);
	if (c->args.n > 0)
		return complain(d, tag, "BAD Invalid arguments to Starttls");
	if (d->s->stream == STREAM_TLS)
		return complain(d, tag, "BAD TLS is active already");
	if (!tls_is_offered(d->s))
		return complain(d, tag, "BAD Please login first"); /* the old answer */
	enum session_end end = tls_check_silence(d->s);

	if (end == END_TLS_INJECTED)
		(void)answer(d, tag, "BAD Nothing may be sent behind STARTTLS");
	if (end == END_NONE && d->s->link.sock < 0)
		end = session_meet(d->s);
	if (end == END_NONE)
		end = answer(d, tag, "OK Begin TLS now");
	if (end != END_NONE)
		return end;
	drop_command(d);
	return tls_begin(d->s);
}

static enum session_end on_admin(struct dialogue *d, const struct imap_command *c)
{
	enum session_end end;

	if (admin_command(d->s, c, d->deadline, &end))
		return end;
	return complain(d, c->tag, "BAD Unrecognized command");
}

static const struct {
	struct span name;
	command_fn *run;
} commands[] = {
	{ { "NOOP", 4 }, on_noop },
	{ { "CAPABILITY", 10 }, on_capability },
	{ { "LOGOUT", 6 }, on_logout },
	{ { "ID", 2 }, on_id },
	{ { "LOGIN", 5 }, on_login },
	{ { "AUTHENTICATE", 12 }, on_authenticate },
	{ { "STARTTLS", 8 }, on_starttls },
	{ { "XPROXY_VERSION", 14 }, on_admin },
	{ { "XPROXY_DUMPICC", 14 }, on_admin },
	{ { "XPROXY_TRACE", 12 }, on_admin },
	{ { "XPROXY_NEWLOG", 13 }, on_admin },
	{ { "XPROXY_RESETCOUNTERS", 20 }, on_admin },
};

static enum session_end run_command(struct dialogue *d, const struct imap_command *c)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (span_ieq(c->verb, commands[i].name))
			return commands[i].run(d, c);
	return complain(d, c->tag, "BAD Please login first");
}

/* NUL and bare CR outside literals are no part of any command; inside them they are refused where
 * they are read. */
static bool has_odd_bytes(struct span whole)
{
	const char *lf = memchr(whole.p, '\n', whole.n);
	struct span first = { whole.p,
			      lf ? (size_t)(lf - whole.p) - (lf > whole.p && lf[-1] == '\r')
				 : whole.n };

	return memchr(first.p, '\0', first.n) || memchr(first.p, '\r', first.n);
}

/* Would the answer invite the client to say its password in clear text? */
static bool lacks_privacy(const struct session *s, const struct imap_command *c)
{
	return (span_ieq(c->verb, SPAN("LOGIN")) || span_ieq(c->verb, SPAN("AUTHENTICATE"))) &&
	       !tls_may_log_in(s);
}

static enum session_end judge(struct dialogue *d, enum command_read what, struct span whole)
{
	struct imap_command c;
	int r = imap_split(whole, &c);

	if (r == -EINVAL)
		return complain(d, SPAN("*"), "BAD Invalid tag");
	if (lacks_privacy(d->s, &c))
		return complain(d, c.tag, "NO [PRIVACYREQUIRED] No login without TLS");
	if (what == COMMAND_TOO_LONG)
		return complain(d, c.tag, "BAD Line too long");
	if (what == COMMAND_BAD_LITERAL)
		return complain(d, c.tag, "BAD Unexpected literal");
	if (what == COMMAND_LARGE_LITERAL)
		return complain(d, c.tag, "NO LOGIN failed");
	if (r == -ENODATA)
		return complain(d, c.tag, "BAD Null command");
	if (has_odd_bytes(whole))
		return complain(d, c.tag, "BAD Invalid characters in command");
	return run_command(d, &c);
}

enum session_end prelogin_greet(struct session *s)
{
	return tell_list(s, "* OK [CAPABILITY ", "] Keepwarm ready.\r\n");
}

enum session_end prelogin_run(struct session *s)
{
	struct dialogue d = { .s = s,
			      .deadline = s->started + (int64_t)s->settings->login_timeout * 1000 };
	enum session_end end = END_NONE;

	while (end == END_NONE && !d.logged_in) {
		struct span whole;
		enum command_read what = command_read(s, d.deadline, &whole, &end);

		d.command_gone = false;
		if (what == COMMAND_END)
			break;
		end = judge(&d, what, whole);
		if (!d.command_gone && (end == END_NONE || what == COMMAND_WHOLE)) {
			enum session_end skipped = command_skip(s, what, d.deadline);

			end = end == END_NONE ? skipped : end;
		}
	}
	return end;
}
