/* Capability lists. */
#include "proxyd/capability.h"

#include <errno.h>

#include "lib/sasl.h"

/* Words that begin like this are not offered after login: they are settled before it, change the
 * stream under the proxy, change who is logged in, or lead past the proxy (URLAUTH: its URLs name
 * the mail host). */
static const struct span not_offered[] = {
	{ "AUTH=", 5 },
	{ "SASL-IR", 7 },
	{ "STARTTLS", 8 },
	{ "LOGINDISABLED", 13 },
	{ "COMPRESS=", 9 },
	{ "UNAUTHENTICATE", 14 },
	{ "X-UNAUTHENTICATE", 16 },
	{ "LOGIN-REFERRALS", 15 },
	{ "MAILBOX-REFERRALS", 17 },
	{ "URLAUTH", 7 },
	{ "JMAPACCESS", 10 },
	{ "XIMAPPROXY", 10 },
};

int capability_add_own(bool starttls, bool may_log_in, uint32_t mechanisms, struct buf *out)
{
	struct sasl_row row;
	int r;

	(void)((r = buf_add_str(out, CAPABILITY_OWN)) ||
	       (r = starttls ? buf_add_str(out, " STARTTLS") : 0) ||
	       (r = may_log_in ? 0 : buf_add_str(out, " LOGINDISABLED")));
	for (size_t i = 0; r == 0 && may_log_in && sasl_row_at(i, &row); i++)
		if (mechanisms & row.bit)
			(void)((r = buf_add_str(out, " AUTH=")) || (r = buf_add(out, row.name)));
	return r == 0 ? buf_add_str(out, " XIMAPPROXY") : r;
}

bool capability_has(struct span list, struct span name)
{
	for (;;) {
		struct span word = span_word(&list, ' ');

		if (word.n == 0)
			return false;
		if (span_ieq(word, name))
			return true;
	}
}

bool capability_offered(struct span word, struct span hide)
{
	for (size_t i = 0; i < sizeof(not_offered) / sizeof(not_offered[0]); i++)
		if (span_istarts(word, not_offered[i]))
			return false;
	return !capability_has(hide, word);
}

int capability_filter(struct span list, struct span hide, struct buf *out)
{
	for (;;) {
		struct span word = span_word(&list, ' ');

		if (word.n == 0)
			return buf_add_str(out, "XIMAPPROXY");
		if (!capability_offered(word, hide))
			continue;
		if (buf_add(out, word) < 0 || buf_add_char(out, ' ') < 0)
			return -ENOBUFS;
	}
}

/* Behind "* OK " or "tag OK ": the code must stand there, not anywhere in the text. */
static struct span code_of(struct span line)
{
	struct span rest = line, tag = span_word(&rest, ' '), status = span_word(&rest, ' ');
	struct span code = span_from(rest, 1);

	if (tag.n == 0 || !(span_ieq(status, SPAN("OK")) || span_ieq(status, SPAN("PREAUTH"))) ||
	    code.n == 0 || code.p[0] != '[')
		return SPAN_NONE;
	const char *end = memchr(code.p, ']', code.n);

	return end ? (struct span){ code.p + 1, (size_t)(end - code.p) - 1 } : SPAN_NONE;
}

bool capability_in_line(struct span line, struct span *ret)
{
	struct span words =
		span_istarts(line, SPAN("* CAPABILITY ")) ? span_from(line, 2) : code_of(line);

	if (!span_istarts(words, SPAN("CAPABILITY ")))
		return false;
	*ret = span_from(words, 11);
	return true;
}
