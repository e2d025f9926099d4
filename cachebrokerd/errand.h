/* Errands: what needs IMAP or POP3 but no client is done by a process that a listener starts for it
 * (docs/ARCHITECTURE.md, "Errands").
 */
#ifndef CACHEBROKERD_ERRAND_H
#define CACHEBROKERD_ERRAND_H

#include "cachebrokerd/broker.h"
#include "cachebrokerd/caller.h"
#include "lib/codes.h"

/* Has LOGOUT said on the idle connection id of this account to this host and then closes it: takes
 * over fd, whose watch must have ended. Never waits. Without a listener, with too many errands at
 * once, or when the broker is stopping, fd is simply closed. */
void errand_logout(struct broker *b, struct host *host, const struct key *account,
		   uint64_t id, int fd);

/* Is LOGOUT being said, or about to be, on a connection of this account? */
bool errand_logs_out(const struct key *account);

/* What a login by errand is to be told, and with what. */
struct errand_login {
	struct span backend_user, authzid, secret;
	const struct caller *caller; /* for whom; NULL: nobody */
};

/* What became of it. */
enum errand_verdict {
	VERDICT_ACCEPTED, /* the connection comes back with it, if it can be used */
	VERDICT_REFUSED,  /* the mail host says that this password is wrong or not allowed */
	VERDICT_NONE,	  /* it said neither, or the errand took too long */
	VERDICT_LOST,	  /* the errand ended without a word: perhaps it was never begun */
};

/* Called once, not before errand_login() has returned. *fd is the connection's descriptor or -1:
 * take it with take_fd(), else it is closed. `code` is what the mail host said with its refusal.
 * Returns 0, or -errno for a descriptor that the errand must not send. */
typedef int errand_login_fn(void *context, enum errand_verdict verdict, enum response_code code,
			    int *fd, struct span capabilities);

/* Could a login be started now? Not without a listener, nor when too many errands run or have a
 * place reserved. And how many. */
bool errand_may_log_in(const struct broker *b);
unsigned errand_room(const struct broker *b);

/* May one of these places be this host's? Of what the other hosts have left it gets half, for a
 * host that is frozen holds each for its whole time; without directories, which name others, it
 * gets all. */
bool errand_has_place(const struct broker *b, const struct host *h);

/* One of these places is kept for a login that needs a connection first; and it is had, or not
 * needed: call this right before errand_log_in(). */
void errand_reserve(void);
void errand_release(struct broker *b);

/* Is there a listener, or was there one that will be there again in a moment, so that errands can
 * be had at all? */
bool errand_has_listener(const struct broker *b);

/* Logs in on the fresh connection id to this host; fd stays the caller's. Never waits and is never
 * put in line: 0 or -errno. */
int errand_log_in(struct broker *b, struct host *host, uint64_t id, int fd,
		  const struct errand_login *with, errand_login_fn *done, void *context);

/* Has the fresh connection id to this host greeted: it comes back with the capability list before
 * login. As errand_log_in(), but that no verdict is VERDICT_REFUSED. */
int errand_greet(struct broker *b, struct host *host, uint64_t id, int fd,
		 errand_login_fn *done, void *context);

/* How many seconds that may take at most. */
uint32_t errand_login_seconds(const struct broker *b);

#endif
