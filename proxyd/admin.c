/* The XPROXY_ commands.
 *
 * Nothing is decided here: whether the site has turned them on, and from where they may come, the
 * broker judges. A long list is asked for page by page, each when the client has taken the one
 * before.
 */
#include "proxyd/admin.h"

#include <errno.h>

#include "lib/fd.h"
#include "lib/large.h"

#define ARGUMENT_MAX 255 /* the rest is cut off, as of old */

/* What a command is answered with when all went well. */
static const struct command {
	struct span name;
	enum msg_admin kind;
	const char *untagged; /* in front of it */
	const char *tagged;
} commands[] = {
	{ { "XPROXY_VERSION", 14 },
	  ADMIN_VERSION,
	  "* XPROXY_VERSION " KEEPWARM_VERSION " [Keepwarm]\r\n",
	  "OK Completed" },
	{ { "XPROXY_DUMPICC", 14 }, ADMIN_DUMP, "", "OK Completed" },
	{ { "XPROXY_NEWLOG", 13 }, ADMIN_NEWLOG, "", "OK Logfile cleared" },
	{ { "XPROXY_RESETCOUNTERS", 20 }, ADMIN_RESET, "", "OK Counters reset" },
	{ { "XPROXY_TRACE", 12 }, ADMIN_TRACE, "", "OK Tracing disabled" },
};

static const struct command *find(struct span verb)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (span_ieq(verb, commands[i].name))
			return &commands[i];
	return NULL;
}

/* One question; when the broker dies over it, the next one is asked once. 0 or -errno. */
static int ask(struct session *s, struct msg *request, struct msg *reply, int64_t deadline)
{
	int fd = -1, r = link_request(&s->link, request, reply, &fd, deadline);

	fd_drop(&fd);
	if (r < 0 && r != -ECANCELED && r != -ETIMEDOUT && session_meet(s) == END_NONE)
		r = link_request(&s->link, request, reply, &fd, deadline);
	fd_drop(&fd);
	return r == 0 && reply->type != MSG_REPORT ? -EPROTO : r;
}

static enum session_end answer(struct session *s, const struct imap_command *c, const char *before,
			       const char *text, struct span user, const char *behind)
{
	static LARGE char bytes[IMAP_TAG_MAX + ARGUMENT_MAX + 300];
	struct buf out = BUF_OVER(bytes);

	if (buf_add_str(&out, before) < 0 || buf_add(&out, c->tag) < 0 ||
	    buf_add_char(&out, ' ') < 0 || buf_add_str(&out, text) < 0 ||
	    buf_add(&out, user) < 0 || buf_add_str(&out, behind) < 0 ||
	    buf_add_str(&out, "\r\n") < 0)
		return END_INTERNAL;
	return session_tell(s, buf_span(&out));
}

static enum session_end answer_well(struct session *s, const struct imap_command *c,
				    const struct command *command, struct span user)
{
	if (command->kind == ADMIN_TRACE && user.n > 0)
		return answer(s, c, "", "OK Tracing enabled for user ", user, ".");
	return answer(s, c, command->untagged, command->tagged, SPAN_NONE, "");
}

static enum session_end answer_badly(struct session *s, const struct imap_command *c, int r,
				     const struct msg_REPORT *report)
{
	if (r == -ECANCELED)
		return s->link.ended ? session_told_to_end(s) : END_SHUTDOWN;
	if (r == 0 && report->result == REPORT_TAKEN && report->text.n <= ARGUMENT_MAX)
		return answer(s, c, "", "BAD Tracing already enabled for user ", report->text, "");
	return answer(s, c, "", "NO internal server error", SPAN_NONE, "");
}

bool admin_command(struct session *s, const struct imap_command *c, int64_t deadline,
		   enum session_end *ret_end)
{
	const struct command *command = find(c->verb);
	const char *blank = c->args.n > 0 ? memchr(c->args.p, ' ', c->args.n) : NULL;
	struct span user = { c->args.p, blank ? (size_t)(blank - c->args.p) : c->args.n };
	struct msg reply, request = { .type = MSG_ADMIN };
	int r;

	if (!command)
		return false;
	if (user.n > ARGUMENT_MAX)
		user.n = ARGUMENT_MAX;
	request.ADMIN.kind = command->kind;
	request.ADMIN.argument = command->kind == ADMIN_TRACE ? user : SPAN_NONE;
	do {
		r = ask(s, &request, &reply, deadline);
		if (r == 0 && reply.REPORT.result == REPORT_DENIED)
			return false;
		if (r < 0 || reply.REPORT.result != REPORT_DONE) {
			*ret_end = answer_badly(s, c, r, &reply.REPORT);
			return true;
		}
		*ret_end = session_tell(s, reply.REPORT.text);
		request.ADMIN.from = reply.REPORT.next;
	} while (*ret_end == END_NONE && request.ADMIN.from > 0);
	if (*ret_end == END_NONE)
		*ret_end = answer_well(s, c, command, user);
	return true;
}
