/* Capability lists in the server's stream: which are rewritten, to what, and that nothing else ever
 * changes, in whatever pieces the bytes come.
 */
#include "tests/unit/talk_check.h"

#include <stdio.h>

/* The list that most rows have, and what becomes of it. */
#define LIST "IMAP4rev1 IDLE COMPRESS=DEFLATE AUTH=PLAIN XHIDDEN UNSELECT STARTTLS"
#define KEPT "IMAP4rev1 IDLE UNSELECT XIMAPPROXY"

static void assert_shown(const char *what, struct span expected)
{
	if (!span_eq(talk_shown(&talk), expected))
		fail_msg("%s became \"%.*s\", not \"%.*s\"", what, (int)talk.shown_length,
			 talk.shown, (int)expected.n, expected.p);
}

/* Says it at once, in two pieces at each place, and byte by byte. */
static void assert_becomes(const char *said, const char *expected)
{
	struct span text = span_str(said);

	for (size_t cut = 0; cut <= text.n; cut++) {
		begin_talk(NULL);
		talk_server(&talk, (struct span){text.p, cut});
		talk_server(&talk, span_from(text, cut));
		assert_shown(said, span_str(expected));
	}
	begin_talk(NULL);
	for (size_t i = 0; i < text.n; i++)
		talk_server(&talk, (struct span){text.p + i, 1});
	assert_shown(said, span_str(expected));
}

static void a_list_is_rewritten_wherever_it_stands(void **unused)
{
	static const char *const rows[][2] = {
		{"* CAPABILITY " LIST "\r\n", "* CAPABILITY " KEPT "\r\n"},
		{"* capability " LIST "\r\n", "* capability " KEPT "\r\n"},
		{"* OK [CAPABILITY " LIST "] hello\r\n", "* OK [CAPABILITY " KEPT "] hello\r\n"},
		{"a OK [CAPABILITY A B] x\r\n", "a OK [CAPABILITY A B XIMAPPROXY] x\r\n"},
		{"* ok [Capability " LIST "]\r\n", "* ok [Capability " KEPT "]\r\n"},
		{"* PREAUTH [CAPABILITY " LIST "] x\r\n", "* PREAUTH [CAPABILITY " KEPT "] x\r\n"},
		{"* NO [CAPABILITY " LIST "] x\r\n", "* NO [CAPABILITY " KEPT "] x\r\n"},
		{"* BAD [CAPABILITY " LIST "] x\r\n", "* BAD [CAPABILITY " KEPT "] x\r\n"},
		{"* BYE [CAPABILITY " LIST "] x\r\n", "* BYE [CAPABILITY " KEPT "] x\r\n"},
		{"a1 OK [CAPABILITY " LIST "] done\r\n", "a1 OK [CAPABILITY " KEPT "] done\r\n"},
		{"tag-of-more-than-24-bytes-in-all NO [CAPABILITY " LIST "] no\r\n",
		 "tag-of-more-than-24-bytes-in-all NO [CAPABILITY " KEPT "] no\r\n"},
		{"* 1 EXISTS\r\n* CAPABILITY " LIST "\r\na OK\r\n* CAPABILITY A\r\n",
		 "* 1 EXISTS\r\n* CAPABILITY " KEPT "\r\na OK\r\n* CAPABILITY A XIMAPPROXY\r\n"},
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_becomes(rows[i][0], rows[i][1]);
}

static void what_is_no_list_stays_as_it_is(void **unused)
{
	static const char *const rows[] = {
		"* CAPABILITY\r\n",
		"* CAPABILITYX AUTH=PLAIN\r\n",
		"*  CAPABILITY AUTH=PLAIN\r\n",
		"* XCAPABILITY AUTH=PLAIN\r\n",
		"*a CAPABILITY AUTH=PLAIN\r\n",
		"a CAPABILITY AUTH=PLAIN\r\n",
		"CAPABILITY AUTH=PLAIN\r\n",
		"+ OK [CAPABILITY AUTH=PLAIN] x\r\n",
		"* OK hello [CAPABILITY AUTH=PLAIN]\r\n",
		"* OK [ALERT] [CAPABILITY AUTH=PLAIN]\r\n",
		"* OK [CAPABILITYX AUTH=PLAIN]\r\n",
		"* 1 FETCH (BODY[] \"* CAPABILITY AUTH=PLAIN\")\r\n",
		"* LIST () \"/\" [CAPABILITY AUTH=PLAIN]\r\n",
		"\r\n \r\n* \r\n*\r\na\r\n",
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_becomes(rows[i], rows[i]);
}

static void literals_are_never_touched(void **unused)
{
	static const char text[] =
		"* 1 FETCH (BODY[] {34}\r\n* CAPABILITY AUTH=PLAIN STARTTLS\r\n\r\n"
		" BODY[1] {5}\r\n* CAP CAPABILITY AUTH=PLAIN)\r\n";

	(void)unused;
	assert_becomes(text, text);
	assert_becomes("* 1 FETCH (X {2}\r\n\r\n)\r\n* CAPABILITY AUTH=PLAIN B\r\n",
		       "* 1 FETCH (X {2}\r\n\r\n)\r\n* CAPABILITY B XIMAPPROXY\r\n");
}

static void odd_lists_become_plain_ones(void **unused)
{
	static const char *const rows[][2] = {
		{"* CAPABILITY \r\n", "* CAPABILITY XIMAPPROXY\r\n"},
		{"* CAPABILITY   A   B  \r\n", "* CAPABILITY A B XIMAPPROXY\r\n"},
		{"* CAPABILITY A\rAUTH=X\r B\n", "* CAPABILITY A B XIMAPPROXY\r\n"},
		{"* CAPABILITY XIMAPPROXY A]B\r\n", "* CAPABILITY A]B XIMAPPROXY\r\n"},
		{"* OK [CAPABILITY A AUTH=X\r\n", "* OK [CAPABILITY A XIMAPPROXY\r\n"},
		{"* OK [CAPABILITY ]\r\n", "* OK [CAPABILITY XIMAPPROXY]\r\n"},
		/* what is announced is no response */
		{"* CAPABILITY A {13}\r\n* BYE\r\na OK\r\n STARTTLS\r\n",
		 "* CAPABILITY A {13}\r\n* BYE\r\na OK\r\n STARTTLS\r\n"},
		{"* CAPABILITY AUTH={2}\r\n\r\n\r\n* OK\r\n",
		 "* CAPABILITY {2}\r\n\r\n\r\n* OK\r\n"},
		{"* CAPABILITY {2} A\r\n", "* CAPABILITY A XIMAPPROXY\r\n"},
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_becomes(rows[i][0], rows[i][1]);
}

static void a_word_too_long_is_left_out(void **unused)
{
	char word[REWRITE_WORD + 2], said[600], expected[600];

	(void)unused;
	memset(word, 'x', sizeof(word));
	for (size_t n = REWRITE_WORD - 1; n <= REWRITE_WORD + 1; n++) {
		bool kept = n <= REWRITE_WORD;

		word[n] = '\0';
		snprintf(said, sizeof(said), "* CAPABILITY A %s B\r\n", word);
		snprintf(expected, sizeof(expected), "* CAPABILITY A %s%sB XIMAPPROXY\r\n",
			 kept ? word : "", kept ? " " : "");
		assert_becomes(said, expected);
		snprintf(said, sizeof(said), "* CAPABILITY %s{1}\r\nx\r\n* OK\r\n", word);
		assert_becomes(said, "* CAPABILITY {1}\r\nx\r\n* OK\r\n");
		word[n] = 'x';
	}
}

static void a_list_of_any_length_is_rewritten(void **unused)
{
	(void)unused;
	server_says("* CAPABILITY");
	for (int i = 0; i < 10000; i++)
		server_says(" A AUTH=X");
	server_says("\r\n");
	assert_int_equal(talk.shown_length, 12 + 10000 * 2 + 13);
	assert_memory_equal(talk.shown + 12 + 9999 * 2, " A XIMAPPROXY\r\n", 15);
}

/* Each line grows by more than what is free in the buffer at last. */
static void many_short_lists_find_room(void **unused)
{
	static char said[100 * 15 + 1];

	(void)unused;
	for (size_t i = 0; i < 100; i++)
		memcpy(said + i * 15, "* CAPABILITY \r\n", 16);
	server_says(said);
	assert_int_equal(talk.shown_length, 100 * 25);
	for (size_t i = 0; i < 100; i++)
		assert_memory_equal(talk.shown + i * 25, "* CAPABILITY XIMAPPROXY\r\n", 25);
}

/* With a client that takes nothing the buffer fills; nothing is lost, nothing is half done. */
static void a_full_buffer_waits_for_room(void **unused)
{
	static char bytes[200];
	struct buf b = BUF_OVER(bytes);
	struct rewrite w;
	struct follow f;
	size_t ready = 0, before;

	(void)unused;
	follow_init(&f, SPAN_NONE);
	rewrite_init(&w, SPAN_NONE);
	while (b.len + 15 <= b.cap - REWRITE_ROOM)
		assert_int_equal(buf_add(&b, SPAN("* CAPABILITY \r\n")), 0);
	do {
		before = ready;
		ready = rewrite_server(&w, &f, &b, ready);
		assert_true(b.len <= b.cap);
	} while (ready > before);
	assert_true(ready < b.len);
	buf_consume(&b, ready);
	ready = rewrite_server(&w, &f, &b, 0);
	assert_int_equal(ready, b.len);
	assert_int_equal(ready % 25, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TALK_TEST(a_list_is_rewritten_wherever_it_stands),
		TALK_TEST(what_is_no_list_stays_as_it_is),
		TALK_TEST(literals_are_never_touched),
		TALK_TEST(odd_lists_become_plain_ones),
		TALK_TEST(a_word_too_long_is_left_out),
		TALK_TEST(a_list_of_any_length_is_rewritten),
		TALK_TEST(many_short_lists_find_room),
		TALK_TEST(a_full_buffer_waits_for_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
