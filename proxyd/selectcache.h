/* A mailbox that was opened with EXAMINE and is left open on an idle connection, with the answer
 * that a client gets when it opens it in the same way (enable_select_cache). Pure.
 *
 * Never SELECT: whoever asks a mail host for news of a mailbox that is open for writing takes
 * \Recent away from the session that it was meant for (RFC 3501 section 2.3.2).
 *
 * The text is lines with CRLF: the mailbox's name as the client sent it, the untagged lines of the
 * answer, its result without the tag, and the mailbox's STATUS at the same moment.
 */
#ifndef PROXYD_SELECTCACHE_H
#define PROXYD_SELECTCACHE_H

#include "lib/buf.h"

#define SELECT_NAME 200	 /* of a mailbox's name, with its quotes */
#define SELECT_TEXT 2000 /* as in lib/msg_table.h */

/* What is asked of a mailbox's STATUS. Not HIGHESTMODSEQ: that turns CONDSTORE on. */
#define SELECT_STATUS "(MESSAGES UIDNEXT UIDVALIDITY UNSEEN)"

/* The text, while it is put together from the lines of the mail host. */
struct select_text {
	struct buf text;
	size_t name, answer, result; /* where each of these ends, behind its CRLF */
	unsigned seen;		     /* which lines have come */
};

/* Is this line of a client (without its end) EXAMINE of one mailbox and nothing else, which can be
 * said again? *ret_name is the name as it stands there, *ret_tag its tag. */
bool select_is_examine(struct span line, struct span *ret_tag, struct span *ret_name);

/* Do two such names mean the same mailbox: quoted or not, INBOX in any case? */
bool select_is_same(struct span a, struct span b);

/* Begins a text over an array of the caller's. 0 or -EINVAL: not such a name. */
int select_begin(struct select_text *t, char *array, size_t size, struct span name);

/* The next untagged line of the answer (without CRLF); its result; STATUS. 0, or -EINVAL: it says
 * what nobody can be sure of later, or is not what should come now. */
int select_add_line(struct select_text *t, struct span line);
int select_add_result(struct select_text *t, struct span result);
int select_add_status(struct select_text *t, struct span line);

/* Has all of it come? */
bool select_is_whole(const struct select_text *t);

/* The same with a text that was whole elsewhere: every line is judged again. 0 or -EINVAL. */
int select_load(struct select_text *t, char *array, size_t size, struct span text);

/* Parts of a whole text; the lines with their CRLF, the others without. */
struct span select_name(const struct select_text *t);
struct span select_lines(const struct select_text *t);
struct span select_result(const struct select_text *t);
struct span select_status(const struct select_text *t);

#endif
