/* Conversations with challenged clients.
 *
 * This process does not know what the messages say: it takes off and puts on base64, and bounds
 * them. That the client is verified is what the broker remembers, not what is said here. A broker
 * that dies takes the conversation with it: the login is told "not now", since the next one knows
 * nothing of it.
 */
#include "proxyd/sasl_challenge.h"

#include <errno.h>

#include "lib/base64.h"
#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/large.h"
#include "proxyd/sasl_client.h"

#define STEPS_MOST 4 /* the longest mechanism has two */

static struct span message_of(const struct session *s)
{
	return (struct span){ s->credentials.secret, s->credentials.secret_length };
}

static void set_message(struct credentials *to, struct span message)
{
	size_t n = message.n < sizeof(to->secret) ? message.n : sizeof(to->secret);

	memcpy(to->secret, message.p, n);
	to->secret_length = n;
	sasl_client_note_secret(to, n);
}

static void refuse(struct session *s, uint32_t reason, struct span why)
{
	s->credentials.refusal = reason;
	set_message(&s->credentials, why);
}

/* The first step can be said again to another broker: there is no conversation yet. */
static enum session_end ask_broker(struct session *s, enum sasl_mechanism mechanism,
				   uint64_t conversation, struct msg *reply)
{
	int64_t deadline = clock_ms() + (int64_t)s->settings->lease_timeout * 1000;

	for (;;) {
		struct msg step = { .type = MSG_AUTH_STEP,
				    .AUTH_STEP = { .conversation = conversation,
						   .mechanism = mechanism,
						   .tls = s->stream == STREAM_TLS,
						   .client = SPAN_NONE,
						   .user = SPAN_NONE,
						   .why = SPAN_NONE,
						   .data = message_of(s) } };
		AUTO_FD fd = -1;
		int r = link_request(&s->link, &step, reply, &fd, deadline);

		if (r == 0)
			return END_NONE;
		if (s->link.ended)
			return session_told_to_end(s);
		if (r == -ECANCELED)
			return END_SHUTDOWN;
		link_close(&s->link);
		if (r == -ETIMEDOUT || conversation != 0)
			return END_NO_BROKER;
		enum session_end end = session_meet(s);

		if (end != END_NONE)
			return end;
	}
}

static int take_answer(struct span message, struct credentials *to)
{
	if (message.n > SASL_CHALLENGE_MOST)
		return -ENOBUFS;
	set_message(to, message);
	return 0;
}

/* To the server's last word there is nothing to be said (RFC 4422 section 3). */
static int take_nothing(struct span message, struct credentials *to)
{
	(void)to;
	return message.n == 0 ? 0 : -EINVAL;
}

/* "+ base64", and the client's answer. */
static enum session_end ask_client(struct session *s, struct span data, sasl_client_take_fn *take,
				   int64_t deadline, int *ret)
{
	static LARGE char bytes[(SASL_CHALLENGE_MOST + 2) / 3 * 4 + 4];
	struct buf out = BUF_OVER(bytes);
	size_t room;

	if (buf_add_str(&out, "+ ") < 0)
		return END_INTERNAL;
	char *tail = buf_tail(&out, &room);
	int n = base64_encode(data, tail, room);

	if (n < 0)
		return END_INTERNAL;
	buf_filled(&out, (size_t)n);
	return buf_add_str(&out, "\r\n") < 0
		       ? END_INTERNAL
		       : sasl_client_ask(s, buf_span(&out), take, deadline, ret);
}

/* The last step: whose login it is. SCRAM's server has a word for the client. */
static enum session_end take_verified(struct session *s, const struct msg_AUTH_STEP *step,
				      int64_t deadline, int *ret)
{
	struct credentials *to = &s->credentials;

	to->secret_length = 0;
	if (step->user.n == 0 || step->user.n > sizeof(to->user)) {
		*ret = -ENOBUFS;
		return END_NONE;
	}
	memcpy(to->user, step->user.p, step->user.n);
	to->user_length = step->user.n;
	return step->data.n > 0 ? ask_client(s, step->data, take_nothing, deadline, ret)
				: END_NONE;
}

/* For the log: whom it says it is. */
static void note_claimed(struct credentials *to, struct span user)
{
	size_t n = user.n < sizeof(to->user) ? user.n : sizeof(to->user);

	memcpy(to->user, user.p, n);
	to->user_length = n;
}

/* What the broker said. *conversation is not 0 when the client has been asked once more. */
static enum session_end take_reply(struct session *s, const struct msg *reply, int64_t deadline,
				   uint64_t *conversation, int *ret)
{
	const struct msg_AUTH_STEP *step = &reply->AUTH_STEP;

	*conversation = 0;
	if (reply->type == MSG_REFUSED) {
		s->id = reply->REFUSED.session;
		refuse(s, reply->REFUSED.reason, reply->REFUSED.text);
		return END_NONE;
	}
	if (reply->type != MSG_AUTH_STEP)
		return END_INTERNAL;
	s->id = step->session;
	switch (step->status) {
	case AUTH_CONTINUES:
		*conversation = step->conversation;
		return ask_client(s, step->data, take_answer, deadline, ret);
	case AUTH_ACCEPTED:
		return take_verified(s, step, deadline, ret);
	default:
		note_claimed(&s->credentials, step->user);
		refuse(s, step->status == AUTH_REFUSED ? REFUSAL_PASSWORD : REFUSAL_UNAVAILABLE,
		       step->why);
		return END_NONE;
	}
}

/* From this conversation on, or from a new one. */
static enum session_end run(struct session *s, enum sasl_mechanism mechanism, uint64_t conversation,
			    int64_t deadline, int *ret)
{
	struct msg reply;

	for (int steps = 0; steps < STEPS_MOST; steps++) {
		enum session_end end = ask_broker(s, mechanism, conversation, &reply);

		if (end == END_NO_BROKER) {
			refuse(s, REFUSAL_UNAVAILABLE, SPAN("the broker did not answer"));
			return END_NONE;
		}
		if (end == END_NONE)
			end = take_reply(s, &reply, deadline, &conversation, ret);
		if (end != END_NONE || *ret < 0 || conversation == 0)
			return end;
	}
	return END_INTERNAL;
}

enum session_end sasl_challenge_run(struct session *s, enum sasl_mechanism mechanism,
				    int64_t deadline, int *ret)
{
	return run(s, mechanism, 0, deadline, ret);
}

enum session_end sasl_challenge_greet(struct session *s, struct span *ret)
{
	struct msg reply;
	enum session_end end = ask_broker(s, SASL_APOP, 0, &reply);

	*ret = SPAN_NONE;
	if (end == END_NONE && reply.type == MSG_AUTH_STEP &&
	    reply.AUTH_STEP.status == AUTH_CONTINUES) {
		s->apop = reply.AUTH_STEP.conversation;
		*ret = reply.AUTH_STEP.data;
	}
	return end;
}

enum session_end sasl_challenge_apop(struct session *s, int64_t deadline, int *ret)
{
	return run(s, SASL_APOP, s->apop, deadline, ret);
}
