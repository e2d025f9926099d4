/* What the programs of before wrote to syslog about logins and sessions, byte for byte: a table a
 * format, one row a line.
 *
 * What comes from outside (a user's name, a mail host's words) cannot be taken for another line,
 * since a byte that is not printable ASCII is written as a question mark, nor for another client:
 * so is what stands in front of or around the address in that format. The name is the one that was
 * meant, without the quotation marks of a quoted string.
 *
 * up-imapproxy's numbers of descriptors are this session's number instead, as in `XPROXY_DUMPICC`
 * and in our own lines: in its own process every session has the same descriptors. Courier's
 * counts of headers and bodies are 0: nobody counts them here.
 */
#include "proxyd/oldlog.h"

#include "lib/cidr.h"
#include "lib/clock.h"
#include "lib/log.h"

#define LINE_MAX_BYTES 1500 /* as much as the broker takes */

/* $u user, $c address:port, $s session, $w what was given, $h mail host
 * $a address and port as Courier writes them, $m the mechanism, $p the protocol and its TLS,
 * $b bytes of the session behind its login, $e in front of it, $t seconds */
struct line {
	int priority;
	const char *text; /* NULL: there is none */
};

#define LOGIN "LOGIN: '$u' ($c) "

static const struct line imapproxy_lines[OLDLOG_COUNT] = {
	[OLDLOG_CREATING] = { LOG_INFO, LOGIN "no previous connection: creating a new one" },
	[OLDLOG_NEW] = { LOG_INFO, LOGIN "on new sd [$s]" },
	[OLDLOG_REUSED] = { LOG_INFO, LOGIN "on existing sd [$s]" },
	[OLDLOG_DEAD] = { LOG_NOTICE, "Get_Server_conn(): Unable to reuse server sd [$s] for user "
				      "'$u' ($c).  Connection closed by server." },
	[OLDLOG_REFUSED] = { LOG_INFO,
			     LOGIN "failed: non-OK server response to LOGIN command: $w" },
	[OLDLOG_REFUSED_USER] = { LOG_INFO,
				  LOGIN "failed: non-OK server response to LOGIN command: $w" },
	[OLDLOG_REFUSED_PASS] = { LOG_INFO,
				  LOGIN "failed: non-OK server response to LOGIN command: $w" },
	[OLDLOG_REFUSED_HERE] = { LOG_INFO, LOGIN "failed: non-OK server response to LOGIN "
						  "command: NO [AUTHENTICATIONFAILED] $w" },
	[OLDLOG_NO_HOST] = { LOG_INFO, LOGIN "failed: Unable to connect to IMAP server: $w" },
	[OLDLOG_NO_GREETING] = { LOG_INFO,
				 LOGIN "failed: No banner line received from IMAP server" },
	[OLDLOG_NO_PREAUTH] = { LOG_INFO, LOGIN "failed: Unable to send queued pre-auth commands" },
	[OLDLOG_NO_ANSWER] = { LOG_INFO, LOGIN "failed: No response from IMAP server after sending "
					       "LOGIN command" },
	[OLDLOG_NO_ROOM] = { LOG_INFO, LOGIN "failed: Out of free ICC structs." },
	[OLDLOG_FAILED] = { LOG_INFO, LOGIN "failed: $w" },
	[OLDLOG_LOGOUT] = { LOG_INFO, "LOGOUT: '$u' from server sd [$s]" },
	[OLDLOG_CLOSED] = { LOG_WARNING, "IMAP_Line_Read(): connection closed prematurely." },
	[OLDLOG_DROPPED] = { LOG_NOTICE,
			     "Raw_Proxy(): Failed to read line from client on sd [$s]" },
	[OLDLOG_BACKEND_CLOSED] = { LOG_ERR, "Raw_Proxy(): IMAP server unexpectedly closed the "
					     "connection on sd $s" },
	[OLDLOG_INVALIDATED] = { LOG_INFO, "Invalidating server sd [$s]" },
};

/* A failed SASL login has the user's name, too, which Courier left out; and a mail host that is
 * away is nobody's fault: with LOGIN FAILED its users would be shut out. */
static const struct line courier_lines[OLDLOG_COUNT] = {
	[OLDLOG_CONNECTED] = { LOG_DEBUG, "Connection, $a" },
	[OLDLOG_NEW] = { LOG_INFO, "LOGIN, user=$u, $a, protocol=$p" },
	[OLDLOG_REUSED] = { LOG_INFO, "LOGIN, user=$u, $a, protocol=$p" },
	[OLDLOG_REFUSED] = { LOG_WARNING, "Login to $h failed" },
	[OLDLOG_REFUSED_USER] = { LOG_WARNING, "Login userid rejected by $h" },
	[OLDLOG_REFUSED_PASS] = { LOG_WARNING, "Login password rejected by $h" },
	[OLDLOG_NO_GREETING] = { LOG_WARNING, "Did not receive greeting from $h" },
	[OLDLOG_DENIED] = { LOG_INFO, "LOGIN FAILED, user=$u, $m$a" },
	[OLDLOG_TROUBLE] = { LOG_WARNING, "Temporary failure, user=$u, $m$a: $w" },
	[OLDLOG_LOGOUT] = { LOG_INFO, "LOGOUT, user=$u, $a, $b, time=$t" },
	[OLDLOG_LEFT] = { LOG_INFO, "DISCONNECTED, user=$u, $a, $b, time=$t" },
	[OLDLOG_IDLE] = { LOG_INFO, "TIMEOUT, user=$u, $a, $b, time=$t" },
	[OLDLOG_STOPPED] = { LOG_INFO,
			     "NOTICE: Disconnected during shutdown by signal, $a, time=$t" },
	[OLDLOG_QUIT_EARLY] = { LOG_INFO, "LOGOUT, $a$e" },
	[OLDLOG_LEFT_EARLY] = { LOG_DEBUG, "Disconnected, $a, time=$t" },
};

static bool is_served(const struct session *s)
{
	return s->user_length > 0;
}

static void end_imapproxy(struct session *s, enum session_end end)
{
	bool left = end == END_CLIENT_CLOSED || end == END_CLIENT_LOST;
	bool broke = end == END_BACKEND_CLOSED || end == END_BACKEND_LOST || end == END_BACKEND_ODD;

	if (left)
		oldlog_write(s, OLDLOG_CLOSED, SPAN_NONE);
	if (is_served(s) && left)
		oldlog_write(s, OLDLOG_DROPPED, SPAN_NONE);
	if (is_served(s) && broke) {
		oldlog_write(s, OLDLOG_BACKEND_CLOSED, SPAN_NONE);
		oldlog_write(s, OLDLOG_INVALIDATED, SPAN_NONE);
	} else if (is_served(s)) {
		oldlog_write(s, OLDLOG_LOGOUT, SPAN_NONE);
	}
}

static void end_courier(struct session *s, enum session_end end)
{
	static const struct {
		enum session_end end;
		enum oldlog served, early;
	} ends[] = {
		{ END_LOGOUT, OLDLOG_LOGOUT, OLDLOG_QUIT_EARLY },
		{ END_SHUTDOWN, OLDLOG_STOPPED, OLDLOG_STOPPED },
		{ END_IDLE_TIMEOUT, OLDLOG_IDLE, OLDLOG_LEFT_EARLY },
		{ END_NONE, OLDLOG_LEFT, OLDLOG_LEFT_EARLY }, /* all others */
	};
	size_t i = 0;

	while (ends[i].end != end && ends[i].end != END_NONE)
		i++;
	oldlog_write(s, is_served(s) ? ends[i].served : ends[i].early, SPAN_NONE);
}

static enum log_name name_imapproxy(const struct session *s)
{
	(void)s;
	return LOG_NAME_IMAPPROXY;
}

/* imapd, imapd-ssl, pop3d, pop3d-ssl */
static enum log_name name_courier(const struct session *s)
{
	bool pop3 = s->hello.service == SERVICE_POP3;

	if (s->implicit_tls)
		return pop3 ? LOG_NAME_POP3D_SSL : LOG_NAME_IMAPD_SSL;
	return pop3 ? LOG_NAME_POP3D : LOG_NAME_IMAPD;
}

static const struct format {
	const struct line *lines;
	const char *taboo; /* what may not come from outside */
	enum log_name (*name)(const struct session *s);
	void (*end)(struct session *s, enum session_end end);
} formats[] = {
	[OLD_LOG_IMAPPROXY] = { imapproxy_lines, "(", name_imapproxy, end_imapproxy },
	[OLD_LOG_COURIER] = { courier_lines, ",[]", name_courier, end_courier },
};

static const struct format *format_of(const struct session *s)
{
	uint32_t which = s->settings->old_log;

	return which > OLD_LOG_NONE && which < sizeof(formats) / sizeof(formats[0])
		       ? &formats[which]
		       : NULL;
}

static int add_foreign(struct buf *out, struct span text, const char *taboo)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < text.n; i++) {
		char c = text.p[i];

		r = buf_add_char(out, c < ' ' || c > '~' || strchr(taboo, c) ? '?' : c);
	}
	return r;
}

/* While a login is tried the name is with the credentials. */
static struct span user_of(const struct session *s)
{
	return s->user_length > 0 ? (struct span){ s->user, s->user_length }
				  : (struct span){ s->credentials.user,
						   s->credentials.user_length };
}

static int add_number(struct buf *out, const char *before, uint64_t number)
{
	int r = buf_add_str(out, before);

	return r == 0 ? buf_add_u64(out, number) : r;
}

/* "ip=[::ffff:192.0.2.1], port=[4711]" */
static int add_peer(struct buf *out, const struct session *s)
{
	struct cidr_address address;
	bool is_ipv4 = cidr_address_parse(s->hello.client, &address) == 0 &&
		       !memchr(s->hello.client.p, ':', s->hello.client.n);
	int r;

	(void)((r = buf_add_str(out, is_ipv4 ? "ip=[::ffff:" : "ip=[")) ||
	       (r = buf_add(out, s->hello.client)) ||
	       (r = add_number(out, "], port=[", s->hello.client_port)) ||
	       (r = buf_add_char(out, ']')));
	return r;
}

static int add_protocol(struct buf *out, const struct session *s)
{
	bool pop3 = s->hello.service == SERVICE_POP3;
	int r = buf_add_str(out, pop3 ? "POP3" : "IMAP");

	if (r == 0 && s->stream == STREAM_TLS)
		r = buf_add_str(out, pop3 ? ", stls=1" : ", starttls=1");
	return r;
}

static int add_bytes(struct buf *out, const struct session *s)
{
	int r = buf_add_str(out, s->hello.service == SERVICE_POP3 ? "top=0, retr=0"
								  : "headers=0, body=0");

	(void)(r || (r = add_number(out, ", rcvd=", s->from_client)) ||
	       (r = add_number(out, ", sent=", s->from_backend)));
	return r;
}

static int add_bytes_early(struct buf *out, const struct session *s)
{
	int r = 0;

	if (s->hello.service == SERVICE_IMAP)
		(void)((r = add_number(out, ", rcvd=", s->heard)) ||
		       (r = add_number(out, ", sent=", s->told)));
	return r;
}

static int add_mechanism(struct buf *out, const struct session *s)
{
	int r = 0;

	if (s->credentials.sasl)
		(void)((r = buf_add_str(out, "method=")) ||
		       (r = buf_add(out, s->credentials.mechanism)) ||
		       (r = buf_add_str(out, ", ")));
	return r;
}

static int add_value(struct buf *out, const struct session *s, char name, struct span what,
		     const char *taboo)
{
	int r;

	switch (name) {
	case 'u':
		return add_foreign(out, user_of(s), taboo);
	case 'c':
		(void)((r = buf_add(out, s->hello.client)) ||
		       (r = add_number(out, ":", s->hello.client_port)));
		return r;
	case 's':
		return buf_add_u64(out, s->id);
	case 'h':
		return add_foreign(out, span_str(s->backend.host), taboo);
	case 'a':
		return add_peer(out, s);
	case 'm':
		return add_mechanism(out, s);
	case 'p':
		return add_protocol(out, s);
	case 'b':
		return add_bytes(out, s);
	case 'e':
		return add_bytes_early(out, s);
	case 't':
		return buf_add_u64(out, (uint64_t)(clock_ms() - s->started) / 1000);
	default:
		return add_foreign(out, what, taboo);
	}
}

void oldlog_write(struct session *s, enum oldlog which, struct span what)
{
	const struct format *format = format_of(s);
	char bytes[LINE_MAX_BYTES];
	struct buf line = BUF_OVER(bytes);
	int r = 0;

	if (!format || !format->lines[which].text)
		return;
	for (const char *p = format->lines[which].text; r == 0 && *p; p++)
		r = *p == '$' ? add_value(&line, s, *++p, what, format->taboo)
			      : buf_add_char(&line, *p);
	enum log_name name = format->name(s);

	if (r < 0 || log_write_as(name, format->lines[which].priority, buf_span(&line)) == 0)
		return;
	struct msg m = { .type = MSG_LINE, .LINE = { .old_log = name, .line = buf_span(&line) } };

	(void)link_push(&s->link, &m, -1); /* the logger was restarted: the broker writes it */
}

enum oldlog oldlog_failure(const struct backend *b)
{
	static const enum oldlog unheard[] = {
		[HEARD_ALL] = OLDLOG_FAILED,
		[UNHEARD_GREETING] = OLDLOG_NO_GREETING,
		[UNHEARD_PREAUTH] = OLDLOG_NO_PREAUTH,
		[UNHEARD_LOGIN] = OLDLOG_NO_ANSWER,
		[UNHEARD_USER] = OLDLOG_REFUSED_USER,
		[UNHEARD_PASS] = OLDLOG_REFUSED_PASS,
	};

	return b->said_length > 0 && b->unheard < UNHEARD_USER ? OLDLOG_REFUSED
							       : unheard[b->unheard];
}

/* With these the mail host judges whoever logs in, not itself. */
static bool is_denial(const char *code)
{
	static const char *const codes[] = { "", "AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED",
					     "EXPIRED" };

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (span_ieq(span_str(code), span_str(codes[i])))
			return true;
	return false;
}

void oldlog_failed(struct session *s, enum oldlog which, const char *code, struct span what)
{
	oldlog_write(s, which, what);
	oldlog_write(s, is_denial(code) ? OLDLOG_DENIED : OLDLOG_TROUBLE, what);
}

void oldlog_end(struct session *s, enum session_end end)
{
	const struct format *format = format_of(s);

	if (format)
		format->end(s, end);
}
