/* The arguments of IMAP commands before login (RFC 9051 section 9). Pure. */
#ifndef PROXYD_IMAP_ARGS_H
#define PROXYD_IMAP_ARGS_H

#include "lib/buf.h"

/* A command split at its first blanks. */
struct imap_command {
	struct span tag;
	struct span verb;
	struct span args; /* behind one blank; with the announcements and bytes of literals in it */
};

/* The longest tag that is answered. */
#define IMAP_TAG_MAX 1000

/* Splits a command (without its last CRLF). 0; -EINVAL for a tag that is none; -ENODATA when there
 * is no verb behind the tag, which is set then. */
int imap_split(struct span whole, struct imap_command *ret);

/* Takes an astring off the front of rest and appends its value to out: an atom (leniently: anything
 * up to the next blank), a quoted string, or a literal. 0; -ENODATA when there is nothing; -EINVAL
 * for a string that is not well-formed or holds a NUL; -ENOBUFS when it does not fit. */
int imap_take_astring(struct span *rest, struct buf *out);

/* Appends value as a quoted string. 0; -EINVAL when a quoted string cannot carry it (control
 * characters, 8-bit bytes): a literal is needed; -ENOBUFS. */
int imap_add_quoted(struct buf *out, struct span value);

/* Checks the arguments of ID (RFC 2971: NIL, or a list of at most 30 pairs) and appends them in a
 * form that can be sent to any server on one line. 0; -EINVAL; -ENOBUFS for a list too long to
 * keep. */
int imap_read_id(struct span args, struct buf *out);

#endif
