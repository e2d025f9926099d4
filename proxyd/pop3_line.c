/* Lines of POP3. */
#include "proxyd/pop3_line.h"

#include <errno.h>

/* What is not listed says, from a mail host, that the credentials were refused, and nothing to a
 * client. Of several rows with one word of POP3 the first is what it means. */
static const struct {
	struct span pop3;
	const char *inside;
	bool refused;
} codes[] = {
	{ { "AUTH", 4 }, "AUTHENTICATIONFAILED", true },
	{ { "SYS/TEMP", 8 }, "UNAVAILABLE", false },
	{ { "SYS/PERM", 8 }, "CONTACTADMIN", false },
	{ { "IN-USE", 6 }, "INUSE", false },
	{ { "LOGIN-DELAY", 11 }, "LOGIN-DELAY", false },
	{ { "AUTH", 4 }, "AUTHORIZATIONFAILED", true },
	{ { "AUTH", 4 }, "EXPIRED", true },
	{ { "SYS/TEMP", 8 }, "LIMIT", false },
	{ { "SYS/PERM", 8 }, "CANNOT", false },
	{ { "SYS/PERM", 8 }, "SERVERBUG", false },
};

#define CODES (sizeof(codes) / sizeof(codes[0]))

/* The code that stands in brackets at the beginning; empty: there is none. */
static struct span bracketed(struct span text)
{
	const char *end = text.n > 0 && text.p[0] == '[' ? memchr(text.p, ']', text.n) : NULL;

	return end ? (struct span){ text.p + 1, (size_t)(end - text.p) - 1 } : SPAN_NONE;
}

enum pop3_status pop3_status_of(struct span line, struct span *ret_code)
{
	*ret_code = SPAN_NONE;
	if (line.n > 0 && line.p[0] == '+' && (line.n == 1 || line.p[1] == ' '))
		return POP3_MORE;
	if (span_istarts(line, SPAN("+OK")))
		return POP3_OK;
	if (!span_istarts(line, SPAN("-ERR")))
		return POP3_NONSENSE;
	struct span rest = span_from(line, 4);

	while (rest.n > 0 && rest.p[0] == ' ')
		rest = span_from(rest, 1);
	*ret_code = bracketed(rest);
	return POP3_ERR;
}

/* A code may have a further level behind one that is known (RFC 2449 section 8). */
static bool is_code(struct span code, struct span row)
{
	return span_istarts(code, row) && (code.n == row.n || code.p[row.n] == '/');
}

const char *pop3_code_heard(struct span code, bool *ret_refused)
{
	*ret_refused = true;
	if (code.n == 0)
		return codes[0].inside;
	for (size_t i = 0; i < CODES; i++)
		if (is_code(code, codes[i].pop3)) {
			*ret_refused = codes[i].refused;
			return codes[i].inside;
		}
	return "";
}

const char *pop3_code_told(struct span code)
{
	for (size_t i = 0; i < CODES; i++)
		if (span_ieq(code, span_str(codes[i].inside)))
			return codes[i].pop3.p;
	return "";
}

int pop3_add_text(struct buf *out, struct span text)
{
	struct span code = bracketed(text);
	const char *told = pop3_code_told(code);
	int r = 0;

	if (code.n > 0)
		text = span_from(text, code.n + 2);
	while (code.n > 0 && text.n > 0 && text.p[0] == ' ')
		text = span_from(text, 1);
	if (*told)
		(void)((r = buf_add_char(out, '[')) || (r = buf_add_str(out, told)) ||
		       (r = buf_add_str(out, "] ")));
	return r == 0 ? buf_add(out, text) : r;
}

bool pop3_is_one_line(struct span text)
{
	return text.n == 0 || (!memchr(text.p, '\r', text.n) && !memchr(text.p, '\n', text.n) &&
			       !memchr(text.p, '\0', text.n));
}

bool pop3_is_plain(struct span text)
{
	return text.n > 0 && text.p[0] != ' ' && text.p[text.n - 1] != ' ';
}

void pop3_quit_follow(struct pop3_quit *q, struct span bytes)
{
	for (size_t i = 0; i < bytes.n; i++) {
		char c = bytes.p[i];

		if (c == '\n') {
			q->said = q->length == 4 &&
				  span_ieq((struct span){ q->head, 4 }, SPAN("QUIT"));
			q->length = 0;
		} else if (c != '\r' && c != ' ') { /* blanks behind it do no harm */
			if (q->length < sizeof(q->head))
				q->head[q->length] = c;
			q->length++;
		}
	}
}
