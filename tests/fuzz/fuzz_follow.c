/* The follower under a conversation between any client and any server.
 *
 * An input is one byte that says how long the proxy's buffer is, and turns: each begins with a byte
 * that says whose it is (1 the client, 2 the server, 3 the proxy, which sends DONE if it is owed)
 * and goes on up to the next such byte. The conversation is had three times, in whole turns, byte
 * by byte, and in pieces of the buffer byte's choice: all must approve the same bytes, show the
 * client the same, and mean the same at the end of each turn.
 */
#include <assert.h>
#include <stdint.h>

#include "proxyd/offer.h"
#include "tests/unit/talk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum turn { TURN_CLIENT = 1, TURN_SERVER, TURN_PROXY };

static bool begins_turn(char c)
{
	return c >= TURN_CLIENT && c <= TURN_PROXY;
}

static void check_logout(const struct talk *t)
{
	const struct follow *f = &t->f;

	assert(f->logout_tag_length > 0 && f->logout_tag_length <= FOLLOW_TAG);
	assert(f->logout_line_length > f->logout_tag_length);
	assert(t->approved_length + f->logout_line_length <= t->sent_length);
	assert(t->sent[t->approved_length + f->logout_line_length - 1] == '\n');
}

/* What is given back can be offered: text and opening belong together. */
static void check_fingerprint(const struct fingerprint *fp)
{
	static struct offer offer;
	struct fingerprint_step step;
	char bytes[FINGERPRINT_MAX];
	struct buf text = BUF_OVER(bytes);
	struct span opening = {fp->opening, fp->opening_length};

	if (!fingerprint_is_known(fp) || fingerprint_write(fp, &text) < 0 || text.len == 0)
		return;
	assert(offer_begin(&offer, buf_span(&text), opening) == 0);
	while (!offer_is_taken(&offer)) {
		char line[FINGERPRINT_LINE + 2];
		struct span rest = span_from(opening, offer.answered);
		struct buf command = BUF_OVER(line);

		if (!fingerprint_next_step(&rest, &step))
			break; /* CONDSTORE without ENABLE is missing */
		assert(buf_add_str(&command, "a ") == 0 && buf_add(&command, step.command) == 0);
		assert(offer_judge(&offer, buf_span(&command), &step) == OFFER_ANSWER);
		offer_answered(&offer);
	}
}

static void check(const struct talk *t)
{
	const struct follow *f = &t->f;
	bool quiet = follow_quiet(f) == NOT_CACHED_NOTHING;

	assert(f->outstanding_count <= FOLLOW_OUTSTANDING);
	assert(t->approved_length <= t->sent_length);
	assert(follow_quiet(f) < NOT_CACHED_COUNT);
	assert(!quiet || (f->outstanding_count == 0 && !f->owes_done && !f->bye));
	assert(!quiet || f->client == FOLLOW_LINE || f->client == FOLLOW_LOGOUT);
	assert(f->client != FOLLOW_LITERAL || f->literal_left > 0);
	if (f->client == FOLLOW_LOGOUT)
		check_logout(t);
	if (quiet)
		check_fingerprint(&f->fingerprint);
}

static void say(struct talk *t, char who, struct span bytes)
{
	bool logged_out = t->f.client == FOLLOW_LOGOUT;
	size_t approved = t->approved_length;
	enum not_cached spoiled = t->f.spoiled;

	if (who == TURN_CLIENT) {
		talk_client(t, bytes);
	} else if (who == TURN_SERVER) {
		talk_server(t, bytes);
	} else if (t->f.owes_done) {
		follow_sent_done(&t->f);
		talk_turn(t);
	}
	assert(!logged_out || (t->f.client == FOLLOW_LOGOUT && t->approved_length == approved));
	assert(spoiled == NOT_CACHED_NOTHING || t->f.spoiled == spoiled);
	check(t);
}

/* One more turn's outcome in the digest of all of them. */
static uint64_t add_outcome(uint64_t trace, const struct talk *t)
{
	const uint64_t facts[] = {t->f.client,	       t->f.outstanding_count, t->approved_length,
				  t->shown_length,     t->f.spoiled,	       t->f.bye,
				  follow_quiet(&t->f), t->f.owes_done,	       t->f.dropping,
				  t->f.fingerprint.length, t->f.fingerprint.opening_length,
				  t->f.fingerprint.condstore};

	for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++)
		trace = (trace ^ facts[i]) * 0x100000001b3u;
	return trace;
}

/* Has the conversation in pieces of so many bytes; 0: whole turns. Returns a digest of how each
 * turn ended. */
static uint64_t have_talk(struct talk *t, struct span input, size_t cap, size_t piece)
{
	uint64_t trace = 0;

	talk_begin(t, cap);
	while (input.n > 0) {
		char who = begins_turn(input.p[0]) ? input.p[0] : TURN_CLIENT;
		struct span turn = begins_turn(input.p[0]) ? span_from(input, 1) : input;
		size_t n = 0;

		while (n < turn.n && !begins_turn(turn.p[n]))
			n++;
		input = span_from(turn, n);
		turn.n = n;
		if (who == TURN_PROXY)
			say(t, who, SPAN_NONE);
		while (turn.n > 0) {
			struct span part = {turn.p, piece > 0 && piece < turn.n ? piece : turn.n};

			if (who != TURN_PROXY)
				say(t, who, part);
			turn = span_from(turn, part.n);
		}
		trace = add_outcome(trace, t);
	}
	return trace;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct talk whole, parts;

	if (size < 1)
		return 0;

	struct span input = {(const char *)data + 1, size - 1};
	size_t cap = data[0] < 128 ? TALK_CAP : (size_t)data[0] - 127;
	const size_t pieces[] = {1, 2 + data[0] % 13};

	uint64_t trace = have_talk(&whole, input, cap, 0);

	for (size_t i = 0; i < 2; i++) {
		assert(have_talk(&parts, input, cap, pieces[i]) == trace);
		assert(talk_same(&whole, &parts));
		assert(span_eq(talk_approved(&whole), talk_approved(&parts)));
	}
	return 0;
}
