/* Reading one whole command before login.
 *
 * The command stays at the front of s->in until command_skip(): it may hold a password, so it
 * exists once and is overwritten when it has been dealt with.
 */
#include "proxyd/command_reader.h"

#include <errno.h>

#include "lib/sasl.h"
#include "proxyd/follow_line.h"
#include "proxyd/imap_args.h"
#include "proxyd/tls.h"

#define ID_LITERAL_MAX 1024
#define SKIP_MAX       (1 << 20)

/* How long may the line be, of which this is there? Tokens are longer than passwords: where they
 * are offered, the lines that can carry one are bounded by the longest one instead. */
static size_t longest_line(const struct session *s, struct span line, bool sasl)
{
	struct imap_command c;
	size_t most = s->settings->max_line_login;

	if (line.n <= most || !(s->settings->auth_mechanisms & SASL_TOKENS))
		return most;
	if (!sasl && (imap_split(line, &c) < 0 || !span_ieq(c.verb, SPAN("AUTHENTICATE"))))
		return most;
	return SESSION_SASL_LINE;
}

/* Finds the end of the line that begins at offset at, reading on as needed, and notes both. `sasl`:
 * it is one of a SASL exchange. */
static enum command_read find_line(struct session *s, size_t at, bool sasl, int64_t deadline,
				   enum session_end *ret_end)
{
	size_t seen = 0;

	s->command_line = at;
	for (;;) {
		struct span line = span_from(buf_span(&s->in), at);
		const char *lf = line.n > seen ? memchr(line.p + seen, '\n', line.n - seen) : NULL;

		size_t most = longest_line(s, line, sasl);

		s->command_end = at + (lf ? (size_t)(lf - line.p) + 1 : line.n);
		if (lf && (size_t)(lf - line.p) <= most)
			return COMMAND_WHOLE;
		seen = line.n;
		if (lf || line.n > most || s->in.len == s->in.cap)
			return COMMAND_TOO_LONG;
		*ret_end = session_read_client(s, deadline, END_LOGIN_TIMEOUT);
		if (*ret_end != END_NONE)
			return COMMAND_END;
	}
}

static struct span without_end(struct span line)
{
	if (line.n > 0 && line.p[line.n - 1] == '\n')
		line.n--;
	if (line.n > 0 && line.p[line.n - 1] == '\r')
		line.n--;
	return line;
}

/* How long may the literal be that the command so far announces at its end? 0: none may be there,
 * and it is not asked for.
 * The old imapproxyd's bounds, for the same answers: 255 for a user name, less than 8192 for a
 * password. */
static uint64_t literal_limit(const struct session *s, struct span whole)
{
	struct imap_command c;

	if (imap_split(whole, &c) < 0)
		return 0;
	if (span_ieq(c.verb, SPAN("ID")))
		return ID_LITERAL_MAX;
	if (!span_ieq(c.verb, SPAN("LOGIN")) || !tls_may_log_in(s))
		return 0;
	return c.args.n > 0 && c.args.p[0] == '{' && !memchr(c.args.p, '\n', c.args.n)
		       ? SESSION_USER_MAX
		       : SESSION_SECRET_MAX;
}

enum command_read command_read(struct session *s, int64_t deadline, struct span *ret,
			       enum session_end *ret_end)
{
	size_t at = 0;

	for (;;) {
		enum command_read r = find_line(s, at, false, deadline, ret_end);
		size_t end = s->command_end;

		*ret = without_end((struct span){ buf_span(&s->in).p, end });
		uint64_t length;
		bool sync;

		if (r != COMMAND_WHOLE ||
		    !follow_literal_at_end(span_from(*ret, at), &length, &sync))
			return r;
		uint64_t limit = literal_limit(s, *ret);

		if (length > limit)
			return limit == 0 || limit == ID_LITERAL_MAX ? COMMAND_BAD_LITERAL
								     : COMMAND_LARGE_LITERAL;
		if (end + length + 2 > s->in.cap)
			return COMMAND_TOO_LONG;
		if (sync && (*ret_end = session_tell(s, SPAN("+ go ahead\r\n"))) != END_NONE)
			return COMMAND_END;
		at = end + (size_t)length;
		while (s->in.len < at) {
			*ret_end = session_read_client(s, deadline, END_LOGIN_TIMEOUT);
			if (*ret_end != END_NONE)
				return COMMAND_END;
		}
	}
}

enum command_read command_read_line(struct session *s, int64_t deadline, struct span *ret,
				    enum session_end *ret_end)
{
	enum command_read r = find_line(s, 0, true, deadline, ret_end);

	*ret = without_end((struct span){ buf_span(&s->in).p, s->command_end });
	return r;
}

/* Throws n bytes away, reading on as needed. */
static enum session_end skip_bytes(struct session *s, uint64_t n, int64_t deadline)
{
	while (n > 0) {
		size_t now = s->in.len < n ? s->in.len : (size_t)n;

		buf_consume_secret(&s->in, now);
		n -= now;
		if (n == 0)
			break;
		enum session_end end = session_read_client(s, deadline, END_LOGIN_TIMEOUT);

		if (end != END_NONE)
			return end;
	}
	return END_NONE;
}

/* Throws the rest of a line away and says what literal it announces. */
static enum session_end skip_line(struct session *s, int64_t deadline, uint64_t *ret_length,
				  bool *ret_literal)
{
	struct follow_line line;
	char tail[sizeof(line.tail)];
	bool ended = false, sync = true;

	follow_line_init(&line);
	while (!ended) {
		buf_consume_secret(&s->in, follow_line_add(&line, buf_span(&s->in), &ended));
		if (line.length > SKIP_MAX)
			return END_TOO_MANY_ERRORS;
		enum session_end end =
			ended ? END_NONE : session_read_client(s, deadline, END_LOGIN_TIMEOUT);

		if (end != END_NONE)
			return end;
	}
	*ret_literal = s->hello.service == SERVICE_IMAP &&
		       follow_literal_at_end(follow_line_tail(&line, tail), ret_length, &sync) &&
		       !sync;
	return END_NONE;
}

/* The line at fault is read away here; a client that announced a non-synchronising literal in it
 * sends that whatever we say, and what follows it. */
enum session_end command_skip(struct session *s, enum command_read what, int64_t deadline)
{
	uint64_t skipped = 0, length = 0;
	bool literal = true;

	buf_consume_secret(&s->in, what == COMMAND_WHOLE ? s->command_end : s->command_line);
	if (what == COMMAND_WHOLE)
		return END_NONE;
	while (literal) {
		enum session_end end = skip_bytes(s, length, deadline);

		if (end == END_NONE)
			end = skip_line(s, deadline, &length, &literal);
		if (end != END_NONE)
			return end;
		skipped += literal ? length : 0;
		if (skipped > SKIP_MAX)
			return END_TOO_MANY_ERRORS;
	}
	return END_NONE;
}
