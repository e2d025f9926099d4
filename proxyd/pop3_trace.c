/* What of a session of POP3 may stand in a protocol log.
 *
 * A client's line is shown when it is a command behind a login; so a password that a confused
 * client says there is not, nor the lines of an AUTH, whatever they are answered. The mail host's
 * lines are statuses, lists or messages: which, the commands before them say. A status that is none
 * is left out with the messages, so that a mistake about what is due shows too little. A line of a
 * message can look like a status: where one may be under way from before, no list is shown until a
 * dot has ended it.
 */
#include "proxyd/pop3_trace.h"

#define ELIDED	    "[elided]"
#define SERVER_HEAD 3 /* enough for +OK and for the dot that ends a message */

enum answer {
	ANSWER_LINE,	/* a status, and that is all */
	ANSWER_LIST,	/* lines follow, up to a dot */
	ANSWER_ALL,	/* the same, if the command has no argument */
	ANSWER_MESSAGE, /* the same as a list, and not to be shown */
};

static const struct {
	struct span verb;
	enum answer answer;
	bool secret; /* what stands behind it */
} verbs[] = {
	{ { "", 0 }, ANSWER_LINE, true }, /* none that we know */
	{ { "PASS", 4 }, ANSWER_LINE, true },	{ { "AUTH", 4 }, ANSWER_LINE, true },
	{ { "APOP", 4 }, ANSWER_LINE, true },	{ { "STAT", 4 }, ANSWER_LINE, false },
	{ { "LIST", 4 }, ANSWER_ALL, false },	{ { "UIDL", 4 }, ANSWER_ALL, false },
	{ { "RETR", 4 }, ANSWER_MESSAGE, false }, { { "TOP", 3 }, ANSWER_MESSAGE, false },
	{ { "DELE", 4 }, ANSWER_LINE, false },	{ { "NOOP", 4 }, ANSWER_LINE, false },
	{ { "RSET", 4 }, ANSWER_LINE, false },	{ { "QUIT", 4 }, ANSWER_LINE, false },
	{ { "CAPA", 4 }, ANSWER_LIST, false },	{ { "LANG", 4 }, ANSWER_ALL, false },
	{ { "UTF8", 4 }, ANSWER_LINE, false },	{ { "STLS", 4 }, ANSWER_LINE, false },
};

#define VERBS (sizeof(verbs) / sizeof(verbs[0]))

void pop3_trace_begin(struct pop3_trace *t, bool fresh, bool in_line)
{
	*t = (struct pop3_trace){ .deaf = !fresh,
				  .unsure = !fresh,
				  .client = { .judged = in_line } };
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Adds to the line's head until there is enough of it, and returns what is left. */
static struct span fill_head(struct pop3_trace_line *l, size_t enough, bool to_blank,
			     struct span bytes)
{
	while (!l->judged && bytes.n > 0) {
		char c = bytes.p[0];

		l->head[l->length++] = c;
		bytes = span_from(bytes, 1);
		l->judged = l->length == enough || c == '\n' || (to_blank && is_blank(c));
	}
	return bytes;
}

static struct span head_of(const struct pop3_trace_line *l)
{
	return (struct span){ l->head, l->length };
}

static struct span take_line(struct span *bytes)
{
	const char *lf = bytes->n > 0 ? memchr(bytes->p, '\n', bytes->n) : NULL;
	struct span line = { bytes->p, lf ? (size_t)(lf - bytes->p) + 1 : bytes->n };

	*bytes = span_from(*bytes, line.n);
	return line;
}

static bool ends(struct span text)
{
	return text.n > 0 && text.p[text.n - 1] == '\n';
}

static void judge_client(struct pop3_trace *t, pop3_trace_fn *show)
{
	struct pop3_trace_line *l = &t->client;
	struct span verb = head_of(l);

	while (verb.n > 0 && is_blank(verb.p[verb.n - 1]))
		verb.n--;
	for (t->verb = VERBS - 1; t->verb > 0; t->verb--)
		if (span_ieq(verb, verbs[t->verb].verb))
			break;
	l->shown = !verbs[t->verb].secret;
	if (l->shown) {
		show(head_of(l));
		return;
	}
	if (t->verb > 0) {
		show(verb);
		show(SPAN(" "));
	}
	show(SPAN(ELIDED));
}

/* The client's line is over: an answer is due. */
static void end_client_line(struct pop3_trace *t, pop3_trace_fn *show)
{
	enum answer answer = verbs[t->verb].answer;

	if (answer == ANSWER_ALL)
		answer = t->client.more ? ANSWER_LINE : ANSWER_LIST;
	if (t->due_count < POP3_TRACE_DUE)
		t->due[(t->due_first + t->due_count++) % POP3_TRACE_DUE] = (uint8_t)answer;
	if (!t->client.shown)
		show(SPAN("\r\n"));
	t->client = (struct pop3_trace_line){ .length = 0 };
	t->verb = 0;
	t->deaf = false;
}

void pop3_trace_client(struct pop3_trace *t, struct span bytes, pop3_trace_fn *show)
{
	struct pop3_trace_line *l = &t->client;

	while (bytes.n > 0) {
		bool judged = l->judged;

		bytes = fill_head(l, sizeof(l->head), true, bytes);
		if (!l->judged)
			return;
		if (!judged)
			judge_client(t, show);
		if (!judged && ends(head_of(l))) {
			end_client_line(t, show);
			continue;
		}
		struct span rest = take_line(&bytes);

		for (size_t i = 0; !l->more && i < rest.n; i++)
			l->more = !is_blank(rest.p[i]);
		if (l->shown && rest.n > 0)
			show(rest);
		if (ends(rest))
			end_client_line(t, show);
	}
}

static void tell_left_out(struct pop3_trace *t, pop3_trace_fn *show)
{
	char bytes[50];
	struct buf note = BUF_OVER(bytes);

	if (t->left_out > 0 && buf_add_char(&note, '[') == 0 &&
	    buf_add_u64(&note, t->left_out) == 0 && buf_add_str(&note, " bytes elided]\r\n") == 0)
		show(buf_span(&note));
	t->left_out = 0;
}

static enum answer next_due(struct pop3_trace *t)
{
	if (t->due_count == 0)
		return ANSWER_LINE;
	enum answer answer = (enum answer)t->due[t->due_first];

	t->due_first = (t->due_first + 1) % POP3_TRACE_DUE;
	t->due_count--;
	return answer;
}

/* A line where a status is due. */
static bool judge_status(struct pop3_trace *t, struct span head)
{
	if (span_ieq(head, SPAN("+OK"))) {
		t->body = (uint8_t)next_due(t);
		if (t->unsure && t->body == ANSWER_LIST)
			t->body = ANSWER_MESSAGE;
		return true;
	}
	if (span_ieq(head, SPAN("-ER"))) {
		(void)next_due(t);
		return true;
	}
	return false;
}

static void judge_server(struct pop3_trace *t, pop3_trace_fn *show)
{
	struct pop3_trace_line *l = &t->server;
	struct span head = head_of(l);

	if (t->deaf) {
		l->shown = false;
	} else if (t->body == ANSWER_LINE) {
		l->shown = judge_status(t, head);
	} else if (span_eq(head, SPAN(".\r\n")) || span_eq(head, SPAN(".\n"))) {
		t->body = ANSWER_LINE;
		t->unsure = false;
		l->shown = true;
	} else {
		l->shown = t->body == ANSWER_LIST;
	}
	if (l->shown) {
		tell_left_out(t, show);
		show(head);
	} else {
		t->left_out += head.n;
	}
}

void pop3_trace_server(struct pop3_trace *t, struct span bytes, pop3_trace_fn *show)
{
	struct pop3_trace_line *l = &t->server;

	while (bytes.n > 0) {
		bool judged = l->judged;

		bytes = fill_head(l, SERVER_HEAD, false, bytes);
		if (!l->judged)
			return;
		if (!judged)
			judge_server(t, show);
		bool over = !judged && ends(head_of(l));
		struct span rest = over ? SPAN_NONE : take_line(&bytes);

		if (l->shown && rest.n > 0)
			show(rest);
		if (!l->shown)
			t->left_out += rest.n;
		if (over || ends(rest))
			*l = (struct pop3_trace_line){ .length = 0 };
	}
}

void pop3_trace_end(struct pop3_trace *t, pop3_trace_fn *show)
{
	t->left_out += t->server.judged ? 0 : t->server.length;
	tell_left_out(t, show);
}
