/* IMAP commands after login and what each leaves on a connection: an allow-list, one row a verb.
 *
 *	VERB(NAME, class)
 *
 * Sources: the RFC of each extension; what is not listed is VERB_NEVER, so that a new extension can
 * never slip through (docs/ARCHITECTURE.md, "Quiet"). RLIST and RLSUB (RFC 2193) are listed so that
 * no site calls them safe: Cyrus takes them for a client that follows referrals, from then on.
 * FILTER is Pigeonhole's, XAPPLEPUSHSERVICE registers a device with the mail host, for good.
 */
#ifndef PROXYD_VERBS_H
#define PROXYD_VERBS_H

#include "lib/span.h"

enum verb_class {
	VERB_SAFE,	  /* leaves nothing that another session of the account could notice */
	VERB_SELECT,	  /* a mailbox is or may be selected: UNSELECT brings it back (RFC 3691) */
	VERB_IDLE,	  /* a command in progress until DONE (RFC 2177) */
	VERB_LOGOUT,	  /* answered by the proxy, never forwarded */
	VERB_UID,	  /* the second word decides */
	VERB_FINGERPRINT, /* cannot be undone: ENABLE (RFC 5161), LANGUAGE (RFC 5255) */
	VERB_NEVER,	  /* the connection is never given back */
	VERB_REFUSED,	  /* answered by the proxy, never forwarded: what would take the stream or
			   * the account from under it (RFC 4978, RFC 8437, STARTTLS) */
};

#define VERB_TABLE(VERB) \
	VERB(NOOP, SAFE) VERB(CAPABILITY, SAFE) VERB(ID, SAFE) VERB(NAMESPACE, SAFE) \
	VERB(SELECT, SELECT) VERB(EXAMINE, SELECT) VERB(CLOSE, SAFE) VERB(UNSELECT, SAFE) \
	VERB(LOGOUT, LOGOUT) VERB(IDLE, IDLE) VERB(UID, UID) \
	VERB(FETCH, SAFE) VERB(STORE, SAFE) VERB(COPY, SAFE) VERB(MOVE, SAFE) VERB(EXPUNGE, SAFE) \
	VERB(SEARCH, SAFE) VERB(SORT, SAFE) VERB(THREAD, SAFE) VERB(CHECK, SAFE) \
	VERB(ESEARCH, SAFE) VERB(LIST, SAFE) VERB(LSUB, SAFE) VERB(XLIST, SAFE) \
	VERB(STATUS, SAFE) VERB(APPEND, SAFE) \
	VERB(CREATE, SAFE) VERB(DELETE, SAFE) VERB(RENAME, SAFE) \
	VERB(SUBSCRIBE, SAFE) VERB(UNSUBSCRIBE, SAFE) VERB(REPLACE, SAFE) \
	VERB(GETQUOTA, SAFE) VERB(GETQUOTAROOT, SAFE) VERB(SETQUOTA, SAFE) \
	VERB(GETACL, SAFE) VERB(SETACL, SAFE) VERB(DELETEACL, SAFE) VERB(LISTRIGHTS, SAFE) \
	VERB(MYRIGHTS, SAFE) VERB(GETMETADATA, SAFE) VERB(SETMETADATA, SAFE) \
	VERB(GETANNOTATION, SAFE) VERB(SETANNOTATION, SAFE) VERB(CANCELUPDATE, SAFE) \
	VERB(GENURLAUTH, SAFE) VERB(URLFETCH, SAFE) VERB(RESETKEY, SAFE) \
	VERB(UIDBATCHES, SAFE) VERB(FILTER, SAFE) VERB(GETJMAPACCESS, SAFE) \
	VERB(XAPPLEPUSHSERVICE, SAFE) \
	VERB(ENABLE, FINGERPRINT) VERB(LANGUAGE, FINGERPRINT) \
	VERB(NOTIFY, NEVER) VERB(COMPARATOR, NEVER) VERB(LOGIN, NEVER) VERB(AUTHENTICATE, NEVER) \
	VERB(RLIST, NEVER) VERB(RLSUB, NEVER) \
	VERB(COMPRESS, REFUSED) VERB(STARTTLS, REFUSED) VERB(UNAUTHENTICATE, REFUSED) \
	VERB(X-UNAUTHENTICATE, REFUSED)

/* Those that change nothing but the connection itself, so that they may be sent once more when a
 * connection died before it answered. Not FETCH, which sets \Seen. UID: the second word decides.
 */
#define VERB_REPEATABLE(VERB) \
	VERB(NOOP) VERB(CAPABILITY) VERB(ID) VERB(NAMESPACE) VERB(ENABLE) VERB(IDLE) \
	VERB(SELECT) VERB(EXAMINE) VERB(UNSELECT) VERB(STATUS) VERB(LIST) VERB(LSUB) VERB(XLIST) \
	VERB(SEARCH) VERB(SORT) VERB(THREAD) VERB(ESEARCH) VERB(GETQUOTA) VERB(GETQUOTAROOT) \
	VERB(GETACL) VERB(LISTRIGHTS) VERB(MYRIGHTS) VERB(GETMETADATA) VERB(GETANNOTATION) \
	VERB(UIDBATCHES) VERB(GETJMAPACCESS)

/* May a command with this verb be sent again if no answer came? */
bool verb_is_repeatable(struct span verb, struct span second);

/* The class of a verb in any case; second is the word behind it, which decides for UID.
 * site_verbs lists the site's own safe verbs, separated by spaces (safe_commands). */
enum verb_class verb_class_of(struct span verb, struct span second, struct span site_verbs);

/* Does this line of a command turn CONDSTORE or QRESYNC on, in one of its implicit forms too:
 * MODSEQ, HIGHESTMODSEQ, CHANGEDSINCE, UNCHANGEDSINCE (RFC 7162 section 3.1)? May say yes for a
 * mailbox that is called so. */
bool verb_line_enables(struct span line);

/* How a command may turn CONDSTORE on, if verb_line_enables(). The first two say the same whether
 * it was on before or not. */
enum condstore {
	CONDSTORE_NOT,
	CONDSTORE_BY_STATUS,  /* STATUS (HIGHESTMODSEQ): RFC 7162 section 3.1.7. Cyrus does not */
	CONDSTORE_BY_SELECT,  /* SELECT or EXAMINE with just (CONDSTORE): section 3.1.8 */
	CONDSTORE_BY_THE_WAY, /* anything else */
};

/* How does this whole command, with nothing selected? */
enum condstore verb_condstore(struct span verb, struct span line);

#endif
