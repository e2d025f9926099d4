/* Lines of text files in which accounts are kept. Pure. */
#ifndef LOOKUPD_TEXTLINE_H
#define LOOKUPD_TEXTLINE_H

#include "lookupd/account.h"

/* One line of Courier's userdb: "name<TAB>field=value|field=value". 1: it is a record, *ret_name
 * its name and *ret_fields the rest; 0: a comment, a blank line, or no record. */
int textline_userdb(struct span line, struct span *ret_name, struct span *ret_fields);

/* Fills an account from such a record's fields. `service` says whose password counts. 1; 0 when the
 * record is no account (no uid, gid or home); -EINVAL for a value that cannot be. */
int textline_userdb_account(struct span fields, const char *service, struct account *a);

/* One line of what authdaemond answers to ENUMERATE: "name, uid, gid, home, maildir, options" with
 * tabs between. Returns as textline_userdb(); *ret_options may be empty. */
int textline_enumerated(struct span line, struct span *ret_name, struct span *ret_options);

/* One line of comma-separated values (RFC 4180, but no line ends within quotes): at most `most`
 * fields, which borrow `room` (as large as the line). Returns their number, or -EINVAL. */
int textline_csv(struct span line, char *room, struct span *ret_fields, size_t most);

#endif
