/* Offers.
 *
 * What is missing is what is on without the client having asked: at first all of the fingerprint's
 * words, in the end none. A word that is missing may change answers: UTF8=ACCEPT and IMAP4rev2
 * those with mailbox names, CONDSTORE and QRESYNC (RFC 7162) only those about messages. So the
 * table says of each command which words it may meet.
 */
#include "proxyd/offer.h"

#include <errno.h>

#include "proxyd/verbs.h"

/* What may be passed on, and when. All of it without literals, and with nothing selected. */
static const struct {
	struct span verb;
	bool names; /* has to do with mailboxes' names: only CONDSTORE and QRESYNC may be missing */
} passable[] = {
	{ { "NOOP", 4 }, false },     { { "CAPABILITY", 10 }, false }, { { "ID", 2 }, false },
	{ { "LOGOUT", 6 }, false },   { { "NAMESPACE", 9 }, true },    { { "LIST", 4 }, true },
	{ { "LSUB", 4 }, true },      { { "STATUS", 6 }, true },       { { "MYRIGHTS", 8 }, true },
};

int offer_begin(struct offer *o, struct span text, struct span opening)
{
	struct fingerprint fp;

	if (text.n == 0 || fingerprint_load(&fp, text, opening) < 0)
		return -EINVAL;
	o->answered = o->asked_length = 0;
	memcpy(o->text, text.p, text.n);
	o->text_length = text.n;
	memcpy(o->opening, opening.p, opening.n);
	o->opening_length = opening.n;
	o->open = true;
	return 0;
}

struct span offer_answers(const struct offer *o)
{
	return (struct span){ o->opening, o->answered };
}

static struct span rest_of(const struct offer *o)
{
	return (struct span){ o->opening + o->answered, o->opening_length - o->answered };
}

/* Which words are on that the client has not turned on? Calls for each until one says no. */
static bool each_missing(const struct offer *o, bool (*fits)(struct span word))
{
	struct fingerprint asked;
	struct span words = { o->text, o->text_length };

	if (fingerprint_repeat(&asked, offer_answers(o)) < 0)
		return false;
	for (;;) {
		struct span word = span_word(&words, ' ');

		if (word.n == 0)
			return true;
		if (!fingerprint_has((struct span){ asked.text, asked.length }, word) &&
		    !fits(word))
			return false;
	}
}

static bool none(struct span word)
{
	(void)word;
	return false;
}

static bool is_by_status(struct span word)
{
	return span_eq(word, SPAN("CONDSTORE=STATUS"));
}

static bool is_by_select(struct span word)
{
	return span_eq(word, SPAN("CONDSTORE=SELECT")) || span_eq(word, SPAN("CONDSTORE"));
}

static bool is_of_messages(struct span word)
{
	return is_by_select(word) || is_by_status(word) || span_eq(word, SPAN("QRESYNC"));
}

bool offer_is_taken(const struct offer *o)
{
	return each_missing(o, none);
}

void offer_answered(struct offer *o)
{
	struct span rest = rest_of(o);
	struct fingerprint_step step;

	if (fingerprint_next_step(&rest, &step))
		o->answered = o->opening_length - rest.n;
}

/* Does the command turn on, in its way, what alone is missing? */
static bool completes(const struct offer *o, enum condstore how)
{
	return (how == CONDSTORE_BY_STATUS && each_missing(o, is_by_status)) ||
	       (how == CONDSTORE_BY_SELECT && each_missing(o, is_by_select));
}

/* A command that is in the way of no fingerprint, or that turns CONDSTORE on when only that is
 * missing. */
static enum offer_verdict judge_other(const struct offer *o, struct span verb, struct span line)
{
	enum condstore how = verb_condstore(verb, line);

	if (line.p[line.n - 1] == '}') /* a literal may come */
		return OFFER_SWAP;
	for (size_t i = 0; i < sizeof(passable) / sizeof(passable[0]); i++) {
		if (!span_ieq(verb, passable[i].verb))
			continue;
		if (how == CONDSTORE_NOT && (!passable[i].names || each_missing(o, is_of_messages)))
			return OFFER_PASS;
		break;
	}
	return line.n <= sizeof(o->asked) && completes(o, how) ? OFFER_ENABLES : OFFER_SWAP;
}

void offer_ask(struct offer *o, struct span line)
{
	(void)span_word(&line, ' ');
	line = span_from(line, 1);
	memcpy(o->asked, line.p, line.n);
	o->asked_length = line.n;
}

enum offer_verdict offer_judge(const struct offer *o, struct span line,
			       struct fingerprint_step *ret_step)
{
	struct span command = line, tag = span_word(&command, ' '), rest = rest_of(o);

	command = span_from(command, 1);
	struct span words = command, verb = span_word(&words, ' ');

	if (line.n == 0 || line.p[0] == ' ' || tag.n > OFFER_TAG || verb.n == 0)
		return OFFER_SWAP;
	for (size_t i = 0; i < tag.n; i++)
		if (tag.p[i] <= ' ' || tag.p[i] >= 0x7f || strchr("(){%*\"\\+", tag.p[i]))
			return OFFER_SWAP;
	if (fingerprint_next_step(&rest, ret_step) && span_eq(ret_step->command, command))
		return OFFER_ANSWER;
	return judge_other(o, verb, line);
}
