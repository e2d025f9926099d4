/* What the old program wrote to syslog about logins and sessions, byte for byte, one row a line.
 *
 * Its numbers of descriptors are this session's number instead, as in `XPROXY_DUMPICC` and in our
 * own lines: in its own process every session has the same descriptors. What comes from outside (a
 * user's name, a mail host's words) cannot be taken for another line, since a byte that is not
 * printable ASCII is written as a question mark, nor for another client: the address stands in
 * parentheses, and "(" from outside is a question mark, too. The name is the one that was meant,
 * without the quotation marks of a quoted string.
 */
#include "proxyd/oldlog.h"

#include "lib/log.h"

#define LINE_MAX_BYTES 1500 /* as much as the broker takes */

/* $u user, $c address:port, $s session, $w what was given */
#define LOGIN "LOGIN: '$u' ($c) "

static const struct {
	int priority;
	const char *text;
} lines[] = {
	[OLDLOG_CREATING] = { LOG_INFO, LOGIN "no previous connection: creating a new one" },
	[OLDLOG_NEW] = { LOG_INFO, LOGIN "on new sd [$s]" },
	[OLDLOG_REUSED] = { LOG_INFO, LOGIN "on existing sd [$s]" },
	[OLDLOG_DEAD] = { LOG_NOTICE, "Get_Server_conn(): Unable to reuse server sd [$s] for user "
				      "'$u' ($c).  Connection closed by server." },
	[OLDLOG_REFUSED] = { LOG_INFO,
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

static int add_foreign(struct buf *out, struct span text)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < text.n; i++) {
		char c = text.p[i];

		r = buf_add_char(out, c < ' ' || c > '~' || c == '(' ? '?' : c);
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

static int add_value(struct buf *out, const struct session *s, char name, struct span what)
{
	int r;

	switch (name) {
	case 'u':
		return add_foreign(out, user_of(s));
	case 'c':
		(void)((r = buf_add(out, s->hello.client)) || (r = buf_add_char(out, ':')) ||
		       (r = buf_add_u64(out, s->hello.client_port)));
		return r;
	case 's':
		return buf_add_u64(out, s->id);
	default:
		return add_foreign(out, what);
	}
}

void oldlog_write(struct session *s, enum oldlog which, struct span what)
{
	char bytes[LINE_MAX_BYTES];
	struct buf line = BUF_OVER(bytes);
	int r = 0;

	if (!s->settings->old_log)
		return;
	for (const char *p = lines[which].text; r == 0 && *p; p++)
		r = *p == '$' ? add_value(&line, s, *++p, what) : buf_add_char(&line, *p);
	if (r < 0 || log_write_as(LOG_IDENT_OLD, lines[which].priority, buf_span(&line)) == 0)
		return;
	struct msg m = { .type = MSG_LINE, .LINE = { .old_log = true, .line = buf_span(&line) } };

	(void)link_push(&s->link, &m, -1); /* the logger was restarted: the broker writes it */
}

enum oldlog oldlog_failure(const struct backend *b)
{
	static const enum oldlog unheard[] = {
		[HEARD_ALL] = OLDLOG_FAILED,
		[UNHEARD_GREETING] = OLDLOG_NO_GREETING,
		[UNHEARD_PREAUTH] = OLDLOG_NO_PREAUTH,
		[UNHEARD_LOGIN] = OLDLOG_NO_ANSWER,
	};

	return b->said_length > 0 ? OLDLOG_REFUSED : unheard[b->unheard];
}

void oldlog_end(struct session *s, enum session_end end)
{
	bool served = s->user_length > 0;
	bool left = end == END_CLIENT_CLOSED || end == END_CLIENT_LOST;
	bool broke = end == END_BACKEND_CLOSED || end == END_BACKEND_LOST || end == END_BACKEND_ODD;

	if (left)
		oldlog_write(s, OLDLOG_CLOSED, SPAN_NONE);
	if (served && left)
		oldlog_write(s, OLDLOG_DROPPED, SPAN_NONE);
	if (served && broke) {
		oldlog_write(s, OLDLOG_BACKEND_CLOSED, SPAN_NONE);
		oldlog_write(s, OLDLOG_INVALIDATED, SPAN_NONE);
	} else if (served) {
		oldlog_write(s, OLDLOG_LOGOUT, SPAN_NONE);
	}
}
