/* The verb table's look-up. Pure. */
#include "proxyd/verbs.h"

static const struct {
	struct span name;
	enum verb_class class;
} verbs[] = {
#define ROW(name, class) { { #name, sizeof(#name) - 1 }, VERB_##class },
	VERB_TABLE(ROW)
};

/* Is the verb in the table? */
static bool look_up(struct span verb, enum verb_class *ret)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (span_ieq(verb, verbs[i].name)) {
			*ret = verbs[i].class;
			return true;
		}
	return false;
}

enum verb_class verb_class_of(struct span verb, struct span second, struct span site_verbs)
{
	enum verb_class class, inner;

	/* what the table says holds: a site cannot call COMPRESS safe */
	if (look_up(verb, &class)) {
		if (class != VERB_UID)
			return class;
		return look_up(second, &inner) && inner == VERB_SAFE ? VERB_SAFE : VERB_NEVER;
	}
	for (;;) {
		struct span site = span_word(&site_verbs, ' ');

		if (site.n == 0)
			return VERB_NEVER;
		if (span_ieq(verb, site))
			return VERB_SAFE;
	}
}

bool verb_is_repeatable(struct span verb, struct span second)
{
#define NAME(name) { #name, sizeof(#name) - 1 },
	static const struct span names[] = { VERB_REPEATABLE(NAME) };

	if (span_ieq(verb, SPAN("UID")))
		verb = second;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (span_ieq(verb, names[i]))
			return true;
	return false;
}

bool verb_line_enables(struct span line)
{
	static const struct {
		char first;
		struct span word;
	} words[] = {
		{ 'm', { "MODSEQ", 6 } },
		{ 'c', { "CONDSTORE", 9 } },
		{ 'c', { "CHANGEDSINCE", 12 } },
		{ 'q', { "QRESYNC", 7 } },
	};

	for (; line.n > 0; line.p++, line.n--)
		for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
			if ((line.p[0] | 0x20) == words[i].first &&
			    span_istarts(line, words[i].word))
				return true;
	return false;
}

/* STATUS: what it asks for stands behind the last parenthesis; a name in front may look alike. */
static enum condstore condstore_of_status(struct span line)
{
	size_t at = line.n;

	while (at > 0 && line.p[at - 1] != '(')
		at--;
	if (at == 0 || line.p[line.n - 1] != ')')
		return CONDSTORE_BY_THE_WAY;
	return span_ihas(span_from(line, at), SPAN("MODSEQ")) ? CONDSTORE_BY_STATUS : CONDSTORE_NOT;
}

enum condstore verb_condstore(struct span verb, struct span line)
{
	const struct span parameter = SPAN(" (CONDSTORE)");

	if (!verb_line_enables(line))
		return CONDSTORE_NOT;
	if (span_ieq(verb, SPAN("STATUS")))
		return condstore_of_status(line);
	if ((span_ieq(verb, SPAN("SELECT")) || span_ieq(verb, SPAN("EXAMINE"))) &&
	    line.n > parameter.n && span_ieq(span_from(line, line.n - parameter.n), parameter))
		return CONDSTORE_BY_SELECT;
	return CONDSTORE_BY_THE_WAY;
}
