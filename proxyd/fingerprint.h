/* What was turned on, on one connection to a mail host, and cannot be turned off again: its
 * fingerprint. Pure.
 *
 * The text is canonical: words in order, in upper case ("CONDSTORE QRESYNC UTF8=ACCEPT"), so that
 * two connections with the same text behave alike. The opening is how it came about: the ENABLE and
 * LANGUAGE commands in their order with the mail host's answers, kept so that a later client that
 * says the same gets the answers that a fresh connection would give (offer.h).
 *
 * CONDSTORE that came about without ENABLE is a word of its own ("CONDSTORE=STATUS",
 * "CONDSTORE=SELECT"): who has asked for it with STATUS is told nothing of it by Cyrus.
 *
 * In doubt something is on. What cannot be named, or has not come about in a way that can be told
 * again, makes the connection one that is never given back.
 */
#ifndef PROXYD_FINGERPRINT_H
#define PROXYD_FINGERPRINT_H

#include "lib/buf.h"
#include "proxyd/verbs.h"

#define FINGERPRINT_MAX	 200  /* of the text, as in lib/msg_table.h */
#define FINGERPRINT_OPEN 1000 /* of the opening, as there */
#define FINGERPRINT_LINE 300  /* of one command or answer */

struct fingerprint {
	bool unknown;	/* cannot be named or told again */
	enum condstore condstore; /* a command other than ENABLE may have turned that on */
	bool pending;	/* a command of the opening's kind is under way: */
	bool repeatable; /* it may become part of the opening */
	bool answered;	 /* its untagged answer has come */
	bool adds;	 /* and turned something on that was off */
	uint64_t tag;	 /* hash of its tag */
	size_t length, opening_length, draft_length;
	size_t line_length; /* of the server's line; more than FINGERPRINT_LINE: too long */
	char text[FINGERPRINT_MAX];
	char opening[FINGERPRINT_OPEN];
	char draft[2 * FINGERPRINT_LINE]; /* the command and its answer so far */
	char line[FINGERPRINT_LINE];
};

/* One command of an opening with its answer, as the mail host gave it. */
struct fingerprint_step {
	struct span command;  /* "ENABLE QRESYNC" */
	struct span untagged; /* "* ENABLED QRESYNC"; empty: none came, nothing was turned on */
	struct span tagged;   /* "OK Enabled.": without the tag */
};

/* A connection that nothing was turned on on. */
void fingerprint_init(struct fingerprint *fp);

/* One on which this opening was said. 0 or -EINVAL. */
int fingerprint_repeat(struct fingerprint *fp, struct span opening);

/* One that was given back with this text and this opening, which have come from another process. 0
 * or -EINVAL when they do not belong together. */
int fingerprint_load(struct fingerprint *fp, struct span text, struct span opening);

/* A command of the opening's kind is sent: its text behind the tag, whole and without a literal if
 * `plain`. `alone`: nothing else is under way, selected or half received. */
void fingerprint_command(struct fingerprint *fp, struct span command, uint64_t tag, bool plain,
			 bool alone);

/* This line of some other command may turn CONDSTORE or QRESYNC on. What does it by the way cannot
 * be offered again (offer.h): before it, the client has done what tells whether it was on. */
void fingerprint_implied(struct fingerprint *fp, struct span line, enum condstore how);

/* While a command is pending: bytes of a server's line, without its end; the end of an untagged
 * line, `rest` if it began before a literal; the end of the line with the command's tag. */
void fingerprint_piece(struct fingerprint *fp, struct span piece);
void fingerprint_untagged(struct fingerprint *fp, bool rest);
void fingerprint_tagged(struct fingerprint *fp);

/* Can the connection be told from any other by its text alone, and be offered to a client? */
bool fingerprint_is_known(const struct fingerprint *fp);

/* Appends the text; "?" when it is not known. 0 or -ENOBUFS. */
int fingerprint_write(const struct fingerprint *fp, struct buf *out);

/* Is word (in upper case) one of the text's? */
bool fingerprint_has(struct span text, struct span word);

/* Takes the next step off the front of an opening. False: there is none (or it is malformed: rest
 * is not empty then). */
bool fingerprint_next_step(struct span *rest, struct fingerprint_step *ret);

#endif
