/* The text of a mailbox that is left open, and EXAMINE lines, under foreign bytes: what is taken is
 * whole, as it came, and has nothing in it that could be taken for the end of a line.
 */
#include <assert.h>
#include <stdint.h>

#include "proxyd/selectcache.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(struct span input)
{
	char bytes[SELECT_TEXT], more[SELECT_TEXT];
	struct select_text t, again;

	if (select_load(&t, bytes, sizeof(bytes), input) < 0)
		return;
	struct span lines = select_lines(&t), name = select_name(&t);

	assert(select_is_whole(&t) && span_eq(buf_span(&t.text), input));
	assert(select_is_same(name, name) && name.n <= SELECT_NAME);
	assert(name.n + lines.n + select_result(&t).n + select_status(&t).n + 6 == input.n);
	assert(span_istarts(lines, SPAN("* ")) && !span_ihas(lines, SPAN("\r\n\r\n")));
	assert(span_istarts(select_result(&t), SPAN("OK [READ-ONLY]")));
	assert(!memchr(select_result(&t).p, '\r', select_result(&t).n));
	assert(!span_ihas(lines, SPAN("[CAPABILITY")) && !memchr(input.p, '\0', input.n));
	assert(select_load(&again, more, sizeof(more), buf_span(&t.text)) == 0);
}

static void check_examine(struct span input)
{
	char bytes[SELECT_TEXT];
	struct select_text t;
	struct span tag, name;

	if (!select_is_examine(input, &tag, &name))
		return;
	assert(tag.p == input.p && tag.n > 0 && name.p + name.n == input.p + input.n);
	assert(!memchr(input.p, '\r', input.n) && !memchr(input.p, '\n', input.n));
	assert(select_is_same(name, name));
	assert(select_begin(&t, bytes, sizeof(bytes), name) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span input = { (const char *)data, size };

	check_text(input);
	check_examine(input);
	return 0;
}
