/* A conversation of POP3 for the protocol log under foreign bytes; NUL changes the side that
 * speaks. In what pieces it comes makes no difference, and of a line that begins with a secret
 * command nothing else is shown.
 */
#include <assert.h>
#include <stdint.h>

#include "proxyd/pop3_trace.h"

#define SHOWN_MOST 200000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char shown[2][2][SHOWN_MOST]; /* whole or piece by piece, client or server */
static size_t lengths[2][2];
static int run;

static void show(int side, struct span text)
{
	assert(text.n <= SHOWN_MOST - lengths[run][side]);
	memcpy(shown[run][side] + lengths[run][side], text.p, text.n);
	lengths[run][side] += text.n;
}

static void show_client(struct span text)
{
	show(0, text);
}

static void show_server(struct span text)
{
	show(1, text);
}

static void say(struct pop3_trace *t, bool server, struct span text, size_t step)
{
	for (; text.n > 0; text = span_from(text, step)) {
		struct span piece = { text.p, text.n < step ? text.n : step };

		if (server)
			pop3_trace_server(t, piece, show_server);
		else
			pop3_trace_client(t, piece, show_client);
	}
}

static void play(struct span input, bool fresh, bool in_line, size_t step)
{
	struct pop3_trace t;
	bool server = false;

	lengths[run][0] = lengths[run][1] = 0;
	pop3_trace_begin(&t, fresh, in_line);
	while (input.n > 0) {
		const char *end = memchr(input.p, '\0', input.n);
		struct span text = { input.p, end ? (size_t)(end - input.p) : input.n };

		say(&t, server, text, step);
		server = !server;
		input = span_from(input, text.n + (end != NULL));
	}
	pop3_trace_end(&t, show_server);
}

static void check_client(struct span text)
{
	while (text.n > 0) {
		const char *lf = memchr(text.p, '\n', text.n);
		struct span line = { text.p, lf ? (size_t)(lf - text.p) : text.n };

		if (span_istarts(line, SPAN("PASS ")) || span_istarts(line, SPAN("AUTH ")))
			assert(span_istarts(span_from(line, 5), SPAN("[elided]")) && line.n <= 14);
		text = span_from(text, line.n + (lf != NULL));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span input = { (const char *)data, size };

	if (size > SHOWN_MOST / 20) /* "[elided]\r\n" is longer than a line can be */
		return 0;
	for (int way = 0; way < 4; way++) {
		run = 0;
		play(input, way & 1, way & 2, SHOWN_MOST);
		run = 1;
		play(input, way & 1, way & 2, 1);
		for (int side = 0; side < 2; side++)
			assert(span_eq((struct span){ shown[0][side], lengths[0][side] },
				       (struct span){ shown[1][side], lengths[1][side] }));
		check_client((struct span){ shown[0][0], lengths[0][0] });
	}
	return 0;
}
