/* What a directory's driver is: one file each, driver_KIND.c.
 *
 * A worker opens its directories once and asks them one question after the other. A driver may
 * block, but not for long: DRIVER_TIMEOUT_MS in all for one question, as far as its library lets
 * it; what takes longer ends the worker (patience.h). It keeps its connection, makes a new one when
 * the old one is dead, and trusts nothing that its directory says. Sockets of ours it does not see.
 */
#ifndef LOOKUPD_DRIVER_H
#define LOOKUPD_DRIVER_H

#include "lookupd/account.h"

#define DRIVER_TIMEOUT_MS 5000

enum found {
	FOUND = 1,
	FOUND_NOT,     /* there is no such account here: the next directory is asked */
	FOUND_TROUBLE, /* this question cannot be answered now */
	FOUND_DOWN,    /* nor can any other one: the directory cannot be reached, or is silent */
	FOUND_REFUSED, /* there is, and the password is not its own */
	FOUND_DENIED,  /* one of both: it does not say which. The next directory is asked */
};

/* What is asked of a directory. */
struct driver_question {
	const char *service; /* "imap" or "pop3" */
	struct span user;    /* without control characters */
	bool check;	     /* is `secret` its password? */
	struct span secret;  /* such as can be one (password.h) */
	const char *client;  /* the client's numeric address; "": not known */
	bool tls;	     /* the client has TLS */
	uint32_t attempt;    /* which login attempt of the client's it is, from 1; 0: not known */
};

/* What is wrong, for people: one line, without secrets. */
struct why {
	char text[200];
};

__attribute__((format(printf, 2, 3))) void why_say(struct why *w, const char *format, ...);

struct driver {
	const char *kind;

	/* Gets ready: reads what `place` of the configuration names (a file of settings, which must
	 * be readable) and checks it, but connects to nothing: the directory may be down. c lives
	 * as long as the source. 0 and *ret, or -errno and *why. */
	int (*open)(const char *place, const struct config *c, void **ret, struct why *why);

	/* Looks an account up. *ret was begun with account_init(); what is in it counts only with
	 * FOUND. A directory that gives hashes or clear passwords leaves `check` to
	 * directories.c; one that judges passwords itself sets ret->checked when it is right,
	 * and else says REFUSED or DENIED. With TROUBLE and DOWN *why is set. */
	enum found (*find)(void *source, const struct driver_question *q, struct account *ret,
			   struct why *why);

	void (*close)(void *source);
};

/* The driver of this kind, or NULL when this lookupd was built without it. */
const struct driver *driver_of(struct span kind);

#endif
