/* What of a client's bytes may stand in a protocol log: all of the session but passwords, SASL
 * responses and the literals of commands that store messages. Pure.
 *
 * The follower knows where lines, literals and commands begin; so the relay shows it one piece
 * after the other (elide_piece) and then asks here what may be seen of it.
 */
#ifndef PROXYD_ELIDE_H
#define PROXYD_ELIDE_H

#include "lib/buf.h"
#include "proxyd/follow.h"

/* What the follower expected before it took a piece. */
struct elide_point {
	enum follow_client client;
	uint64_t literal_left;
	size_t outstanding;
};

struct elide {
	bool knows;	   /* a command's beginning was seen with nothing under way */
	bool secret;	   /* the command is LOGIN, AUTHENTICATE or the like */
	bool blind;	   /* a secret may come at any place: nothing is shown any more */
	bool refusable;	   /* a literal of a secret command may be refused */
	bool announced;	   /* this literal has been noted */
	bool in_secret;	   /* the rest of this line is not shown */
	bool exchange;	   /* AUTHENTICATE: lines are responses until its completion */
	uint64_t exchange_tag;
};

/* Takes what may be seen, in pieces. */
typedef void elide_fn(void *context, struct span shown);

/* The next piece at the front of bytes: to the end of its line or literal. Notes in *ret what the
 * follower expects there. */
struct span elide_piece(const struct follow *f, struct span bytes, struct elide_point *ret);

/* The follower, which expected `before`, has taken this piece: shows what may be seen of it. */
void elide_client(struct elide *e, const struct elide_point *before, const struct follow *f,
		  struct span piece, elide_fn *show, void *context);

#endif
