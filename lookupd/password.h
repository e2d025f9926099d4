/* Is this the password? All forms that passwords are stored in (imapproxy.conf(5), PASSWORDS).
 * Pure, but for the memory and the time that slow forms take: both are bounded.
 */
#ifndef LOOKUPD_PASSWORD_H
#define LOOKUPD_PASSWORD_H

#include "lib/span.h"

/* No longer one is anybody's; crypt(3) takes 511 bytes. */
#define PASSWORD_TYPED_MAX  8192
#define PASSWORD_SCHEME_MAX 24
#define PASSWORD_BYTES_MAX  512 /* of a stored form, decoded */

enum password_verdict {
	PASSWORD_RIGHT = 1,
	PASSWORD_WRONG,
	PASSWORD_UNKNOWN, /* the stored form is of no scheme that is known here */
	PASSWORD_BROKEN,  /* it is of a known scheme, but cut off or not well-formed */
	PASSWORD_COSTLY,  /* to compute it would take longer than anybody may wait */
	PASSWORD_LONG,	  /* what was typed is longer than the stored form can be compared with */
};

/* Can what a client typed be anybody's password? Not when it is empty, too long, or has NUL, CR or
 * LF in it, which end texts in the protocols that passwords go through. */
bool password_is_possible(struct span typed);

/* Compares with a stored form, {SCHEME}... or one of crypt(3)'s. An empty one is nobody's. scheme
 * is set to its name, for messages (a name only, no part of the hash). */
enum password_verdict password_check(struct span stored, struct span typed,
				     char scheme[PASSWORD_SCHEME_MAX]);

/* Compares with a clear password; an empty one is nobody's. */
bool password_same(struct span clear, struct span typed);

#endif
