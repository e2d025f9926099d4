/* What of a session of POP3 may be seen in a protocol log. Each conversation is said whole, and
 * once more byte by byte: that must show the same.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proxyd/pop3_trace.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct pop3_trace t;
static char shown[2][4000];
static size_t lengths[2];

static void show(int side, struct span text)
{
	assert_true(text.n < sizeof(shown[0]) - lengths[side]);
	memcpy(shown[side] + lengths[side], text.p, text.n);
	lengths[side] += text.n;
	shown[side][lengths[side]] = '\0';
}

static void show_client(struct span text)
{
	show(0, text);
}

static void show_server(struct span text)
{
	show(1, text);
}

static void say(char side, struct span text, size_t step)
{
	for (; text.n > 0; text = span_from(text, step)) {
		struct span piece = { text.p, text.n < step ? text.n : step };

		if (side == 'C')
			pop3_trace_client(&t, piece, show_client);
		else
			pop3_trace_server(&t, piece, show_server);
	}
}

/* Lines of a conversation, "C: " or "S: " in front. */
static void play(const char *const *lines, size_t step, bool fresh, bool in_line)
{
	pop3_trace_begin(&t, fresh, in_line);
	lengths[0] = lengths[1] = 0;
	shown[0][0] = shown[1][0] = '\0';
	for (; *lines; lines++)
		say((*lines)[0], span_str(*lines + 3), step);
	pop3_trace_end(&t, show_server);
}

static void check(const char *const *lines, const char *client, const char *server, bool fresh,
		  bool in_line)
{
	for (size_t step = 1; step < 5000; step = step * 2 + 1) {
		play(lines, step, fresh, in_line);
		assert_string_equal(shown[0], client);
		assert_string_equal(shown[1], server);
	}
}

static const struct {
	const char *lines[14];
	const char *client, *server;
} scenes[] = {
	{ { "C: STAT\r\n", "S: +OK 1 20\r\n", "C: quit\r\n", "S: +OK bye\r\n" },
	  "STAT\r\nquit\r\n", "+OK 1 20\r\n+OK bye\r\n" },
	/* lists are shown, messages not */
	{ { "C: LIST\r\n", "S: +OK\r\n1 20\r\n.\r\n", "C: LIST 1\r\n", "S: +OK 1 20\r\n",
	    "C: RETR 1\r\n", "S: +OK 20 octets\r\nSubject: x\r\n\r\n..\r\n.x\r\n", "S: .\r\n",
	    "C: NOOP\r\n", "S: +OK\r\n" },
	  "LIST\r\nLIST 1\r\nRETR 1\r\nNOOP\r\n",
	  "+OK\r\n1 20\r\n.\r\n+OK 1 20\r\n+OK 20 octets\r\n[22 bytes elided]\r\n.\r\n+OK\r\n" },
	/* one that is refused, and much at once */
	{ { "C: RETR 9\r\nTOP 1 0\r\nUIDL\r\nDELE 1\r\n",
	    "S: -ERR none\r\n+OK\r\n+OK I am in the message\r\n.\r\n+OK\r\n1 abc\r\n.\r\n+OK\r\n" },
	  "RETR 9\r\nTOP 1 0\r\nUIDL\r\nDELE 1\r\n",
	  "-ERR none\r\n+OK\r\n[25 bytes elided]\r\n.\r\n+OK\r\n1 abc\r\n.\r\n+OK\r\n" },
	{ { "C: CAPA\r\n", "S: +OK\nTOP\n.\n", "C: UIDL \t\r\n", "S: +OK\r\n.\r\n" },
	  "CAPA\r\nUIDL \t\r\n", "+OK\nTOP\n.\n+OK\r\n.\r\n" },
	/* a session that ends in a message, or in the middle of a line */
	{ { "C: RETR 1\r\n", "S: +OK\r\nabc\r\nde" }, "RETR 1\r\n", "+OK\r\n[7 bytes elided]\r\n" },
	/* secrets */
	{ { "C: PASS top secret\r\n", "S: -ERR\r\n", "C: apop anna 0123\r\n", "S: -ERR\r\n",
	    "C: AUTH PLAIN\r\n", "S: + \r\n", "C: AGFubmEAc2VjcmV0\r\n", "S: -ERR no\r\n",
	    "C: STAT\r\n", "S: +OK 0 0\r\n" },
	  "PASS [elided]\r\napop [elided]\r\nAUTH [elided]\r\n[elided]\r\nSTAT\r\n",
	  "-ERR\r\n-ERR\r\n[4 bytes elided]\r\n-ERR no\r\n+OK 0 0\r\n" },
	{ { "C:  PASS secret\r\n", "C: PASS\tsecret\r\n", "C: PASSsecret\r\n", "C: LISTsecret\r\n",
	    "C: TOPsecret\r\n", "C: STA", "C: T\r\n", "C: \r\n", "C: secret" },
	  "[elided]\r\nPASS [elided]\r\n[elided]\r\n[elided]\r\n[elided]\r\nSTAT\r\n[elided]\r\n"
	  "[elided]",
	  "" },
	/* what is no answer is not shown, whatever was asked */
	{ { "S: secret of a message\r\n", "S: +OK now\r\n" }, "",
	  "[21 bytes elided]\r\n+OK now\r\n" },
};

static void what_was_said_is_shown_but_for_secrets_and_messages(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(scenes); i++)
		check(scenes[i].lines, scenes[i].client, scenes[i].server, true, false);
}

static void in_the_middle_of_a_session_only_what_is_sure_is_shown(void **state)
{
	static const char *const in_line[] = { "C: secret\r\n", "S: +OK it is\r\n", "C: NOOP\r\n",
					       "S: +OK\r\n", NULL };
	static const char *const in_message[] = { "S: +OK I am in a message\r\n.\r\n",
						  "C: NOOP\r\n", "S: +OK\r\n", NULL };
	/* the next command comes before the message has ended */
	static const char *const ahead[] = {
		"S: in a message\r\n", "C: LIST\r\nUIDL\r\n",
		"S: and still\r\n+OK a lie\r\nprivate\r\n",
		"S: .\r\n", "S: +OK list\r\n1 100\r\n.\r\n", "C: LIST\r\n",
		"S: +OK list\r\n1 100\r\n.\r\n", NULL
	};

	(void)state;
	check(ahead, "LIST\r\nUIDL\r\nLIST\r\n",
	      "[25 bytes elided]\r\n+OK a lie\r\n[9 bytes elided]\r\n.\r\n"
	      "+OK list\r\n1 100\r\n.\r\n"
	      "+OK list\r\n1 100\r\n.\r\n", false, false);
	check(in_line, "\r\nNOOP\r\n", "+OK it is\r\n+OK\r\n", false, true);
	check(in_message, "NOOP\r\n", "[26 bytes elided]\r\n+OK\r\n", false, false);
}

static void more_commands_than_can_be_remembered_show_less(void **state)
{
	(void)state;
	pop3_trace_begin(&t, true, false);
	lengths[0] = lengths[1] = 0;
	for (int i = 0; i < POP3_TRACE_DUE + 1; i++)
		pop3_trace_client(&t, SPAN("RETR 1\r\n"), show_client);
	for (int i = 0; i < POP3_TRACE_DUE + 1; i++)
		pop3_trace_server(&t, SPAN("+OK\r\nsecret\r\n.\r\n"), show_server);
	pop3_trace_end(&t, show_server);
	assert_null(strstr(shown[1], "secret"));
	assert_non_null(strstr(shown[1], "+OK\r\n[11 bytes elided]"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_said_is_shown_but_for_secrets_and_messages),
		cmocka_unit_test(in_the_middle_of_a_session_only_what_is_sure_is_shown),
		cmocka_unit_test(more_commands_than_can_be_remembered_show_less),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
