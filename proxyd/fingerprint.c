/* Fingerprints.
 *
 * Only one command of the opening's kind is followed at a time, and only one that has the
 * connection to itself can be told again: its answer depends on nothing but what was turned on
 * before, in the same way. A second one meanwhile makes everything unknown, which costs that
 * client's connection and nobody else.
 */
#include "proxyd/fingerprint.h"

#include <errno.h>

/* What turns something on by its own answer. */
static const struct kind {
	struct span verb, answer;
} kinds[] = {
	{ { "ENABLE", 6 }, { "* ENABLED", 9 } },    /* RFC 5161 */
	{ { "LANGUAGE", 8 }, { "* LANGUAGE", 10 } }, /* RFC 5255 section 3.2 */
};

static const struct span language = { "LANGUAGE=", 9 };
static const struct span by_status = { "CONDSTORE=STATUS", 16 };
static const struct span by_select = { "CONDSTORE=SELECT", 16 };

void fingerprint_init(struct fingerprint *fp)
{
	fp->unknown = fp->pending = false;
	fp->condstore = CONDSTORE_NOT;
	fp->length = fp->opening_length = fp->draft_length = fp->line_length = 0;
}

static struct span text_of(const struct fingerprint *fp)
{
	return (struct span){ fp->text, fp->length };
}

bool fingerprint_has(struct span text, struct span word)
{
	for (;;) {
		struct span each = span_word(&text, ' ');

		if (each.n == 0)
			return false;
		if (span_eq(each, word))
			return true;
	}
}

/* Is a before b in the order of bytes? */
static bool is_before(struct span a, struct span b)
{
	int order = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);

	return order != 0 ? order < 0 : a.n < b.n;
}

/* Inserts a canonical word in its place, instead of another language if it is one. -ENOBUFS. */
static int insert(struct fingerprint *fp, struct span word)
{
	char bytes[FINGERPRINT_MAX];
	struct buf out = BUF_OVER(bytes);
	struct span rest = text_of(fp);
	bool done = false;

	for (;;) {
		struct span each = span_word(&rest, ' ');
		bool old = span_istarts(each, language) && span_istarts(word, language);

		if (!done && (each.n == 0 || is_before(word, each))) {
			done = true;
			if ((out.len > 0 && buf_add_char(&out, ' ') < 0) || buf_add(&out, word) < 0)
				return -ENOBUFS;
		}
		if (each.n == 0)
			break;
		if (!old && ((out.len > 0 && buf_add_char(&out, ' ') < 0) ||
			     buf_add(&out, each) < 0))
			return -ENOBUFS;
	}
	memcpy(fp->text, bytes, out.len);
	fp->length = out.len;
	return 0;
}

static bool is_printable(struct span word)
{
	for (size_t i = 0; i < word.n; i++)
		if (word.p[i] <= ' ' || word.p[i] >= 0x7f)
			return false;
	return word.n > 0;
}

/* Something is on: `before` + word in one case. */
static void turn_on(struct fingerprint *fp, struct span before, struct span word, bool lower)
{
	char bytes[80];
	size_t n = before.n + word.n;

	if (n > sizeof(bytes) || !is_printable(word)) {
		fp->unknown = true;
		return;
	}
	memcpy(bytes, before.p, before.n);
	for (size_t i = 0; i < word.n; i++) {
		char c = word.p[i];

		if (lower ? c >= 'A' && c <= 'Z' : c >= 'a' && c <= 'z')
			c = (char)(c ^ 0x20);
		bytes[before.n + i] = c;
	}
	if (fingerprint_has(text_of(fp), (struct span){ bytes, n }))
		return;
	fp->adds = true;
	if (insert(fp, (struct span){ bytes, n }) < 0)
		fp->unknown = true;
}

/* The words of "* ENABLED ...". QRESYNC turns CONDSTORE on as well (RFC 7162 section 3.2.3). */
static void take_enabled(struct fingerprint *fp, struct span words)
{
	for (;;) {
		struct span word = span_word(&words, ' ');

		if (word.n == 0)
			return;
		if (span_istarts(word, SPAN("CONDSTORE="))) /* our own words */
			fp->unknown = true;
		turn_on(fp, SPAN_NONE, word, false);
		if (span_ieq(word, SPAN("QRESYNC")))
			turn_on(fp, SPAN_NONE, SPAN("CONDSTORE"), false);
	}
}

/* "* LANGUAGE (DE)" is the language from now on; several are those that there are. */
static void take_language(struct fingerprint *fp, struct span words)
{
	struct span tag = span_word(&words, ' ');

	if (words.n > 0 || tag.n < 3 || tag.p[0] != '(' || tag.p[tag.n - 1] != ')') {
		fp->unknown = true;
		return;
	}
	tag = (struct span){ tag.p + 1, tag.n - 2 };
	if (tag.n > 1 && tag.p[0] == '"' && tag.p[tag.n - 1] == '"')
		tag = (struct span){ tag.p + 1, tag.n - 2 };
	turn_on(fp, language, tag, true);
}

static const struct kind *kind_of(struct span command)
{
	struct span verb = span_word(&command, ' ');

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (span_ieq(verb, kinds[i].verb))
			return &kinds[i];
	return NULL;
}

/* The untagged answer to command: true if it is that. */
static bool take_answer(struct fingerprint *fp, struct span command, struct span line)
{
	const struct kind *kind = kind_of(command);

	if (!kind || !span_istarts(line, kind->answer) ||
	    (line.n > kind->answer.n && line.p[kind->answer.n] != ' '))
		return false;
	if (kind == &kinds[0])
		take_enabled(fp, span_from(line, kind->answer.n));
	else
		take_language(fp, span_from(line, kind->answer.n));
	return true;
}

/* --- openings ------------------------------------------------------------------------------ */
static bool next_line(struct span *rest, struct span *ret)
{
	const char *lf = memchr(rest->p, '\n', rest->n);
	size_t n = lf ? (size_t)(lf - rest->p) : 0;

	if (n < 1 || rest->p[n - 1] != '\r' || memchr(rest->p, '\r', n - 1))
		return false;
	*ret = (struct span){ rest->p, n - 1 };
	*rest = span_from(*rest, n + 1);
	return true;
}

bool fingerprint_next_step(struct span *rest, struct fingerprint_step *ret)
{
	struct span at = *rest;

	if (!next_line(&at, &ret->command) || !next_line(&at, &ret->untagged) ||
	    !next_line(&at, &ret->tagged) || !kind_of(ret->command) ||
	    !span_istarts(ret->tagged, SPAN("OK")))
		return false;
	*rest = at;
	return true;
}

int fingerprint_repeat(struct fingerprint *fp, struct span opening)
{
	struct fingerprint_step step;
	struct span rest = opening;

	fingerprint_init(fp);
	if (opening.n > FINGERPRINT_OPEN)
		return -EINVAL;
	while (fingerprint_next_step(&rest, &step))
		if (step.untagged.n > 0 && !take_answer(fp, step.command, step.untagged))
			return -EINVAL;
	memcpy(fp->opening, opening.p, opening.n);
	fp->opening_length = opening.n;
	return rest.n == 0 && !fp->unknown ? 0 : -EINVAL;
}

int fingerprint_load(struct fingerprint *fp, struct span text, struct span opening)
{
	char bytes[FINGERPRINT_MAX];
	struct buf said = BUF_OVER(bytes);

	if (fingerprint_repeat(fp, opening) < 0)
		return -EINVAL;
	fp->condstore = fingerprint_has(text, by_select)   ? CONDSTORE_BY_SELECT
			: fingerprint_has(text, by_status) ? CONDSTORE_BY_STATUS
							   : CONDSTORE_NOT;
	return fingerprint_write(fp, &said) == 0 && span_eq(buf_span(&said), text) ? 0 : -EINVAL;
}

/* --- what happens on the connection -------------------------------------------------------- */
/* Was CONDSTORE turned on, and not by the opening? */
static bool has_residue(const struct fingerprint *fp)
{
	return fp->condstore != CONDSTORE_NOT && !fingerprint_has(text_of(fp), SPAN("CONDSTORE"));
}

static void draft_line(struct fingerprint *fp, struct span line)
{
	struct buf draft = { .data = fp->draft, .cap = sizeof(fp->draft), .len = fp->draft_length };

	/* a line break inside would be one of the opening's */
	if (memchr(line.p, '\r', line.n) || buf_add(&draft, line) < 0 ||
	    buf_add_str(&draft, "\r\n") < 0)
		fp->repeatable = false;
	fp->draft_length = draft.len;
}

void fingerprint_command(struct fingerprint *fp, struct span command, uint64_t tag, bool plain,
			 bool alone)
{
	if (fp->pending || !alone || !plain || command.n > FINGERPRINT_LINE) {
		fp->unknown = true;
		return;
	}
	fp->pending = true;
	fp->repeatable = !has_residue(fp);
	fp->answered = fp->adds = false;
	fp->tag = tag;
	fp->draft_length = fp->line_length = 0;
	draft_line(fp, command);
}

/* The surest way counts. While ENABLE is under way it is not known yet whether it matters. */
static void imply_condstore(struct fingerprint *fp, enum condstore how)
{
	bool certain = fp->condstore == CONDSTORE_BY_SELECT;

	if (how == CONDSTORE_BY_THE_WAY ? !certain : how > fp->condstore)
		fp->condstore = how;
}

/* CONDSTORE that cannot be told again. */
static void judge_condstore(struct fingerprint *fp)
{
	if (!fp->pending && has_residue(fp) && fp->condstore == CONDSTORE_BY_THE_WAY)
		fp->unknown = true;
}

void fingerprint_implied(struct fingerprint *fp, struct span line, enum condstore how)
{
	imply_condstore(fp, how);
	judge_condstore(fp);
	/* QRESYNC without ENABLE is an error; who takes it nevertheless has turned it on */
	if (span_ihas(line, SPAN("QRESYNC")) && !fp->pending &&
	    !fingerprint_has(text_of(fp), SPAN("QRESYNC")))
		fp->unknown = true;
}

void fingerprint_piece(struct fingerprint *fp, struct span piece)
{
	size_t room = sizeof(fp->line) - (fp->line_length < sizeof(fp->line) ? fp->line_length
									      : sizeof(fp->line));

	if (piece.n <= room)
		memcpy(fp->line + fp->line_length, piece.p, piece.n);
	fp->line_length = piece.n <= room ? fp->line_length + piece.n : sizeof(fp->line) + 1;
}

/* The line that has ended, without its CR; empty when it was too long. */
static struct span take_line(struct fingerprint *fp)
{
	struct span line = { fp->line, fp->line_length <= sizeof(fp->line) ? fp->line_length : 0 };

	fp->line_length = 0;
	if (line.n > 0 && line.p[line.n - 1] == '\r')
		line.n--;
	return line;
}

void fingerprint_untagged(struct fingerprint *fp, bool rest)
{
	struct span line = take_line(fp), command = { fp->draft, fp->draft_length };

	if (line.n == 0 || rest) {
		fp->unknown = true;
	} else if (take_answer(fp, command, line)) {
		fp->repeatable = fp->repeatable && !fp->answered;
		fp->answered = true;
		draft_line(fp, line);
	} else {
		fp->repeatable = false;
	}
}

static bool is_enable(const struct fingerprint *fp)
{
	return kind_of((struct span){ fp->draft, fp->draft_length }) == &kinds[0];
}

/* Is the draft's command in the opening already? */
static bool was_said(const struct fingerprint *fp)
{
	struct span opening = { fp->opening, fp->opening_length };
	struct span draft = { fp->draft, fp->draft_length }, command;
	struct fingerprint_step step;

	if (!next_line(&draft, &command))
		return false;
	while (fingerprint_next_step(&opening, &step))
		if (span_eq(step.command, command))
			return true;
	return false;
}

/* A command that turned nothing on is told again, too, if it can be: SnappyMail asks for
 * UTF8=ACCEPT each time, whether the mail host has it or not. */
static void append_draft(struct fingerprint *fp)
{
	struct span draft = { fp->draft, fp->draft_length };

	if (!fp->repeatable || fp->opening_length + draft.n > sizeof(fp->opening)) {
		fp->unknown = fp->unknown || fp->adds;
		return;
	}
	if (!fp->adds && was_said(fp))
		return;
	memcpy(fp->opening + fp->opening_length, draft.p, draft.n);
	fp->opening_length += draft.n;
}

void fingerprint_tagged(struct fingerprint *fp)
{
	struct span line = take_line(fp), text = line;

	(void)span_word(&text, ' ');
	text = span_from(text, 1);
	struct span rest = text, result = span_word(&rest, ' ');
	bool good = span_ieq(result, SPAN("OK"));

	fp->pending = false;
	judge_condstore(fp);
	if (!good && !span_ieq(result, SPAN("NO")) && !span_ieq(result, SPAN("BAD")))
		fp->unknown = true;
	/* Dovecot and Cyrus say nothing when ENABLE turned nothing on; LANGUAGE must say what it
	 * is */
	if (good ? !fp->answered && !is_enable(fp) : fp->answered)
		fp->unknown = true;
	if (!good)
		return;
	/* a list must not reach another client unfiltered (rewrite.h) */
	if (span_istarts(text, SPAN("OK [CAPABILITY")))
		fp->repeatable = false;
	if (!fp->answered)
		draft_line(fp, SPAN_NONE);
	draft_line(fp, text);
	append_draft(fp);
}

bool fingerprint_is_known(const struct fingerprint *fp)
{
	return !fp->unknown && !fp->pending;
}

int fingerprint_write(const struct fingerprint *fp, struct buf *out)
{
	struct fingerprint all;

	if (!fingerprint_is_known(fp))
		return buf_add_str(out, "?");
	if (!has_residue(fp))
		return buf_add(out, text_of(fp));
	all.length = fp->length;
	memcpy(all.text, fp->text, fp->length);
	if (insert(&all, fp->condstore == CONDSTORE_BY_SELECT ? by_select : by_status) < 0)
		return -ENOBUFS;
	return buf_add(out, text_of(&all));
}
