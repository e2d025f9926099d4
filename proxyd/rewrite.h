/* What the client sees of the mail host's bytes after login: everything as it came, but capability
 * lists without what is not offered (docs/ARCHITECTURE.md, "Capabilities").
 *
 * A list stands in "* CAPABILITY ..." and in the [CAPABILITY ...] code of a status response. Its
 * words are judged one by one as they come, so that neither the line's length matters nor the
 * pieces in which it comes. Pure: no sockets, no clock.
 */
#ifndef PROXYD_REWRITE_H
#define PROXYD_REWRITE_H

#include "lib/buf.h"
#include "proxyd/follow.h"

/* So many bytes of the buffer must be left free by who reads into it: a list may become longer. */
#define REWRITE_ROOM 64

/* A longer word of a list is left out: nobody can say what it is. */
#define REWRITE_WORD 256

enum rewrite_state {
	REWRITE_PASS, /* nothing in the rest of this line is ours */
	REWRITE_TAG,  /* in the first word of a line */
	REWRITE_HEAD, /* behind it: what has come so far may become a list */
	REWRITE_LIST, /* in a list */
	REWRITE_SKIP, /* in a word that is too long */
};

struct rewrite {
	enum rewrite_state state;
	char first;	    /* byte of the line */
	bool untagged;	    /* "*" is its first word */
	bool in_code;	    /* the list ends with "]" */
	unsigned char seen; /* bytes of head; of the first word, while in it: 0, 1, more */
	char head[24];	    /* what has come behind the first word */
	size_t held;	    /* bytes of a list's word, followed but not yet judged */
	struct span hide;   /* borrowed for the session's life */
};

/* A stream that begins behind a login's tagged completion. */
void rewrite_init(struct rewrite *w, struct span hide);

/* Shows the server's bytes that stand in b from `ready` on to the follower, and rewrites lists in
 * them. Returns the new `ready`: so many bytes at the front of b are for the client. What is behind
 * waits for more bytes or, when b is full, for room: call it again after either. */
size_t rewrite_server(struct rewrite *w, struct follow *f, struct buf *b, size_t ready);

#endif
