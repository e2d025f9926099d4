/* What of a client's bytes may be seen in a protocol log. The client and the server talk as rows:
 * what the client sends is shown to the follower piece by piece, as the relay does.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "proxyd/elide.h"

static struct follow f;
static struct elide e;
static char waiting[70000], shown[140000];
static size_t waiting_length, shown_length;

static void begin(void)
{
	follow_init(&f, SPAN_NONE);
	e = (struct elide){ .knows = false };
	waiting_length = shown_length = 0;
}

static void show(void *context, struct span text)
{
	(void)context;
	assert_true(text.n <= sizeof(shown) - shown_length);
	memcpy(shown + shown_length, text.p, text.n);
	shown_length += text.n;
}

static void turn(void)
{
	size_t n;

	do {
		struct elide_point before;
		struct span all = { waiting, waiting_length };
		struct span piece = elide_piece(&f, all, &before);

		n = follow_client(&f, piece, waiting_length > 60000);
		if (n > 0)
			elide_client(&e, &before, &f, (struct span){ piece.p, n }, show, NULL);
		memmove(waiting, waiting + n, waiting_length - n);
		waiting_length -= n;
	} while (n > 0);
}

static void client(struct span text)
{
	memcpy(waiting + waiting_length, text.p, text.n);
	waiting_length += text.n;
	turn();
}

static void server(const char *text)
{
	follow_server(&f, span_str(text));
	turn();
}

/* "C" what the client sends, "S" what the server sends, in turn; the rest is what may be seen. */
struct row {
	const char *says[8];
	const char *seen;
};

static void say(const struct row *row, bool byte_by_byte)
{
	for (size_t i = 0; i < 8 && row->says[i]; i++) {
		struct span text = span_str(row->says[i] + 1);

		if (row->says[i][0] == 'S')
			server(text.p);
		else if (!byte_by_byte)
			client(text);
		for (size_t j = 0; row->says[i][0] == 'C' && byte_by_byte && j < text.n; j++)
			client((struct span){ text.p + j, 1 });
	}
}

static void assert_seen(const struct row *row)
{
	for (int byte_by_byte = 0; byte_by_byte < 2; byte_by_byte++) {
		begin();
		say(row, byte_by_byte);
		if (!span_eq((struct span){ shown, shown_length }, span_str(row->seen)))
			fail_msg("\"%s\" is seen as \"%.*s\", not \"%s\"", row->says[0],
				 (int)shown_length, shown, row->seen);
	}
}

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

static void all_but_secrets_is_seen(void **unused)
{
	static const struct row rows[] = {
		{ { "Ca NOOP\r\nb SELECT INBOX\r\n" }, "a NOOP\r\nb SELECT INBOX\r\n" },
		{ { "Ca SEARCH TEXT {5+}\r\nLOGIN\r\n" }, "a SEARCH TEXT {5+}\r\nLOGIN\r\n" },
		{ { "Ca SEARCH TEXT login\r\n" }, "a SEARCH TEXT login\r\n" },
		{ { "Ca SELECT LOGIN\r\nb NOOP\r\n" }, "a SELECT LOGIN\r\nb NOOP\r\n" },
		{ { "Ca IDLE\r\n", "S+ idling\r\n", "CDONE\r\n" }, "a IDLE\r\nDONE\r\n" },
		{ { "Ca STATUS {5}\r\n", "S+ go\r\n", "CINBOX (MESSAGES)\r\n" },
		  "a STATUS {5}\r\nINBOX (MESSAGES)\r\n" },
	};

	(void)unused;
	for (size_t i = 0; i < COUNT(rows); i++)
		assert_seen(&rows[i]);
}

static void passwords_are_not(void **unused)
{
	static const struct row rows[] = {
		{ { "Ca LOGIN u geheim\r\nb NOOP\r\n" }, "a LOGIN [elided]\r\nb NOOP\r\n" },
		{ { "Ca  login  u geheim\r\n" }, "a  login [elided]\r\n" },
		{ { "CLOGIN u geheim\r\nb NOOP\r\n" }, "LOGIN [elided]\r\nb NOOP\r\n" },
		{ { "Ca LOGIN {1+}\r\nu {6+}\r\ngeheim\r\nb NOOP\r\n" },
		  "a LOGIN [elided]\r\n[elided]\r\n[elided]\r\nb NOOP\r\n" },
		{ { "Ca LOGIN {1}\r\n", "S+ x\r\n", "Cu {6}\r\n", "S+ x\r\n",
		    "Cgeheim\r\nb NOOP\r\n" },
		  "a LOGIN [elided]\r\n[elided]\r\n[elided]\r\nb NOOP\r\n" },
		{ { "CLOGIN {6}\r\n", "S+ x\r\n", "Cgeheim\r\n", "SLOGIN BAD\r\n", "Cb NOOP\r\n" },
		  "LOGIN [elided]\r\n[elided]\r\nb NOOP\r\n" },
	};

	(void)unused;
	for (size_t i = 0; i < COUNT(rows); i++)
		assert_seen(&rows[i]);
}

static void who_sends_a_refused_password_is_not_seen_any_more(void **unused)
{
	static const struct row rows[] = {
		{ { "Ca LOGIN {1}\r\n", "Sa BAD no\r\n", "Cu {6}\r\ngeheim\r\nb NOOP\r\n" },
		  "a LOGIN [elided]\r\n[elided]\r\n" },
		{ { "Ca LOGIN {1}\r\n", "Sa BAD no\r\n", "Cu {6}\r\n", "Su BAD\r\n",
		    "Cgeheim\r\nb NOOP\r\n" },
		  "a LOGIN [elided]\r\n[elided]\r\n[elided]\r\n[elided]\r\n" },
		{ { "C LOGIN u {6}\r\ngeheim\r\nb NOOP\r\n" },
		  " LOGIN [elided]\r\n[elided]\r\n[elided]\r\n" },
		{ { "Ca\tLOGIN u {6}\r\ngeheim\r\n" }, "a\tLOGIN [elided]\r\n[elided]\r\n" },
		{ { "Ca NOOP\r\n", "Sa OK\r\n", "Ca\tLOGIN u {6}\r\ngeheim\r\n" },
		  "a NOOP\r\na\tLOGIN [elided]\r\n[elided]\r\n" },
	};

	(void)unused;
	for (size_t i = 0; i < COUNT(rows); i++)
		assert_seen(&rows[i]);
}

static void responses_of_authenticate_are_not(void **unused)
{
	static const struct row rows[] = {
		{ { "Ca AUTHENTICATE PLAIN AGFu\r\n", "Sa NO\r\n", "Cb NOOP\r\n" },
		  "a AUTHENTICATE [elided]\r\nb NOOP\r\n" },
		{ { "Ca AUTHENTICATE LOGIN\r\n", "S+ VXNl\r\n", "CdTE=\r\n", "S+ UGFz\r\n",
		    "CcHcx\r\n", "S* 1 EXISTS\r\na OK\r\n", "Cb NOOP\r\n" },
		  "a AUTHENTICATE [elided]\r\n[elided]\r\n[elided]\r\nb NOOP\r\n" },
		{ { "Ca authenticate PLAIN\r\n", "S+ \r\n", "Cb NOOP\r\n", "Sb BAD\r\n", "Cx\r\n" },
		  "a authenticate [elided]\r\n[elided]\r\n[elided]\r\n" },
	};

	(void)unused;
	for (size_t i = 0; i < COUNT(rows); i++)
		assert_seen(&rows[i]);
}

static void messages_that_are_stored_are_not(void **unused)
{
	static const struct row rows[] = {
		{ { "Ca APPEND x {6+}\r\nge\nhei\r\nb NOOP\r\n" },
		  "a APPEND x {6+}\r\n[6 bytes elided]\r\nb NOOP\r\n" },
		{ { "Ca APPEND {1}\r\n", "S+ x\r\n", "Cx (\\Seen) {6}\r\n", "S+ x\r\n",
		    "Cgeheim\r\n" },
		  "a APPEND {1}\r\n[1 bytes elided] (\\Seen) {6}\r\n[6 bytes elided]\r\n" },
		{ { "Ca UID REPLACE 4 x {6+}\r\ngeheim\r\n" },
		  "a UID REPLACE 4 x {6+}\r\n[6 bytes elided]\r\n" },
		{ { "Ca APPEND x {6+}\r\ngeheim {2+}\r\nxx\r\n" },
		  "a APPEND x {6+}\r\n[6 bytes elided] {2+}\r\n[2 bytes elided]\r\n" },
	};

	(void)unused;
	for (size_t i = 0; i < COUNT(rows); i++)
		assert_seen(&rows[i]);
}

static void what_was_under_way_before_is_not_seen(void **unused)
{
	static const struct row before[] = {
		{ { "Ca AUTHENTICATE PLAIN\r\n", "S+ \r\n" }, NULL },
		{ { "Ca LOGIN u {20}\r\n", "S+ \r\n", "Cgeh" }, NULL },
		{ { "Ca APPEND x {20+}\r\ngeh" }, NULL },
		{ { "Ca LOGIN u {4+}\r\ngehe" }, NULL },
	};

	(void)unused;
	for (size_t i = 0; i < COUNT(before); i++) {
		begin();
		say(&before[i], false);
		e = (struct elide){ .knows = false };
		shown_length = 0;
		client(SPAN("geheimgeheimgeheimge\r\n"));
		shown[shown_length] = '\0';
		assert_null(strstr(shown, "geheim"));
		server("a OK done\r\n");
		shown_length = 0;
		client(SPAN("\r\n"));
		client(SPAN("b NOOP\r\n"));
		server("b OK done\r\n");
		client(SPAN("c CHECK\r\n"));
		shown[shown_length] = '\0';
		assert_null(strstr(shown, "geheim"));
		assert_non_null(strstr(shown, "c CHECK\r\n"));
	}
}

static void a_line_that_has_no_end_is_judged_by_its_beginning(void **unused)
{
	static char text[60500];

	(void)unused;
	for (int secret = 0; secret < 2; secret++) {
		begin();
		memset(text, 'p', sizeof(text));
		memcpy(text, secret ? "a LOGIN u " : "a NOOPE u ", 10);
		client((struct span){ text, sizeof(text) });
		client(SPAN("ppp\r\nb NOOP\r\n"));
		shown[shown_length] = '\0';
		assert_int_equal(strstr(shown, "pp") == NULL, secret);
		assert_non_null(strstr(shown, "b NOOP\r\n"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_but_secrets_is_seen),
		cmocka_unit_test(passwords_are_not),
		cmocka_unit_test(who_sends_a_refused_password_is_not_seen_any_more),
		cmocka_unit_test(responses_of_authenticate_are_not),
		cmocka_unit_test(messages_that_are_stored_are_not),
		cmocka_unit_test(what_was_under_way_before_is_not_seen),
		cmocka_unit_test(a_line_that_has_no_end_is_judged_by_its_beginning),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
