/* Following an IMAP session: the client's half and the quiet rule.
 *
 * Tags are kept as 64-bit hashes, so that tags of any length cost the same. A client that makes two
 * of its own tags collide confuses nobody: every completion removes exactly one entry, and it is
 * their number that decides.
 */
#include "proxyd/follow.h"

#include "proxyd/follow_line.h"
#include "proxyd/verbs.h"

void follow_init(struct follow *f, struct span site_verbs)
{
	memset(f, 0, offsetof(struct follow, outstanding));
	fingerprint_init(&f->fingerprint);
	f->site_verbs = site_verbs;
	follow_line_init(&f->line);
}

static void spoil(struct follow *f, enum not_cached reason)
{
	if (f->spoiled == NOT_CACHED_NOTHING)
		f->spoiled = reason;
}

bool follow_literal_at_end(struct span line, uint64_t *ret_length, bool *ret_sync)
{
	size_t end = line.n;

	if (end < 3 || line.p[end - 1] != '}')
		return false;
	end--;
	bool sync = line.p[end - 1] != '+';

	if (!sync)
		end--;
	size_t start = end;

	while (start > 0 && line.p[start - 1] >= '0' && line.p[start - 1] <= '9')
		start--;
	if (start == 0 || line.p[start - 1] != '{' ||
	    span_u64((struct span){ line.p + start, end - start }, INT64_MAX, ret_length) < 0)
		return false;
	*ret_sync = sync;
	return true;
}

/* A tag of RFC 9051 section 9: printable ASCII without atom-specials and "+". */
static bool is_tag(struct span tag)
{
	for (size_t i = 0; i < tag.n; i++)
		if (tag.p[i] <= ' ' || tag.p[i] >= 0x7f || strchr("(){%*\"\\+", tag.p[i]))
			return false;
	return tag.n > 0;
}

/* The line's text without its end. A bare LF, or a CR or NUL inside, is read differently by
 * different servers: such a connection is not given back. */
static struct span strip_end(struct follow *f, struct span line)
{
	line.n--;
	if (line.n > 0 && line.p[line.n - 1] == '\r')
		line.n--;
	else
		spoil(f, NOT_CACHED_ODD);
	if (memchr(line.p, '\r', line.n) || memchr(line.p, '\0', line.n))
		spoil(f, NOT_CACHED_ODD);
	return line;
}

/* Does the line leave a quoted string open? */
static bool quote_is_open(struct span line)
{
	bool open = false;

	for (size_t i = 0; i < line.n; i++) {
		if (line.p[i] == '"')
			open = !open;
		else if (line.p[i] == '\\' && open)
			i++;
	}
	return open;
}

/* Does the announcement at the end of this line stand alone, behind a blank or a parenthesis? Glued
 * to an atom, or in a quoted string that does not end, it is a literal for one server and a syntax
 * error for another. */
static bool announced_clearly(struct span line)
{
	struct span tail = line;

	while (tail.n > 0 && tail.p[tail.n - 1] != '{')
		tail.n--;
	size_t before = tail.n - (tail.n > 1 && tail.p[tail.n - 2] == '~' ? 2 : 1);

	return before > 0 && (tail.p[before - 1] == ' ' || tail.p[before - 1] == '(') &&
	       !quote_is_open(line);
}

/* What comes behind this line of a command: another line of it, a literal, or the next command. */
static void end_line(struct follow *f, struct span tail)
{
	uint64_t length;
	bool sync;

	f->client = FOLLOW_LINE;
	if (follow_literal_at_end(tail, &length, &sync)) {
		if (!announced_clearly(tail))
			spoil(f, NOT_CACHED_ODD);
		f->literal_left = length;
		f->waits_for_idle = false;
		f->unasked = !sync;
		f->client = sync ? FOLLOW_WAIT : length > 0 ? FOLLOW_LITERAL : FOLLOW_REST;
	} else if (tail.n > 1 && tail.p[tail.n - 1] == '}' && memchr(tail.p, '{', tail.n)) {
		spoil(f, NOT_CACHED_ODD); /* looks like an announcement, is none for us */
	}
	if (f->dropping && f->client == FOLLOW_WAIT)
		f->client = FOLLOW_LINE; /* the answer came in the continuation's place */
	f->dropping = f->dropping && f->client != FOLLOW_LINE;
}

/* A message has lines; no other argument that clients push without asking does. */
static bool stores_message(struct span verb, struct span second)
{
	struct span name = span_ieq(verb, SPAN("UID")) ? second : verb;

	return span_ieq(name, SPAN("APPEND")) || span_ieq(name, SPAN("REPLACE"));
}

static void judge_verb(struct follow *f, enum verb_class class)
{
	switch (class) {
	case VERB_SELECT:
		f->selected = true;
		break;
	case VERB_NEVER:
		spoil(f, NOT_CACHED_VERB);
		break;
	case VERB_SAFE:
	case VERB_FINGERPRINT:
	case VERB_IDLE:
	case VERB_LOGOUT:
	case VERB_REFUSED:
	case VERB_UID:
		break;
	}
}

static bool begin_logout(struct follow *f, struct span tag, size_t line_length)
{
	if (tag.n > FOLLOW_TAG)
		return false;
	memcpy(f->logout_tag, tag.p, tag.n);
	f->logout_tag_length = tag.n;
	f->logout_line_length = line_length;
	f->client = FOLLOW_LOGOUT;
	return true;
}

/* How does this command turn CONDSTORE on? Not openly behind a mailbox that was selected without
 * it; but STATUS does not turn on what it has turned on before. */
static enum condstore condstore_of(const struct follow *f, struct span verb, struct span line,
				   bool selected)
{
	enum condstore how = verb_condstore(verb, line);
	bool again = how == CONDSTORE_BY_STATUS && f->fingerprint.condstore == how;

	if (how == CONDSTORE_NOT || (f->client == FOLLOW_LINE && (!selected || again)))
		return how;
	return CONDSTORE_BY_THE_WAY;
}

/* ENABLE and the like have been sent; or a command may turn CONDSTORE on by the way. `selected`: a
 * mailbox was or may have been before. */
static void note_enabling(struct follow *f, enum verb_class class, struct span line, bool alone,
			  bool selected)
{
	struct span rest = line;

	(void)span_word(&rest, ' ');
	struct span command = span_from(rest, 1), verb = span_word(&rest, ' ');
	enum condstore how = condstore_of(f, verb, line, selected);

	if (class == VERB_FINGERPRINT)
		fingerprint_command(&f->fingerprint, command, f->current, f->client == FOLLOW_LINE,
				    alone);
	else if (how != CONDSTORE_NOT)
		fingerprint_implied(&f->fingerprint, line, how);
}

/* Has the next command the connection to itself? */
static bool is_alone(const struct follow *f)
{
	return f->outstanding_count == 0 && !f->selected && f->line.length == 0 &&
	       f->server_literal_left == 0 && !f->server_rest;
}

/* The first line of a command. Returns false when it must not be passed on. */
static bool begin_command(struct follow *f, struct span line, size_t line_length)
{
	struct span rest = line;
	struct span tag = span_word(&rest, ' '), verb = span_word(&rest, ' ');
	struct span second = span_word(&rest, ' ');

	enum verb_class class = verb_class_of(verb, second, f->site_verbs);
	bool well_formed = line.n > 0 && line.p[0] != ' ' && is_tag(tag) && verb.n > 0;

	if (class == VERB_REFUSED) { /* whatever the tag: the mail host may see no harm in it */
		f->refused_tag_length = well_formed ? tag.n : 0;
		f->client = FOLLOW_REFUSED;
		return false;
	}
	if (!well_formed) {
		spoil(f, NOT_CACHED_ODD); /* answered without a tag, or not at all */
		return true;
	}
	if (class == VERB_LOGOUT && begin_logout(f, tag, line_length))
		return false;
	bool alone = is_alone(f), selected = f->selected;

	judge_verb(f, class);
	f->takes_message = stores_message(verb, second);
	f->current = follow_tag_hash(tag);
	f->outstanding[f->outstanding_count++] = f->current;
	end_line(f, line);
	note_enabling(f, class, line, alone, selected);
	if (class == VERB_IDLE && f->client == FOLLOW_LINE) {
		f->waits_for_idle = true;
		f->client = FOLLOW_WAIT;
	}
	return true;
}

/* A line while IDLE runs: DONE ends it; LOGOUT there is against the rules and happens. */
static bool end_idle(struct follow *f, struct span line, size_t line_length)
{
	struct span rest = line;
	struct span tag = span_word(&rest, ' '), verb = span_word(&rest, ' ');

	if (span_ieq(verb, SPAN("LOGOUT")) && is_tag(tag) && begin_logout(f, tag, line_length))
		return false;
	if (!span_ieq(line, SPAN("DONE")))
		spoil(f, NOT_CACHED_ODD);
	f->owes_done = false;
	f->client = FOLLOW_LINE;
	return true;
}

/* One complete line, with its end. Returns false when it must not be passed on. */
static bool take_line(struct follow *f, struct span whole)
{
	struct span line = strip_end(f, whole);

	if (f->client == FOLLOW_DONE)
		return end_idle(f, line, whole.n);
	if (f->client == FOLLOW_REST || f->dropping) {
		if (!f->dropping && verb_line_enables(line))
			fingerprint_implied(&f->fingerprint, line, CONDSTORE_BY_THE_WAY);
		end_line(f, line);
		return true;
	}
	return begin_command(f, line, whole.n);
}

/* The buffer is full and its line has no end: from here on the line is passed on as it comes. Its
 * command counts as outstanding, so that LOGOUT behind it waits, but the connection is not given
 * back. */
static void begin_long_line(struct follow *f, struct span part)
{
	spoil(f, NOT_CACHED_ODD);
	f->owes_done = false; /* if IDLE ran, this line ends it */
	if (f->client == FOLLOW_LINE) {
		struct span rest = part, tag = span_word(&rest, ' ');

		if (is_tag(tag) && f->outstanding_count < FOLLOW_OUTSTANDING) {
			f->current = follow_tag_hash(tag);
			f->outstanding[f->outstanding_count++] = f->current;
		}
	}
	follow_line_init(&f->long_line);
	f->client = FOLLOW_LONG;
}

static size_t take_long_line(struct follow *f, struct span bytes)
{
	bool ended;
	size_t n = follow_line_add(&f->long_line, bytes, &ended);

	if (ended) {
		char tail[sizeof(f->long_line.tail)];

		end_line(f, follow_line_tail(&f->long_line, tail));
	}
	return n;
}

/* Servers that have their answer before the literal (Dovecot, for arguments too many or not
 * understood) do not skip an unasked one: its lines are commands to them, hidden from us. With a
 * message that is seen by BAD. */
static void judge_literal(struct follow *f, struct span piece)
{
	if (!f->unasked || !memchr(piece.p, '\n', piece.n))
		return;
	f->pushed_lines = true;
	if (!f->takes_message)
		spoil(f, NOT_CACHED_ODD);
}

static size_t take_literal(struct follow *f, struct span bytes)
{
	size_t n = bytes.n < f->literal_left ? bytes.n : (size_t)f->literal_left;

	if (!f->dropping)
		judge_literal(f, (struct span){ bytes.p, n });
	f->literal_left -= n;
	if (f->literal_left == 0)
		f->client = FOLLOW_REST;
	return n;
}

/* One step at the front of bytes: how many of them may be passed on; 0 is a halt. */
static size_t step(struct follow *f, struct span bytes, bool full)
{
	if (f->client == FOLLOW_WAIT || f->client == FOLLOW_LOGOUT || f->client == FOLLOW_REFUSED)
		return 0;
	if (f->client == FOLLOW_LITERAL)
		return take_literal(f, bytes);
	if (f->client == FOLLOW_LONG)
		return take_long_line(f, bytes);
	if (f->client == FOLLOW_LINE && f->outstanding_count == FOLLOW_OUTSTANDING)
		return 0;

	const char *end = memchr(bytes.p, '\n', bytes.n);

	if (end) {
		size_t n = (size_t)(end - bytes.p) + 1;

		return take_line(f, (struct span){ bytes.p, n }) ? n : 0;
	}
	if (!full)
		return 0;
	begin_long_line(f, bytes);
	return take_long_line(f, bytes);
}

size_t follow_client(struct follow *f, struct span bytes, bool full)
{
	size_t done = 0;
	bool dropping = f->dropping;

	while (done < bytes.n && f->dropping == dropping) {
		size_t n = step(f, span_from(bytes, done), full && done == 0);

		if (n == 0)
			break;
		done += n;
	}
	return done;
}

void follow_refused(struct follow *f)
{
	f->client = FOLLOW_LINE;
	f->dropping = true;
}

void follow_repeated(struct follow *f, struct span command)
{
	struct span rest = command;
	enum condstore how = verb_condstore(span_word(&rest, ' '), command);

	if (how != CONDSTORE_NOT)
		fingerprint_implied(&f->fingerprint, command, how);
	f->selected = how == CONDSTORE_BY_SELECT;
}

void follow_sent_done(struct follow *f)
{
	f->owes_done = false;
	if (f->client == FOLLOW_DONE)
		f->client = FOLLOW_LINE;
}

enum not_cached follow_quiet(const struct follow *f)
{
	if (f->bye)
		return NOT_CACHED_BACKEND_GONE;
	if (f->spoiled != NOT_CACHED_NOTHING)
		return f->spoiled;
	if (f->fingerprint.unknown)
		return NOT_CACHED_FINGERPRINT;
	if (f->client != FOLLOW_LINE && f->client != FOLLOW_LOGOUT)
		return NOT_CACHED_PARTIAL;
	if (f->outstanding_count > 0 || f->line.length > 0 || f->server_literal_left > 0 ||
	    f->server_rest)
		return NOT_CACHED_BUSY;
	return NOT_CACHED_NOTHING;
}
