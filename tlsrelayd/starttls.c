/* The dialogue before TLS. Whatever is not exactly what must come ends it: in between somebody may
 * sit who would like us to go on in plain text, or to take his lines for the mail host's. */
#include "tlsrelayd/starttls.h"

#define TAG "s1 "

struct span starttls_command(const struct starttls *s)
{
	return s->pop3 ? SPAN("STLS\r\n") : SPAN(TAG "STARTTLS\r\n");
}

/* Is the word behind the prefix, up to a blank or the end? */
static bool says(struct span line, struct span prefix, struct span word)
{
	if (!span_istarts(line, prefix))
		return false;
	line = span_from(line, prefix.n);
	return span_istarts(line, word) && (line.n == word.n || line.p[word.n] == ' ');
}

static enum starttls_verdict judge_greeting(struct span line)
{
	if (says(line, SPAN("* "), SPAN("OK")))
		return STARTTLS_ASK;
	if (says(line, SPAN("* "), SPAN("PREAUTH")))
		return STARTTLS_PREAUTH;
	return says(line, SPAN("* "), SPAN("BYE")) ? STARTTLS_REFUSED : STARTTLS_NONSENSE;
}

static enum starttls_verdict judge_answer(struct span line)
{
	if (says(line, SPAN(TAG), SPAN("OK")))
		return STARTTLS_BEGIN;
	if (says(line, SPAN(TAG), SPAN("NO")) || says(line, SPAN(TAG), SPAN("BAD")) ||
	    says(line, SPAN("* "), SPAN("BYE")))
		return STARTTLS_REFUSED;
	return span_istarts(line, SPAN("* ")) ? STARTTLS_MORE : STARTTLS_NONSENSE;
}

/* Greeting and answer alike: one line. */
static enum starttls_verdict judge_pop3(struct span line, enum starttls_verdict good)
{
	if (says(line, SPAN("+"), SPAN("OK")))
		return good;
	return says(line, SPAN("-"), SPAN("ERR")) ? STARTTLS_REFUSED : STARTTLS_NONSENSE;
}

static enum starttls_verdict judge(struct starttls *s)
{
	struct span line = { s->line, s->length };

	if (s->asked)
		return s->pop3 ? judge_pop3(line, STARTTLS_BEGIN) : judge_answer(line);
	enum starttls_verdict verdict =
		s->pop3 ? judge_pop3(line, STARTTLS_ASK) : judge_greeting(line);

	s->asked = verdict == STARTTLS_ASK;
	return verdict;
}

/* One line has ended, and `rest` came with it. */
static enum starttls_verdict end_line(struct starttls *s, struct span rest)
{
	if (s->length > 0 && s->line[s->length - 1] == '\r')
		s->length--;
	enum starttls_verdict verdict = judge(s);

	if (verdict == STARTTLS_BEGIN)
		return rest.n == 0 ? STARTTLS_BEGIN : STARTTLS_INJECTED;
	/* nothing may answer what was not asked yet */
	if (verdict == STARTTLS_ASK && rest.n > 0)
		return STARTTLS_INJECTED;
	if (verdict == STARTTLS_MORE && ++s->lines > STARTTLS_LINES_MAX)
		return STARTTLS_NONSENSE;
	return verdict;
}

enum starttls_verdict starttls_take(struct starttls *s, struct span received)
{
	enum starttls_verdict verdict = STARTTLS_MORE;

	for (size_t i = 0; i < received.n && verdict == STARTTLS_MORE; i++) {
		if (received.p[i] == '\n') {
			verdict = end_line(s, span_from(received, i + 1));
			if (verdict == STARTTLS_MORE || verdict == STARTTLS_ASK)
				s->length = 0;
		} else if (s->length == sizeof(s->line)) {
			verdict = STARTTLS_NONSENSE;
		} else {
			s->line[s->length++] = received.p[i];
		}
	}
	return verdict;
}
