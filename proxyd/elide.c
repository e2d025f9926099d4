/* What of a client's bytes may stand in a protocol log.
 *
 * Passwords have no place behind a login, but clients make errors: LOGIN in a session, with or
 * without its tag, AUTHENTICATE with its responses as lines of their own. In doubt nothing is
 * shown. A client whose LOGIN was refused before its literals is not shown any more at all: they
 * may come all the same, and nobody knows which of its lines they are. Traps: tracing may begin in
 * the middle of a command, of which nothing is known; a line that is no command for the follower
 * may be one for the mail host.
 */
#include "proxyd/elide.h"

#include "proxyd/follow_line.h"

#define ELIDED	   "[elided]"
#define WORDS_SEEN 2 /* of a line: where LOGIN may stand, with its tag or without */

struct span elide_piece(const struct follow *f, struct span bytes, struct elide_point *ret)
{
	if (f->client == FOLLOW_LITERAL && bytes.n > f->literal_left)
		bytes.n = (size_t)f->literal_left;
	const char *lf = bytes.n > 0 ? memchr(bytes.p, '\n', bytes.n) : NULL;

	*ret = (struct elide_point){ f->client, f->literal_left, f->outstanding_count };
	if (lf)
		bytes.n = (size_t)(lf - bytes.p) + 1;
	return bytes;
}

static bool is_separator(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\0';
}

static struct span next_word(struct span *rest)
{
	size_t i = 0, begin;

	while (i < rest->n && is_separator(rest->p[i]))
		i++;
	begin = i;
	while (i < rest->n && !is_separator(rest->p[i]))
		i++;
	struct span word = { rest->p + begin, i - begin };

	*rest = span_from(*rest, i);
	return word;
}

/* Is the line secret behind one of its first words? *ret_shown: its length with that word;
 * *ret_exchange: responses follow. */
static bool find_secret(struct span line, size_t *ret_shown, bool *ret_exchange)
{
	struct span rest = line;

	for (unsigned i = 1; i <= WORDS_SEEN; i++) {
		struct span word = next_word(&rest);

		*ret_exchange = span_ieq(word, SPAN("AUTHENTICATE"));
		*ret_shown = line.n - rest.n;
		if (*ret_exchange || span_ieq(word, SPAN("LOGIN")))
			return true;
	}
	return false;
}

static bool is_outstanding(const struct follow *f, uint64_t tag)
{
	for (size_t i = 0; i < f->outstanding_count; i++)
		if (f->outstanding[i] == tag)
			return true;
	return false;
}

static bool ends_line(struct span piece)
{
	return piece.n > 0 && piece.p[piece.n - 1] == '\n';
}

/* The end of a line of which no more is shown. */
static void end_secret(struct elide *e, struct span piece, elide_fn *show, void *context)
{
	if (!e->in_secret)
		show(context, SPAN(ELIDED));
	e->in_secret = !ends_line(piece);
	if (!e->in_secret)
		show(context, SPAN("\r\n"));
}

/* A secret command must be one for the follower, too: else its literals are lines to us. */
static void begin_secret(struct elide *e, const struct follow *f, bool exchange, struct span line)
{
	struct span rest = line, tag = span_word(&rest, ' ');

	e->secret = true;
	e->exchange = exchange;
	e->exchange_tag = follow_tag_hash(tag);
	e->refusable = f->client == FOLLOW_WAIT;
	if (line.p[0] == ' ' || f->current != e->exchange_tag)
		e->blind = true;
}

static void begin_command(struct elide *e, const struct follow *f, struct span piece,
			  elide_fn *show, void *context)
{
	size_t shown;
	bool exchange;

	e->secret = e->refusable = e->in_secret = false;
	if (!find_secret(piece, &shown, &exchange)) {
		show(context, piece);
		return;
	}
	begin_secret(e, f, exchange, piece);
	show(context, (struct span){ piece.p, shown });
	show(context, SPAN(" "));
	end_secret(e, piece, show, context);
}

/* A line where a command begins. */
static void take_line(struct elide *e, const struct elide_point *before, const struct follow *f,
		      struct span piece, elide_fn *show, void *context)
{
	if (before->outstanding == 0)
		e->knows = true;
	if (e->refusable && e->secret)
		e->blind = true; /* its literal was refused */
	if (e->exchange && !is_outstanding(f, e->exchange_tag))
		e->exchange = false;
	if (!e->knows || e->blind || e->exchange)
		end_secret(e, piece, show, context);
	else
		begin_command(e, f, piece, show, context);
}

static void take_literal(struct elide *e, const struct elide_point *before, const struct follow *f,
			 struct span piece, elide_fn *show, void *context)
{
	char bytes[40];
	struct buf note = BUF_OVER(bytes);

	if (e->knows && !e->blind && !e->secret && !f->takes_message) {
		show(context, piece);
		return;
	}
	if (!e->announced && !e->secret && buf_add_char(&note, '[') == 0 &&
	    buf_add_u64(&note, before->literal_left) == 0 &&
	    buf_add_str(&note, " bytes elided]") == 0)
		show(context, buf_span(&note));
	e->announced = f->client == FOLLOW_LITERAL;
}

void elide_client(struct elide *e, const struct elide_point *before, const struct follow *f,
		  struct span piece, elide_fn *show, void *context)
{
	switch (before->client) {
	case FOLLOW_LITERAL:
		take_literal(e, before, f, piece, show, context);
		break;
	case FOLLOW_LINE:
		take_line(e, before, f, piece, show, context);
		break;
	case FOLLOW_DONE: /* the end of IDLE, or what its client took for that */
	case FOLLOW_REST:
	case FOLLOW_LONG:
	case FOLLOW_WAIT:
	case FOLLOW_LOGOUT:
	case FOLLOW_REFUSED:
		if (!e->knows || e->blind || e->secret || e->exchange || e->in_secret)
			end_secret(e, piece, show, context);
		else
			show(context, piece);
		if (e->secret)
			e->refusable = f->client == FOLLOW_WAIT;
		break;
	}
}
