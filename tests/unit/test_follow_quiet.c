/* The quiet rule: what may be given back after which conversation, and that the pieces in which
 * bytes come change nothing.
 */
#include "tests/unit/talk_check.h"

#include <stdio.h>
#include <stdlib.h>

/* --- verbs --- */

static void safe_verbs_leave_nothing(void **unused)
{
	static const char *const lines[] = {
		"a NOOP",
		"a CAPABILITY",
		"a ID NIL",
		"a NAMESPACE",
		"a CLOSE",
		"a UNSELECT",
		"a CHECK",
		"a EXPUNGE",
		"a fetch 1:* (FLAGS)",
		"a Store 1 +FLAGS x",
		"a COPY 1 x",
		"a MOVE 1 x",
		"a SEARCH ALL",
		"a SORT (DATE) UTF-8 ALL",
		"a THREAD REFERENCES UTF-8 ALL",
		"a LIST \"\" *",
		"a LSUB \"\" *",
		"a STATUS x (MESSAGES)",
		"a APPEND x {1+}\r\nx",
		"a CREATE x",
		"a DELETE x",
		"a RENAME x y",
		"a SUBSCRIBE x",
		"a UNSUBSCRIBE x",
		"a GETQUOTAROOT x",
		"a MYRIGHTS x",
		"a GETMETADATA x (y)",
		"a UID FETCH 1 FLAGS",
		"a uid store 1 FLAGS x",
		"a UID COPY 1 x",
		"a UID MOVE 1 x",
		"a UID SEARCH 1",
		"a UID SORT (DATE) UTF-8 ALL",
		"a UID THREAD REFS UTF-8 ALL",
		"a UID EXPUNGE 1",
		"a XSITE x",
		"a xother",
	};
	char line[200];

	(void)unused;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		snprintf(line, sizeof(line), "%s\r\n", lines[i]);
		assert_reason_after(line, "a OK\r\n", NOTHING);
		assert_false(talk.f.selected);
	}
}

static void selecting_is_remembered_even_when_it_fails(void **unused)
{
	(void)unused;
	assert_reason_after("a SELECT x\r\n", "a OK\r\n", NOTHING);
	assert_true(talk.f.selected);
	assert_reason_after("a examine {1+}\r\nx\r\n", "a NO\r\n", NOTHING);
	assert_true(talk.f.selected);
	client_says("b CLOSE\r\nc UNSELECT\r\n");
	assert_true(talk.f.selected);
	assert_reason_after("a SELECT", "", NOTHING);
	assert_false(talk.f.selected);
}

static void verbs_that_cannot_be_undone_spoil(void **unused)
{
	static const char *const lines[] = {
		"a NOTIFY NONE",  "a COMPARATOR x", "a LOGIN x y",	"a AUTHENTICATE PLAIN",
		"a XUNKNOWN",	  "a UID",	    "a UID SELECT x",	"a UID IDLE",
		"a UID ENABLE x", "a UID UID",	    "a UID XSITE",	"a UID COMPRESS x",
		"a FETCHX 1",	  "a FETC 1",	    "a \"NOOP\"",	"a NOOP\tx",
		"a {4+}\r\nNOOP", "a XSIT",	    "a XSITEX",
	};
	char line[200];

	(void)unused;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		snprintf(line, sizeof(line), "%s\r\n", lines[i]);
		assert_reason_after(line, "a OK\r\n", VERB);
		assert_reason_after(line, "a BAD what\r\n", VERB);
	}
}

static void what_cannot_be_told_again_is_not_given_back(void **unused)
{
	static const char *const lines[] = {
		"a ENABLE {9+}\r\nCONDSTORE",
		"a SELECT x (CONDSTORE ANNOTATE)",
		"a SELECT x(CONDSTORE)",
		"a SELECT x (QRESYNC (1 2))",
		"a EXAMINE x (QRESYNC (1 1) CONDSTORE)",
		"a SELECT \"x QRESYNC\" (CONDSTORE)",
		"a SELECT y\r\na SELECT x (CONDSTORE)",
		"a EXAMINE y\r\na STATUS x (HIGHESTMODSEQ)",
		"a FETCH 1 (MODSEQ)",
		"a FETCH 1 FLAGS (CHANGEDSINCE 5)",
		"a UID FETCH 1 (FLAGS) (CHANGEDSINCE 5 VANISHED)",
		"a STORE 1 (UNCHANGEDSINCE 5) FLAGS x",
		"a SEARCH MODSEQ 5",
		"a UID SEARCH modseq \"/flags/x\" all 5",
		"a SORT (MODSEQ) UTF-8 ALL",
		"a SELECT {1+}\r\nx (CONDSTORE)",
		"a STATUS {1+}\r\nx (HighestModSeq)",
		"a SEARCH TEXT {1+}\r\nx TEXT {1+}\r\ny MODSEQ 5",
		"a SELECT CONDSTORE",
	};
	char line[200];

	(void)unused;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		snprintf(line, sizeof(line), "%s\r\n", lines[i]);
		assert_reason_after(line, "a OK\r\n", FINGERPRINT);
		assert_reason_after(line, "a NO\r\n", FINGERPRINT);
	}
}

static void the_words_of_condstore_in_literals_are_content(void **unused)
{
	(void)unused;
	assert_reason_after("a APPEND x {24+}\r\nMODSEQ CONDSTORE QRESYNC\r\n", "a OK\r\n",
			    NOTHING);
	assert_reason_after("a SEARCH TEXT CONDSTOR TEXT MODSE TEXT QRESYN\r\n", "a OK\r\n",
			    NOTHING);
}

/* --- reasons --- */

static void the_first_reason_stays_and_bye_is_above_all(void **unused)
{
	(void)unused;
	client_says("a NOTIFY NONE\r\n");
	assert_reason(VERB);
	client_says("b ENABLE x\r\n\r\n");
	assert_reason(VERB);
	server_says("* BYE\r\n");
	assert_reason(BACKEND_GONE);
}

static void what_is_spoiled_stays_spoiled(void **unused)
{
	(void)unused;
	client_says("\r\na NOOP\r\n");
	server_says("* BAD\r\na OK\r\n");
	client_says("b LOGOUT\r\n");
	assert_reason(ODD);
	assert_open(0);
}

/* --- every combination of what the rule looks at --- */

/* The rule as a table: the first row that fits decides. */
static enum not_cached expected_reason(const struct follow *f)
{
	static const bool between_commands[] = {
		[FOLLOW_LINE] = true,  [FOLLOW_REST] = false, [FOLLOW_LITERAL] = false,
		[FOLLOW_WAIT] = false, [FOLLOW_DONE] = false, [FOLLOW_LONG] = false,
		[FOLLOW_LOGOUT] = true, [FOLLOW_REFUSED] = false,
	};
	const struct {
		bool fits;
		enum not_cached reason;
	} rows[] = {
		{f->bye, NOT_CACHED_BACKEND_GONE},
		{f->spoiled != NOT_CACHED_NOTHING, f->spoiled},
		{!between_commands[f->client], NOT_CACHED_PARTIAL},
		{f->outstanding_count > 0, NOT_CACHED_BUSY},
		{f->line.length > 0, NOT_CACHED_BUSY},
		{f->server_literal_left > 0, NOT_CACHED_BUSY},
		{f->server_rest, NOT_CACHED_BUSY},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].fits)
			return rows[i].reason;
	return NOT_CACHED_NOTHING;
}

static void each_combination_has_its_reason(void **unused)
{
	const unsigned states = FOLLOW_REFUSED + 1, reasons = NOT_CACHED_COUNT;
	unsigned quiet = 0;

	(void)unused;
	for (unsigned n = 0; n < 32 * states * reasons; n++) {
		struct follow *f = &talk.f;

		begin_talk(NULL);
		f->bye = n & 1;
		f->outstanding_count = n & 2 ? FOLLOW_OUTSTANDING : 0;
		f->line.length = n & 4 ? 1 : 0;
		f->server_literal_left = n & 8 ? 1 : 0;
		f->server_rest = n & 16;
		f->client = n / 32 % states;
		f->spoiled = n / 32 / states;
		assert_int_equal(follow_quiet(f), expected_reason(f));
		quiet += follow_quiet(f) == NOT_CACHED_NOTHING;
	}
	assert_int_equal(quiet, 2); /* between commands, and at LOGOUT */
}

/* What it does not look at changes nothing: a mailbox may be open, a literal may be announced. */
static void the_rest_of_the_state_does_not_matter(void **unused)
{
	(void)unused;
	for (unsigned n = 0; n < 64; n++) {
		talk.f.selected = n & 1;
		talk.f.waits_for_idle = n & 2;
		talk.f.unasked = n & 4;
		talk.f.takes_message = n & 8;
		talk.f.pushed_lines = n & 16;
		talk.f.literal_left = n & 32 ? 9 : 0;
		assert_quiet();
	}
}

/* --- cases of the old proxy: each left something for the next session --- */

static void a_drop_in_the_middle_of_fetch_is_busy(void **unused)
{
	(void)unused;
	assert_reason_after("a FETCH 1 BODY[]\r\n", "* 1 FETCH (BODY[] {100}\r\nsome", BUSY);
}

static void a_drop_inside_append_is_partial(void **unused)
{
	(void)unused;
	assert_reason_after("a APPEND x {100}\r\n", "", PARTIAL);
	assert_reason_after("a APPEND x {100}\r\n", "+ go\r\n", PARTIAL);
	client_says("half");
	assert_reason(PARTIAL);
}

static void a_drop_in_idle_is_partial_until_done_was_sent(void **unused)
{
	(void)unused;
	assert_reason_after("a IDLE\r\n", "", PARTIAL);
	assert_false(talk.f.owes_done);
	server_says("+ idling\r\n");
	assert_reason(PARTIAL);
	assert_true(talk.f.owes_done);
	follow_sent_done(&talk.f);
	server_says("a OK\r\n");
	assert_quiet();
}

static void fetch_and_logout_in_one_piece_wait_for_the_fetch(void **unused)
{
	(void)unused;
	client_says("a FETCH 1 BODY[]\r\nb LOGOUT\r\n");
	assert_reason(BUSY);
	server_says("* 1 FETCH (BODY[] {6}\r\nb OK\r\n)\r\n");
	assert_reason(BUSY);
	server_says("a OK\r\n");
	assert_quiet();
}

/* --- pieces --- */

struct turn {
	char who; /* 'C' or 'S' */
	const char *text;
};

#define TURNS 8

static const struct turn samples[][TURNS] = {
	{{'C', "a NOOP\r\nb SELECT x\r\n"},
	 {'S', "* 3 EXISTS\r\na OK\r\nb OK [READ-WRITE] x\r\n"},
	 {'C', "c LOGOUT\r\nd NOOP\r\n"}},
	{{'C', "a APPEND x {5}\r\nhello\r\nb NOOP\r\n"},
	 {'S', "* 1 RECENT\r\n+ go\r\na OK\r\n"},
	 {'S', "b OK\r\n"}},
	{{'C', "a APPEND {1+}\r\nx {3+}\r\nabc {0+}\r\n ~{2+}\r\n\r\n\r\nb NOOP\r\n"},
	 {'S', "a OK\r\nb OK\r\n"}},
	{{'C', "a FETCH 1 BODY[]\r\nb LOGOUT\r\n"},
	 {'S', "* 1 FETCH (BODY[] {8}\r\nb BYE\r\n\n X {0}\r\n Y ~{1}\r\n+)\r\na OK {3}\r\n"}},
	{{'C', "a IDLE\r\n"},
	 {'S', "* 1 EXISTS\r\n+ idling\r\n* 2 EXISTS\r\n"},
	 {'C', "DONE\r\nb LOGOUT\r\n"},
	 {'S', "a OK\r\n"}},
	{{'C', "a IDLE\r\nDONE\r\nb IDLE\r\nc LOGOUT\r\n"},
	 {'S', "+ idling\r\na OK\r\n+ idling\r\n"}},
	{{'C', "a IDLE\r\n"},
	 {'S', "a BAD no\r\n"},
	 {'C', "b APPEND x {5}\r\n"},
	 {'S', "b NO no\r\n"},
	 {'C', "c NOOP\r\n"},
	 {'S', "c OK\r\n"}},
	{{'C', "a NOOP\r\na APPEND x {11}\r\nb LOGOUT\r\n!\r\n"},
	 {'S', "a OK\r\n+ go\r\na OK\r\n"}},
	{{'C', "a ENABLE CONDSTORE\r\nb NOTIFY NONE\r\n"},
	 {'S', "* ENABLED CONDSTORE\r\na OK\r\nb OK\r\n"}},
	{{'C', "a SELECT {1+}\r\nx (CONDSTORE)\r\n"}, {'S', "a OK\r\n"}},
	{{'C', "a NOOP\r\nb COMPRESS {10+}\r\nx LOGOUT\r\n {4+}\r\n\r\n\r\n x\r\n"
	       "c NOOP\r\n"},
	 {'S', "* CAPABILITY A AUTH=B COMPRESS=C {5}\r\n* B\r\n\r\n"
	       "a OK [CAPABILITY A STARTTLS]\r\n"},
	 {'C', "d STARTTLS {5}\r\ne CAPABILITY\r\n"},
	 {'S', "* CAPABILITY IMAP4rev1 UNAUTHENTICATE X\r\nc OK\r\ne OK\r\n"}},
	{{'C', "\r\n+ x\r\na NO\rOP\r\nb NOOP\n"}, {'S', "* BAD\r\na OK\r\nb OK\n"}},
	{{'C', "a NOOP\r\n"}, {'S', "* OK see {4}\r\n* BYE\r\na OK\r\n"}},
	{{'C', "a APPEND x {9+}\r\nhalf"},
	 {'S', "a NO no\r\n"},
	 {'C', "other\r\n"},
	 {'S', "+ what\r\n"}},
	{{'C', "a LIST \"\" \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\" "
	       "{10}\r\nx LOGOUT\r\n\r\n"},
	 {'S', "* LIST () \"/\" aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa {3}\r\n* B\r\n+ "
	       "go\r\na OK\r\n"},
	 {'C', "taaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaag "
	       "LOGOUT\r\n"}},
};

#define SAMPLES (sizeof(samples) / sizeof(samples[0]))

static void say(struct talk *t, char who, struct span bytes)
{
	if (who == 'C')
		talk_client(t, bytes);
	else
		talk_server(t, bytes);
}

/* Has the conversation with each turn cut at `cut` and then into pieces of `piece` bytes; 0: not
 * cut. */
static void have_talk(struct talk *t, const struct turn *turns, size_t cap, size_t cut,
		      size_t piece)
{
	talk_begin(t, cap);
	for (size_t i = 0; i < TURNS && turns[i].who; i++) {
		struct span rest = span_str(turns[i].text);

		for (size_t n = cut; rest.n > 0; n = piece) {
			if (n == 0 || n > rest.n)
				n = rest.n;
			say(t, turns[i].who, (struct span){rest.p, n});
			rest = span_from(rest, n);
		}
	}
}

static void assert_same_in_pieces(size_t cap)
{
	static struct talk whole, parts;

	for (size_t i = 0; i < SAMPLES; i++) {
		have_talk(&whole, samples[i], cap, 0, 0);
		for (size_t piece = 1; piece < 20; piece++) {
			have_talk(&parts, samples[i], cap, piece, piece);
			assert_true(talk_same(&whole, &parts));
		}
		for (size_t cut = 1; cut < 200; cut++) {
			have_talk(&parts, samples[i], cap, cut, 0);
			assert_true(talk_same(&whole, &parts));
		}
	}
}

static void the_pieces_in_which_bytes_come_change_nothing(void **unused)
{
	(void)unused;
	assert_same_in_pieces(TALK_CAP);
}

static void the_pieces_change_nothing_with_a_small_buffer_either(void **unused)
{
	(void)unused;
	for (size_t cap = 1; cap < 100; cap += cap < 30 ? 1 : 23)
		assert_same_in_pieces(cap);
}

/* The proxy's own samples end as they should: the table above is not only compared with itself. */
static void the_samples_end_with_their_reasons(void **unused)
{
	static const enum not_cached reasons[SAMPLES] = {
		NOT_CACHED_NOTHING,	NOT_CACHED_NOTHING, NOT_CACHED_NOTHING,
		NOT_CACHED_NOTHING,	NOT_CACHED_NOTHING, NOT_CACHED_BUSY,
		NOT_CACHED_NOTHING,	NOT_CACHED_NOTHING, NOT_CACHED_VERB,
		NOT_CACHED_FINGERPRINT, NOT_CACHED_NOTHING, NOT_CACHED_ODD,
		NOT_CACHED_BACKEND_GONE, NOT_CACHED_PARTIAL, NOT_CACHED_NOTHING,
	};

	(void)unused;
	for (size_t i = 0; i < SAMPLES; i++) {
		have_talk(&talk, samples[i], TALK_CAP, 0, 0);
		assert_string_equal(not_cached_word(follow_quiet(&talk.f)),
				    not_cached_word(reasons[i]));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TALK_TEST(safe_verbs_leave_nothing),
		TALK_TEST(selecting_is_remembered_even_when_it_fails),
		TALK_TEST(verbs_that_cannot_be_undone_spoil),
		TALK_TEST(what_cannot_be_told_again_is_not_given_back),
		TALK_TEST(the_words_of_condstore_in_literals_are_content),
		TALK_TEST(the_first_reason_stays_and_bye_is_above_all),
		TALK_TEST(what_is_spoiled_stays_spoiled),
		TALK_TEST(each_combination_has_its_reason),
		TALK_TEST(the_rest_of_the_state_does_not_matter),
		TALK_TEST(a_drop_in_the_middle_of_fetch_is_busy),
		TALK_TEST(a_drop_inside_append_is_partial),
		TALK_TEST(a_drop_in_idle_is_partial_until_done_was_sent),
		TALK_TEST(fetch_and_logout_in_one_piece_wait_for_the_fetch),
		TALK_TEST(the_pieces_in_which_bytes_come_change_nothing),
		TALK_TEST(the_pieces_change_nothing_with_a_small_buffer_either),
		TALK_TEST(the_samples_end_with_their_reasons),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
