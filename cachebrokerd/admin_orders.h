/* What an administrator does with mail hosts and users, over the admin socket: drain, pause,
 * resume, flush, kick. */
#ifndef CACHEBROKERD_ADMIN_ORDERS_H
#define CACHEBROKERD_ADMIN_ORDERS_H

#include "cachebrokerd/broker.h"
#include "lib/msg.h"

/* What became of it: enum msg_report, and a line for people, which lives until the call returns. */
typedef void admin_orders_fn(void *context, enum msg_report result, struct span text);

/* Begins one of ADMIN_DRAIN to ADMIN_KICK_USER, as the administrator with this uid wants it; it is
 * done bit by bit, between other things, and logged. done is called once, not before this returns.
 * 0 or -errno. */
int admin_orders_begin(struct broker *b, const struct msg_ADMIN *m, uid_t uid,
		       admin_orders_fn *done, void *context);

/* Is one under way? */
bool admin_orders_are_running(void);

#endif
