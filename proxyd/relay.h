/* The relay's own: what relay.c and the relay_*.c beside it share. Others call relay_run().
 *
 * relay.c moves the bytes, relay_repeat.c replaces a connection that was dead, relay_offer.c
 * decides about one that is only offered, relay_select.c about one with an open mailbox,
 * relay_leave.c says when it is over.
 */
#ifndef PROXYD_RELAY_H
#define PROXYD_RELAY_H

#include "proxyd/follow.h"
#include "proxyd/repeat.h"
#include "proxyd/rewrite.h"
#include "proxyd/session.h"
#include "proxyd/tag.h"

/* What each session touches stands in front, within one page (lib/large.h). */
struct relay {
	struct session *s;
	size_t approved;   /* at the front of s->in: for the backend */
	size_t looked_at;  /* at the front of backend.in: shown to the follower, for the client */
	bool client_ended; /* it sends no more */
	bool client_gone;  /* it takes no more: what comes for it is thrown away */
	bool backend_ended;
	bool backend_deaf;    /* it takes no more: what it said before is still read */
	bool at_rest;	      /* memory has been given back since the last traffic */
	int64_t last_traffic; /* monotonic ms */
	int64_t ended_at;     /* when the client left; 0: it has not */
	int64_t logout_at;    /* when it said LOGOUT */
	int64_t secret_until; /* so long may the credentials be kept for repeat; 0: wiped */
	uint64_t drained;
	struct rewrite rewrite;
	struct repeat repeat; /* a reused connection has not answered yet */
	bool first_waits;     /* the client's first command is looked at (relay_select()) */
	bool hides;	      /* UNSELECT was sent in front of it, and its answer is for nobody */
	struct tag hidden;    /* its tag */
	struct follow follow;
};

/* Milliseconds of a setting in seconds. */
static inline int64_t relay_ms(uint32_t seconds)
{
	return (int64_t)seconds * 1000;
}

/* --- relay.c ------------------------------------------------------------------------------ */

/* The follower begins with the connection that there is. */
void relay_follow(struct relay *r);

/* Counts what came behind the login's OK, or behind an answer that was for nobody. */
void relay_count_early(struct relay *r);

/* Shows the follower what waits from the client, `most` bytes at most. */
void relay_approve(struct relay *r, size_t most);

/* Of a traced session: the client's line, `length` bytes at the front of what waits, is answered
 * here with these bytes. */
void relay_trace_answer(struct relay *r, size_t length, struct span bytes);

/* May the proxy say something of its own? Not in the middle of a response, also not of one that the
 * mail host broke off. */
bool relay_is_between_responses(const struct relay *r);

/* --- relay_repeat.c ------------------------------------------------------------------------- */

/* A reused connection may be dead and have to be replaced, until then (monotonic ms). Not one that
 * is only offered, or was: what is turned on on it would be off on another. */
void relay_expect_repeat(struct relay *r, int64_t until);

/* The reused connection has answered, or need not be replaced any more: wipes the credentials. */
void relay_forget_repeat(struct relay *r);

/* What was sent on a connection that was dead goes to another one, if it may be sent twice.
 * Returns whether it did. */
bool relay_replace_backend(struct relay *r);

/* --- relay_offer.c -------------------------------------------------------------------------- */

/* Is nothing under way, so that what comes next begins a command? */
bool relay_is_still(const struct relay *r);

/* Is there something that relay_pass() has waited for until now, all of it here? */
bool relay_is_offer_due(const struct relay *r);

/* Is it time to decide? The client's password is kept until then. */
bool relay_is_offer_over(const struct relay *r);

/* Has the mail host, or a client that does not read, kept it from being decided for too long? */
bool relay_is_offer_stuck(const struct relay *r);

/* Shows the follower what may go to the backend: on a connection that is only offered one command
 * after the other, else all of it. END_NONE, or why the session ends. */
enum session_end relay_pass(struct relay *r);

/* --- relay_select.c ------------------------------------------------------------------------- */

/* Begins to wait for the client's first command, where it matters. */
void relay_expect_select(struct relay *r);

/* Looks at it, if it is there: answers it or sends UNSELECT in front of it. While r->first_waits
 * nothing may be passed on, either way. END_NONE, or why the session ends. */
enum session_end relay_select(struct relay *r);

/* Closes the mailbox that was left open on the connection: it is the time to, or the client wants
 * something else. What is sent next is sent behind it. END_NONE, or why the session ends. */
enum session_end relay_unselect(struct relay *r);

/* While r->hides, when the client's command has been written: takes away what the mail host answers
 * to UNSELECT. END_NONE, or why the session ends. */
enum session_end relay_hide(struct relay *r);

/* --- relay_leave.c -------------------------------------------------------------------------- */

/* Is it over? END_NONE: not yet. */
enum session_end relay_judge(struct relay *r);

/* BYE and the tagged OK in one write; the client is answered before its connection is reset. */
void relay_say_goodbye(struct relay *r);

/* A BYE of the proxy's own, where the client has had none. */
void relay_say_bye(struct relay *r, enum session_end end);

/* Would a LOGOUT of ours be taken for a command, and not for a part of what the client has begun?
 */
bool relay_may_say_logout(const struct relay *r);

#endif
