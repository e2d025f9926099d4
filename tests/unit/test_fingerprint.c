/* Fingerprints: what was turned on, how it is called, and whether it can be told again. */
#include <stdio.h>

#include "tests/unit/talk_check.h"

#include "proxyd/offer.h"

#define QRESYNC_OPENING "ENABLE QRESYNC\r\n* ENABLED QRESYNC\r\nOK done\r\n"

static char written[FINGERPRINT_MAX + 1];

static const char *text_as_written(const struct fingerprint *fp)
{
	struct buf out = {.data = written, .cap = FINGERPRINT_MAX};

	assert_int_equal(fingerprint_write(fp, &out), 0);
	written[out.len] = '\0';
	return written;
}

static void assert_text(const char *text)
{
	assert_string_equal(text_as_written(&talk.f.fingerprint), text);
}

static void assert_opening(const char *opening)
{
	const struct fingerprint *fp = &talk.f.fingerprint;

	assert_int_equal(fp->opening_length, strlen(opening));
	assert_memory_equal(fp->opening, opening, fp->opening_length);
}

static void nothing_is_on_at_first(void **unused)
{
	(void)unused;
	assert_text("");
	client_says("a NOOP\r\nb SELECT x\r\n");
	server_says("* ENABLED QRESYNC\r\na OK\r\nb OK\r\n"); /* nobody asked */
	assert_text("");
}

static void what_the_server_says_is_on_and_not_what_the_client_wishes(void **unused)
{
	(void)unused;
	client_says("a ENABLE UTF8=ACCEPT X-Y condstore\r\n");
	assert_reason(BUSY);
	assert_text("?");
	server_says("* ENABLED condstore UTF8=accept\r\na OK [X] done (1 secs).\r\n");
	assert_reason(NOTHING);
	assert_text("CONDSTORE UTF8=ACCEPT");
	assert_opening("ENABLE UTF8=ACCEPT X-Y condstore\r\n* ENABLED condstore UTF8=accept\r\n"
		       "OK [X] done (1 secs).\r\n");
}

static void the_order_of_words_is_always_the_same(void **unused)
{
	(void)unused;
	client_says("a ENABLE QRESYNC\r\n");
	server_says("* ENABLED QRESYNC\r\na OK\r\n");
	client_says("a ENABLE A Z\r\n");
	server_says("* ENABLED Z A QRESYNC\r\na OK\r\n");
	client_says("a ENABLE A\r\n");
	server_says("* ENABLED A\r\na OK adds nothing\r\n");
	assert_text("A CONDSTORE QRESYNC Z"); /* QRESYNC implies CONDSTORE */
	assert_opening("ENABLE QRESYNC\r\n* ENABLED QRESYNC\r\nOK\r\n"
		       "ENABLE A Z\r\n* ENABLED Z A QRESYNC\r\nOK\r\n"
		       "ENABLE A\r\n* ENABLED A\r\nOK adds nothing\r\n");
	assert_reason(NOTHING);
}

static void what_is_refused_leaves_nothing(void **unused)
{
	(void)unused;
	client_says("a ENABLE QRESYNC\r\n");
	server_says("a BAD no\r\n");
	client_says("b ENABLE\r\n");
	server_says("b NO no\r\n");
	client_says("b ENABLE X\r\n");
	server_says("* ENABLED\r\nb OK nothing\r\n");
	client_says("b ENABLE X\r\n");
	server_says("b OK nothing, as Dovecot says it\r\n");
	assert_text("");
	assert_opening("ENABLE X\r\n* ENABLED\r\nOK nothing\r\n");
	assert_reason(NOTHING);
}

static void what_turned_nothing_on_is_told_again_once(void **unused)
{
	(void)unused;
	for (int i = 0; i < 50; i++) {
		client_says("a ENABLE UTF8=ACCEPT\r\n");
		server_says("a OK none\r\n");
	}
	client_says("a STATUS x (HIGHESTMODSEQ)\r\n");
	server_says("a OK\r\n");
	client_says("a ENABLE CONDSTORE\r\n");
	server_says("a OK it is on\r\n");
	assert_text("CONDSTORE=STATUS");
	assert_opening("ENABLE UTF8=ACCEPT\r\n\r\nOK none\r\n");
	assert_reason(NOTHING);
}

static void status_turns_condstore_on_whatever_its_answer(void **unused)
{
	(void)unused;
	client_says("a STATUS x (MESSAGES HighestModSeq)\r\n");
	server_says("a BAD no\r\n");
	client_says("b SELECT x\r\nc STATUS y (HIGHESTMODSEQ)\r\n");
	server_says("b OK\r\nc OK\r\n");
	assert_reason(NOTHING);
	assert_text("CONDSTORE=STATUS");
	assert_opening("");
}

static void select_turns_condstore_on_if_it_asks_for_it_first(void **unused)
{
	(void)unused;
	client_says("a select \"x y\" (condstore)\r\n");
	server_says("a NO no\r\n");
	assert_reason(NOTHING);
	assert_text("CONDSTORE=SELECT");
	assert_opening("");
	client_says("b SELECT x\r\nc FETCH 1 (MODSEQ)\r\nd STATUS x (HIGHESTMODSEQ)\r\n");
	server_says("b OK\r\nc OK\r\nd OK\r\n");
	assert_reason(NOTHING);
	assert_text("CONDSTORE=SELECT");
}

static void the_surest_way_counts(void **unused)
{
	(void)unused;
	client_says("a STATUS x (HIGHESTMODSEQ)\r\nb EXAMINE x (CONDSTORE)\r\n");
	server_says("a OK\r\nb OK\r\n");
	assert_reason(NOTHING);
	assert_text("CONDSTORE=SELECT");
}

/* Cyrus turns nothing on at STATUS, so that FETCH does. */
static void what_status_said_and_fetch_does_is_not_told_again(void **unused)
{
	(void)unused;
	client_says("a STATUS x (HIGHESTMODSEQ)\r\nb SELECT x\r\nc FETCH 1 (MODSEQ)\r\n");
	server_says("a OK\r\nb OK\r\nc OK\r\n");
	assert_reason(FINGERPRINT);
}

static void what_is_behind_a_pending_enable_is_judged_by_its_answer(void **unused)
{
	static const struct {
		const char *enabled, *text;
	} rows[] = { { "UTF8=ACCEPT", "?" }, { "UTF8=ACCEPT CONDSTORE", "CONDSTORE UTF8=ACCEPT" } };

	(void)unused;
	for (size_t i = 0; i < 2; i++) {
		char line[100];

		follow_init(&talk.f, SPAN_NONE);
		client_says("a ENABLE X\r\nb SELECT x\r\nc FETCH 1 (MODSEQ)\r\n");
		snprintf(line, sizeof(line), "* ENABLED %s\r\na OK\r\n", rows[i].enabled);
		server_says(line);
		server_says("b OK\r\nc OK\r\n");
		assert_text(rows[i].text);
	}
}

static void by_the_way_is_nothing_new_when_it_is_on(void **unused)
{
	(void)unused;
	client_says("a ENABLE QRESYNC\r\n");
	server_says("* ENABLED QRESYNC\r\na OK\r\n");
	client_says("b SELECT x (QRESYNC (1 2))\r\n"
		    "c UID FETCH 1 (FLAGS) (CHANGEDSINCE 1 VANISHED)\r\n");
	server_says("b OK\r\nc OK\r\n");
	assert_reason(NOTHING);
	assert_text("CONDSTORE QRESYNC");
}

static void language_counts_by_its_value(void **unused)
{
	(void)unused;
	client_says("a LANGUAGE FR\r\n");
	server_says("* LANGUAGE (FR)\r\na OK\r\n");
	client_says("b ENABLE QRESYNC\r\n");
	server_says("* ENABLED QRESYNC\r\nb OK\r\n");
	client_says("a LANGUAGE de en\r\n");
	server_says("* LANGUAGE (\"DE\")\r\na OK\r\n");
	assert_reason(NOTHING);
	assert_text("CONDSTORE LANGUAGE=de QRESYNC");
}

/* A client's and a server's words after which nothing can be told again. */
static void what_is_odd_makes_it_unknown(void **unused)
{
	static const char *const talks[][2] = {
		{"a ENABLE X\r\n", "* ENABLED X\r\na NO but\r\n"},
		{"a ENABLE X\r\n", "* ENABLED X\r\n* ENABLED Y\r\na OK\r\n"},
		{"a ENABLE X\r\n", "* OK by the way\r\n* ENABLED X\r\na OK\r\n"},
		{"a ENABLE X\r\n", "* ENABLED {1}\r\nX\r\na OK\r\n"},
		{"a ENABLE X\r\n", "* ENABLED \x7f\r\na OK\r\n"},
		{"a NOOP\r\nb ENABLE X\r\n", "a OK\r\n* ENABLED X\r\nb OK\r\n"},
		{"a ENABLE X\r\nb ENABLE Y\r\n", "* ENABLED X\r\na OK\r\n* ENABLED Y\r\nb OK\r\n"},
		{"a SELECT x\r\nb ENABLE X\r\n", "a OK\r\n* ENABLED X\r\nb OK\r\n"},
		{"a ENABLE {1+}\r\nX\r\n", "* ENABLED X\r\na OK\r\n"},
		{"a LANGUAGE\r\n", "* LANGUAGE (DE EN)\r\na OK\r\n"},
		{"a LANGUAGE de\r\n", "a OK which one\r\n"},
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(talks) / sizeof(talks[0]); i++) {
		talk_begin(&talk, TALK_CAP);
		client_says(talks[i][0]);
		server_says(talks[i][1]);
		assert_reason(FINGERPRINT);
		assert_text("?");
	}
}

static void condstore_before_enable_makes_it_unknown(void **unused)
{
	(void)unused;
	client_says("a STATUS x (HIGHESTMODSEQ)\r\n");
	server_says("a OK\r\n");
	client_says("b ENABLE CONDSTORE\r\n");
	server_says("* ENABLED\r\nb OK\r\n"); /* as Cyrus answers */
	assert_text("CONDSTORE=STATUS");
	client_says("c ENABLE QRESYNC\r\n");
	server_says("* ENABLED QRESYNC\r\nc OK\r\n");
	assert_reason(FINGERPRINT);
}

static void too_much_is_unknown(void **unused)
{
	char line[300];

	(void)unused;
	for (int i = 0; i < 7; i++) {
		client_says("a ENABLE X\r\n");
		snprintf(line, sizeof(line), "* ENABLED %d%038d\r\na OK\r\n", i, i);
		server_says(line);
		assert_string_equal(not_cached_word(follow_quiet(&talk.f)),
				    i < 5 ? "cached" : "fingerprint");
	}
	talk_begin(&talk, TALK_CAP);
	client_says("a ENABLE X\r\n");
	server_says("* ENABLED ");
	for (int i = 0; i < 30; i++)
		server_says("XXXXXXXXXXXX ");
	server_says("\r\na OK\r\n");
	assert_reason(FINGERPRINT);
}

static int load(const char *text, const char *opening)
{
	struct fingerprint fp;

	return fingerprint_load(&fp, span_str(text), span_str(opening));
}

static void what_was_written_can_be_loaded(void **unused)
{
	(void)unused;
	assert_int_equal(load("", ""), 0);
	assert_int_equal(load("CONDSTORE=STATUS", ""), 0);
	assert_int_equal(load("CONDSTORE QRESYNC", QRESYNC_OPENING), 0);
	assert_int_equal(load("CONDSTORE=SELECT", "ENABLE X\r\n\r\nOK\r\n"), 0);
	assert_int_equal(load("CONDSTORE=STATUS X", "ENABLE X\r\n* ENABLED x\r\nOK\r\n"), 0);
}

static void a_lie_cannot_be_loaded(void **unused)
{
	static const char *const lies[][2] = {
		{"X", ""},
		{"?", ""},
		{"", QRESYNC_OPENING},
		{"QRESYNC", QRESYNC_OPENING},
		{"QRESYNC CONDSTORE", QRESYNC_OPENING},
		{"CONDSTORE QRESYNC ", QRESYNC_OPENING},
		{"CONDSTORE", ""},
		{"CONDSTORE=STATUS QRESYNC", QRESYNC_OPENING},
		{"CONDSTORE=SELECT CONDSTORE=STATUS", ""},
		{"X", "ENABLE X\r\n\r\nOK\r\n"},
		{"CONDSTORE QRESYNC", QRESYNC_OPENING "\r\n"},
		{"CONDSTORE QRESYNC", QRESYNC_OPENING "ENABLE X\r\n"},
		{"CONDSTORE QRESYNC", "ENABLE QRESYNC\r\n* ENABLED QRESYNC\nOK\r\n"},
		{"CONDSTORE QRESYNC", "ENABLE QRESYNC\r\n* ENABLED\rQRESYNC\r\nOK\r\n"},
		{"CONDSTORE QRESYNC", "LOGOUT\r\n* ENABLED QRESYNC\r\nOK\r\n"},
		{"CONDSTORE QRESYNC", "ENABLE QRESYNC\r\n* LANGUAGE (QRESYNC)\r\nOK\r\n"},
		{"CONDSTORE QRESYNC", "ENABLE QRESYNC\r\n* ENABLEDX QRESYNC\r\nOK\r\n"},
		{"CONDSTORE QRESYNC", "ENABLE QRESYNC\r\n* ENABLED QRESYNC\r\nNO\r\n"},
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++)
		assert_int_not_equal(load(lies[i][0], lies[i][1]), 0);
}

/* --- offers -------------------------------------------------------------------------------- */
static struct offer offer;

static void begin(const char *text, const char *opening)
{
	assert_int_equal(offer_begin(&offer, span_str(text), span_str(opening)), 0);
}

static enum offer_verdict judge(const char *line)
{
	struct fingerprint_step step;

	return offer_judge(&offer, span_str(line), &step);
}

static void assert_each(const char *const *lines, enum offer_verdict verdict)
{
	for (; *lines; lines++)
		if (judge(*lines) != verdict)
			fail_msg("%s: %d and not %d", *lines, (int)judge(*lines), (int)verdict);
}

static const char *const always[] = {"a NOOP", "a CAPABILITY", "a id nil", "a ID (\"a\" \"b\")",
				     "a LOGOUT", NULL};
static const char *const names[] = {"a NAMESPACE", "a LIST \"\" *", "a STATUS x (MESSAGES)",
				    "a lsub \"\" *", NULL};
static const char *const never[] = {
	"a SELECT x", "a EXAMINE x", "a IDLE", "a XUNKNOWN", "a ENABLE X", "a LIST {3}",
	"a ID {3+}",
	"a FETCH 1 (MODSEQ)", "a SELECT x (CONDSTORE ANNOTATE)", "a UID FETCH 1 x", "a", "",
	"a LIST \"\" * RETURN (STATUS (HIGHESTMODSEQ))", " a NOOP", "* NOOP", NULL,
};

/* With these CONDSTORE becomes the client's own. */
static const char *const by_status[] = {"a STATUS x (HIGHESTMODSEQ)",
					"a status x (uidnext highestmodseq)", NULL};
static const char *const by_select[] = {"a SELECT x (CONDSTORE)",
					"a examine \"x y\" (condstore)", NULL};

static void only_what_cannot_tell_is_passed_on(void **unused)
{
	(void)unused;
	begin("CONDSTORE QRESYNC", QRESYNC_OPENING);
	assert_each(always, OFFER_PASS);
	assert_each(names, OFFER_PASS);
	assert_each(never, OFFER_SWAP);
	assert_each(by_status, OFFER_SWAP);
	assert_each(by_select, OFFER_SWAP);
	begin("UTF8=ACCEPT", "ENABLE UTF8=ACCEPT\r\n* ENABLED UTF8=ACCEPT\r\nOK\r\n");
	assert_each(always, OFFER_PASS);
	assert_each(names, OFFER_SWAP);
	assert_each(never, OFFER_SWAP);
}

static void the_opening_is_answered_step_by_step(void **unused)
{
	(void)unused;
	begin("CONDSTORE QRESYNC X", QRESYNC_OPENING "ENABLE X\r\n* ENABLED X\r\nOK\r\n");
	assert_int_equal(judge("a ENABLE X"), OFFER_SWAP);
	assert_int_equal(judge("a enable QRESYNC"), OFFER_SWAP);
	assert_int_equal(judge("a ENABLE  QRESYNC"), OFFER_SWAP);
	assert_int_equal(judge("a ENABLE QRESYNC"), OFFER_ANSWER);
	offer_answered(&offer);
	assert_false(offer_is_taken(&offer));
	assert_int_equal(offer_answers(&offer).n, strlen(QRESYNC_OPENING));
	assert_int_equal(judge("a ENABLE QRESYNC"), OFFER_SWAP);
	assert_int_equal(judge("a LIST \"\" *"), OFFER_SWAP); /* X is missing, whatever it does */
	assert_int_equal(judge("b ENABLE X"), OFFER_ANSWER);
	offer_answered(&offer);
	assert_true(offer_is_taken(&offer));
}

static void asking_for_condstore_completes_what_enable_began(void **unused)
{
	(void)unused;
	begin("CONDSTORE=STATUS UTF8=ACCEPT",
	      "ENABLE UTF8=ACCEPT\r\n* ENABLED UTF8=ACCEPT\r\nOK\r\n");
	assert_each(by_status, OFFER_SWAP);
	assert_int_equal(judge("a ENABLE UTF8=ACCEPT"), OFFER_ANSWER);
	offer_answered(&offer);
	assert_false(offer_is_taken(&offer));
	assert_each(names, OFFER_PASS);
	assert_each(never, OFFER_SWAP);
	assert_each(by_status, OFFER_ENABLES);
	assert_each(by_select, OFFER_SWAP);
}

static void each_way_to_condstore_gets_its_own(void **unused)
{
	(void)unused;
	begin("CONDSTORE=STATUS", "");
	assert_false(offer_is_taken(&offer));
	assert_each(by_status, OFFER_ENABLES);
	assert_each(by_select, OFFER_SWAP);
	begin("CONDSTORE=SELECT", "");
	assert_each(by_select, OFFER_ENABLES);
	assert_each(by_status, OFFER_SWAP);
	begin("CONDSTORE", "ENABLE CONDSTORE\r\n* ENABLED CONDSTORE\r\nOK\r\n");
	assert_int_equal(judge("a ENABLE CONDSTORE"), OFFER_ANSWER);
	assert_each(by_select, OFFER_ENABLES);
	assert_each(by_status, OFFER_SWAP);
}

static void a_plain_connection_or_a_lie_is_no_offer(void **unused)
{
	(void)unused;
	offer.open = false;
	assert_int_not_equal(offer_begin(&offer, SPAN_NONE, SPAN_NONE), 0);
	assert_int_not_equal(offer_begin(&offer, SPAN("X"), SPAN_NONE), 0);
	assert_false(offer.open);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TALK_TEST(nothing_is_on_at_first),
		TALK_TEST(what_the_server_says_is_on_and_not_what_the_client_wishes),
		TALK_TEST(the_order_of_words_is_always_the_same),
		TALK_TEST(what_is_refused_leaves_nothing),
		TALK_TEST(what_turned_nothing_on_is_told_again_once),
		TALK_TEST(status_turns_condstore_on_whatever_its_answer),
		TALK_TEST(select_turns_condstore_on_if_it_asks_for_it_first),
		TALK_TEST(the_surest_way_counts),
		TALK_TEST(what_status_said_and_fetch_does_is_not_told_again),
		TALK_TEST(what_is_behind_a_pending_enable_is_judged_by_its_answer),
		TALK_TEST(by_the_way_is_nothing_new_when_it_is_on),
		TALK_TEST(language_counts_by_its_value),
		TALK_TEST(what_is_odd_makes_it_unknown),
		TALK_TEST(condstore_before_enable_makes_it_unknown),
		TALK_TEST(too_much_is_unknown),
		cmocka_unit_test(what_was_written_can_be_loaded),
		cmocka_unit_test(a_lie_cannot_be_loaded),
		cmocka_unit_test(only_what_cannot_tell_is_passed_on),
		cmocka_unit_test(the_opening_is_answered_step_by_step),
		cmocka_unit_test(asking_for_condstore_completes_what_enable_began),
		cmocka_unit_test(each_way_to_condstore_gets_its_own),
		cmocka_unit_test(a_plain_connection_or_a_lie_is_no_offer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
