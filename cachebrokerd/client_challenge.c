/* Challenged clients: AUTH_STEP between a session and the worker that has its conversation.
 *
 * A session may be taken over. So it names no worker, its number of the conversation must be the
 * one that is under way for it, and of what it says only the mechanism and the data are passed on.
 * A conversation counts among its login attempts when it begins, since each is a guess; the LEASE
 * behind one that ended well is that same attempt.
 *
 * APOP's challenge is in the greeting, long before a client answers, if ever. It is made here, as
 * long as the client is there, and put in front of each answer: a session that could name one would
 * be verified by a pair that somebody has overheard. Each answer is a login attempt.
 */
#include "cachebrokerd/client_challenge.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "cachebrokerd/client_lease.h"
#include "cachebrokerd/lookup.h"
#include "cachebrokerd/own.h"
#include "lib/clock.h"
#include "lib/sasl.h"

#define APOP_TEXT 320 /* <random.time@host> */

struct challenge {
	uint64_t apop;	      /* the number of the greeting's challenge; 0: there is none, */
	char apop_text[APOP_TEXT]; /* and its text */
	struct question *question;
	uint32_t serial; /* of the AUTH_STEP under way */
	uint32_t mechanism;
	uint64_t worker;       /* that has the conversation, */
	uint64_t conversation; /* of this number; 0: there is none */
	bool verified, paid;
	int64_t settled_at; /* the broker's: another one after a reload */
	size_t user_length;
	char user[512]; /* who is verified */
};

bool client_verified(const struct client *c, struct span *ret)
{
	const struct challenge *h = c->challenge;

	if (!h || !h->verified)
		return false;
	*ret = (struct span){ h->user, h->user_length };
	return true;
}

bool client_challenge_is_old(const struct client *c)
{
	return c->challenge && c->challenge->settled_at != c->broker->settled_at;
}

bool client_challenge_paid(struct client *c)
{
	bool paid = c->challenge && c->challenge->paid;

	if (paid)
		c->challenge->paid = false;
	return paid;
}

void client_challenge_pay(struct client *c)
{
	if (c->challenge)
		c->challenge->paid = true;
}

bool client_in_challenge(const struct client *c)
{
	const struct challenge *h = c->challenge;

	/* one that the client gave up is not told of; the greeting's is no conversation yet */
	return h && (h->question || (h->conversation != 0 && h->conversation != h->apop &&
				     !c->connection));
}

void client_challenge_restore(struct client *c, struct span user, bool paid, bool old)
{
	struct challenge *h = calloc(1, sizeof(*h));

	if (!h || user.n > sizeof(h->user)) {
		free(h);
		return;
	}
	h->verified = true;
	h->settled_at = c->broker->settled_at - (old ? 1 : 0);
	h->paid = paid;
	h->user_length = user.n;
	memcpy(h->user, user.p, user.n);
	c->challenge = h;
}

void client_leave_challenge(struct client *c)
{
	if (!c->challenge)
		return;
	question_drop(&c->challenge->question);
	free(c->challenge);
	c->challenge = NULL;
}

/* What the session is told: nothing that it does not need. */
static int answer(struct client *c, enum msg_auth status, struct span user, struct span data,
		  struct span why)
{
	const struct challenge *h = c->challenge;
	const struct msg m = { .type = MSG_AUTH_STEP,
			       .serial = h->serial,
			       .AUTH_STEP = { .session = c->id,
					      .conversation = h->conversation,
					      .service = c->service,
					      .mechanism = h->mechanism,
					      .status = status,
					      .client = SPAN_NONE,
					      .user = user,
					      .why = why,
					      .data = data } };

	return peer_send(c->peer, &m, -1);
}

/* The conversation is over, without the client's being verified. */
static void fail(struct client *c, enum msg_auth status, struct span user, struct span why)
{
	struct state *state = c->broker->state;
	bool refused = status == AUTH_REFUSED;

	c->challenge->conversation = 0;
	state_count(state, refused ? COUNTER_logins_refused : COUNTER_logins_failed, 1);
	(void)answer(c, status, user, SPAN_NONE, why);
}

static void take_verified(struct client *c, const struct msg_AUTH_STEP *step)
{
	struct challenge *h = c->challenge;

	if (step->user.n == 0) {
		fail(c, AUTH_UNAVAILABLE, SPAN_NONE, SPAN("the worker names nobody"));
		return;
	}
	h->conversation = 0;
	h->verified = h->paid = true;
	h->user_length = step->user.n;
	memcpy(h->user, step->user.p, step->user.n);
	(void)answer(c, AUTH_ACCEPTED, step->user, step->data, SPAN_NONE);
}

static void on_step(void *context, const struct msg *m)
{
	struct client *c = context;
	struct challenge *h = c->challenge;

	h->question = NULL;
	c->state = CLIENT_READY;
	if (!m) {
		fail(c, AUTH_UNAVAILABLE, SPAN_NONE, SPAN("no look-up worker can judge it now"));
		return;
	}
	const struct msg_AUTH_STEP *step = &m->AUTH_STEP;

	switch (step->status) {
	case AUTH_CONTINUES:
		h->conversation = step->conversation; /* 0 could not be gone on with */
		(void)answer(c, AUTH_CONTINUES, SPAN_NONE, step->data, SPAN_NONE);
		break;
	case AUTH_ACCEPTED:
		take_verified(c, step);
		break;
	case AUTH_REFUSED:
		fail(c, AUTH_REFUSED, step->user, step->why);
		break;
	default:
		fail(c, AUTH_UNAVAILABLE, step->user, step->why);
	}
}

/* Whatever was verified before is not any more. */
static void clear(struct challenge *h, const struct msg *m)
{
	memset(&h->question, 0, sizeof(*h) - offsetof(struct challenge, question));
	h->serial = m->serial;
	h->mechanism = m->AUTH_STEP.mechanism;
}

/* Begins anew. 0; 1 when that was refused; -errno. */
static int begin(struct client *c, const struct msg *m)
{
	struct challenge *h = c->challenge;

	clear(h, m);
	h->settled_at = c->broker->settled_at;
	if (c->leases >= c->broker->config.login_attempts) {
		state_count(c->broker->state, COUNTER_logins_failed, 1);
		(void)client_refuse_with(c, m->serial, REFUSAL_ATTEMPTS, "login_attempts");
		return 1;
	}
	tries_set(c->broker->tries, &c->visit, ++c->leases);
	/* a session may have the settings of before a reload */
	if (!config_offers(&c->broker->config, h->mechanism & SASL_CHALLENGES)) {
		fail(c, AUTH_UNAVAILABLE, SPAN_NONE, SPAN("the mechanism is not offered"));
		return 1;
	}
	return 0;
}

static int go_on(struct challenge *h, const struct msg *m)
{
	if (m->AUTH_STEP.conversation != h->conversation || m->AUTH_STEP.mechanism != h->mechanism)
		return -EPROTO;
	h->serial = m->serial;
	return 0;
}

/* The client is about to be greeted, which happens once. */
static int greet(struct client *c, const struct msg *m)
{
	struct challenge *h = c->challenge;
	char host[OWN_NAME_MAX + 1];
	uint64_t random[3];

	clear(h, m);
	if (h->apop)
		return -EPROTO;
	if (!config_offers(&c->broker->config, SASL_APOP) ||
	    getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return answer(c, AUTH_UNAVAILABLE, SPAN_NONE, SPAN_NONE, SPAN_NONE);
	own_name(c->broker, host);
	(void)snprintf(h->apop_text, sizeof(h->apop_text), "<%016" PRIx64 "%016" PRIx64 ".%lld@%s>",
		       random[0], random[1], (long long)clock_wall(), host);
	h->conversation = h->apop = random[2] | 1;
	return answer(c, AUTH_CONTINUES, SPAN_NONE, span_str(h->apop_text), SPAN_NONE);
}

/* A name and a digest, for the challenge of the greeting: it makes one text with them. A session
 * that was greeted under a broker before us is told "not now". 0; 1 when it was refused; -errno. */
static int judge_apop(struct client *c, const struct msg *m, struct buf *text, struct span *ret)
{
	struct challenge *h = c->challenge;
	int r = begin(c, m);

	if (r != 0)
		return r;
	if (h->apop == 0 || m->AUTH_STEP.conversation != h->apop) {
		fail(c, AUTH_UNAVAILABLE, SPAN_NONE, SPAN("its greeting had another challenge"));
		return 1;
	}
	if (buf_add_str(text, h->apop_text) || buf_add_char(text, ' ') ||
	    buf_add(text, m->AUTH_STEP.data)) {
		fail(c, AUTH_REFUSED, SPAN_NONE, SPAN("the answer to the challenge is too long"));
		return 1;
	}
	*ret = buf_span(text);
	return 0;
}

/* What the worker shall judge. 0; 1 when there is nothing to judge any more; -errno. */
static int take_step(struct client *c, const struct msg *m, struct buf *text, struct span *ret)
{
	*ret = m->AUTH_STEP.data;
	if (m->AUTH_STEP.mechanism != SASL_APOP)
		return m->AUTH_STEP.conversation == 0 ? begin(c, m) : go_on(c->challenge, m);
	if (c->service != SERVICE_POP3)
		return -EPROTO;
	if (m->AUTH_STEP.conversation != 0)
		return judge_apop(c, m, text, ret);
	int r = greet(c, m);

	return r == 0 ? 1 : r;
}

int client_on_auth_step(struct client *c, const struct msg *m, int *fd)
{
	(void)fd;
	if (m->serial == 0)
		return -EPROTO;
	if (!c->challenge)
		c->challenge = calloc(1, sizeof(*c->challenge));
	if (!c->challenge)
		return -ENOMEM;
	struct challenge *h = c->challenge;
	char bytes[APOP_TEXT + 600]; /* a name of 512 bytes, and the digest */
	struct buf text = BUF_OVER(bytes);
	struct span data;
	int r = take_step(c, m, &text, &data);

	if (r != 0)
		return r < 0 ? r : 0;
	const struct msg question = { .type = MSG_AUTH_STEP,
				      .AUTH_STEP = { .conversation = h->conversation,
						     .service = c->service,
						     .mechanism = h->mechanism,
						     .tls = m->AUTH_STEP.tls,
						     .attempt = c->leases,
						     .client = span_str(c->origin),
						     .user = SPAN_NONE,
						     .why = SPAN_NONE,
						     .data = data } };

	c->state = CLIENT_CHALLENGED;
	r = lookup_ask_worker(c->broker->lookup, &h->worker, &question, on_step, c, &h->question);
	if (r < 0) {
		c->state = CLIENT_READY;
		fail(c, AUTH_UNAVAILABLE, SPAN_NONE, SPAN("no look-up worker can judge it now"));
	}
	return 0;
}
