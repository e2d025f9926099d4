/* What an administrator asks for: XPROXY_ commands of a session before login, and the requests of
 * pimpstat over the admin socket. Answers go out with REPORT, some of them later.
 */
#ifndef CACHEBROKERD_ADMIN_H
#define CACHEBROKERD_ADMIN_H

#include "cachebrokerd/peer.h"

struct admin_request;

/* Who asks: one request at a time. All zero at first. */
struct admin_caller {
	struct admin_request *request; /* that will be answered later */
	uid_t uid;	   /* of the admin socket's other end */
	uint64_t dump_until;	       /* numbers of sessions that came later are not in the dump */
};

/* May a session whose client has this address ask? The configuration says so. */
bool admin_allows(const struct broker *b, const char *address);

/* Says at the start that everybody may, where nobody else knows who can connect. */
void admin_warn(const struct broker *b);

/* Deals with ADMIN, whose kind the caller has judged. 0, or -errno: the peer is to be cut off. */
int admin_ask(struct admin_caller *c, struct peer *p, const struct msg *m);

/* Answers that this is not for him. 0. */
int admin_deny(struct peer *p, uint32_t serial);

/* The caller is gone: nobody waits for an answer. */
void admin_gone(struct admin_caller *c);

#endif
