/* Capability lists: what the proxy offers before login and what it lets through afterwards
 * (docs/ARCHITECTURE.md, "Capabilities"). Pure. */
#ifndef PROXYD_CAPABILITY_H
#define PROXYD_CAPABILITY_H

#include "lib/buf.h"

/* The proxy's own list, before the account and so the mail host is known. XIMAPPROXY is last: it
 * tells Horde what it talks to. IDLE is left out, as up-imapproxy does; it works in a session. */
#define CAPABILITY_OWN "IMAP4rev1 LITERAL+ SASL-IR ID ENABLE"

/* So long can it be. */
#define CAPABILITY_OWN_MAX 300

/* Appends it: STARTTLS where it can be begun; AUTH=… for this set of mechanisms (lib/sasl.h), or
 * LOGINDISABLED where no login is allowed yet (RFC 9051 section 6.2.3). 0 or -ENOBUFS. */
int capability_add_own(bool starttls, bool may_log_in, uint32_t mechanisms, struct buf *out);

/* Is name in the list (words separated by blanks, in any case)? */
bool capability_has(struct span list, struct span name);

/* Is this word of a mail host's list told to clients after login? Not what the proxy cannot keep up
 * or must not offer, nor the words of hide. XIMAPPROXY is for the list's end. */
bool capability_offered(struct span word, struct span hide);

/* Appends the mail host's list after login with its offered words only, and XIMAPPROXY at the
 * end. 0 or -ENOBUFS. */
int capability_filter(struct span list, struct span hide, struct buf *out);

/* The list in a response: the words of "* CAPABILITY ..." or of a [CAPABILITY ...] code in the
 * line. Returns false when the line (without CRLF) has none. */
bool capability_in_line(struct span line, struct span *ret);

#endif
