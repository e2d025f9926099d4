/* The protocol log's text.
 *
 * The marks are the old program's, byte for byte, since people have scripts that read them; "sd" is
 * the number of the session. What stands between them comes from clients, mail hosts and, at worst,
 * from a session's process that was taken over: it is made harmless here, behind all of them.
 */
#include "cachebrokerd/protocol_text.h"

#include <errno.h>
#include <stdio.h>

static const char *const sides[] = {
	[TRACE_CLIENT] = "CLIENT",
	[TRACE_SERVER] = "SERVER",
	[TRACE_PROXY] = "PROXY",
};

static int add_escaped(struct buf *out, unsigned char c)
{
	static const char digits[] = "0123456789abcdef";
	const char text[4] = { '\\', 'x', digits[c >> 4], digits[c & 15] };

	return buf_add(out, (struct span){ text, sizeof(text) });
}

static int begin_mark(struct buf *out, int64_t seconds, struct span user)
{
	int r;

	(void)((r = buf_add_str(out, "\n\n-----> C= ")) ||
	       (r = buf_add_u64(out, (uint64_t)seconds)) || (r = buf_add_char(out, ' ')));
	for (size_t i = 0; r == 0 && i < user.n; i++) {
		char c = user.p[i];

		r = c > ' ' && c <= '~' && c != '\\' ? buf_add_char(out, c)
						     : add_escaped(out, (unsigned char)c);
	}
	return r;
}

int protocol_text_note(struct buf *out, int64_t seconds, struct span user, const char *text)
{
	int r = begin_mark(out, seconds, user);

	(void)(r || (r = buf_add_str(out, " PROXY: ")) || (r = buf_add_str(out, text)) ||
	       (r = buf_add_char(out, '\n')));
	return r;
}

static int add_bytes(struct buf *out, struct span bytes)
{
	bool begins = true; /* a line */
	int r = 0;

	for (size_t i = 0; r == 0 && i < bytes.n; i++) {
		unsigned char c = (unsigned char)bytes.p[i];

		if (begins && c == '-' && span_istarts(span_from(bytes, i), SPAN("----->")))
			r = buf_add_char(out, ' ');
		begins = c == '\n' || c == '\r';
		if (r == 0)
			r = (c < ' ' && c != '\r' && c != '\n' && c != '\t') || c == 0x7f
				    ? add_escaped(out, c)
				    : buf_add_char(out, (char)c);
	}
	return r;
}

static int add_lost(struct buf *out, int64_t seconds, struct span user, uint64_t number,
		    uint32_t lost)
{
	char text[80];

	(void)snprintf(text, sizeof(text), "sd [%llu]: %u records are missing here.",
		       (unsigned long long)number, lost);
	return protocol_text_note(out, seconds, user, text);
}

int protocol_text_record(struct buf *out, int64_t seconds, struct span user, uint64_t number,
			 const struct trace_head *head, struct span bytes)
{
	int r;

	if (head->side < TRACE_CLIENT || head->side > TRACE_PROXY)
		return -EINVAL;
	r = head->lost > 0 ? add_lost(out, seconds, user, number, head->lost) : 0;
	if (bytes.n == 0)
		return r;
	(void)(r || (r = begin_mark(out, seconds, user)) || (r = buf_add_char(out, ' ')) ||
	       (r = buf_add_str(out, sides[head->side])) || (r = buf_add_str(out, ": sd [")) ||
	       (r = buf_add_u64(out, number)) ||
	       (r = buf_add_str(out, head->continued ? "] the same line goes on\n" : "]\n")) ||
	       (r = add_bytes(out, bytes)));
	return r;
}
