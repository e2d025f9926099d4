/* Giving a backend connection back: reset, barrier, GIVE. */
#ifndef PROXYD_GIVEBACK_H
#define PROXYD_GIVEBACK_H

#include "proxyd/follow.h"
#include "proxyd/session.h"

/* Keeps in s->marks what is turned on on the connection, for the broker: what it hears with the
 * next three, or with the session's end. */
void giveback_note(struct session *s, const struct follow *f);

/* Tells the broker that this session's connection is on its way back, if it may be: a login of the
 * same account then waits for it for a moment. Call it before the client is told goodbye. Returns
 * whether it may. */
bool giveback_announce(struct session *s, const struct follow *f);

/* After giveback_announce() said so: brings the connection into the state of a fresh login, or
 * leaves a mailbox open on it (kept.h), proves it, and gives it to the broker; closes it when
 * anything is odd. Sets s->not_cached. */
void giveback_run(struct session *s, const struct follow *f);

#endif
