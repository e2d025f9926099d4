/* Reading one whole command before login, literals and all, within bounds. */
#ifndef PROXYD_COMMAND_READER_H
#define PROXYD_COMMAND_READER_H

#include "proxyd/session.h"

enum command_read {
	COMMAND_WHOLE,	       /* it stands at the front of s->in */
	COMMAND_TOO_LONG,      /* a line is longer than max_line_login */
	COMMAND_BAD_LITERAL,   /* a literal where none may be */
	COMMAND_LARGE_LITERAL, /* a user name or password longer than any we take */
	COMMAND_END,	       /* the session ends: *ret_end */
};

/* Reads a command; literals of LOGIN and ID are asked for with "+ go ahead". *ret is the command
 * without its last CRLF, or what there is of it; it lives until command_skip(). */
enum command_read command_read(struct session *s, int64_t deadline, struct span *ret,
			       enum session_end *ret_end);

/* Reads one line of a SASL exchange (RFC 9051 section 6.2.2). COMMAND_WHOLE, COMMAND_TOO_LONG,
 * COMMAND_END. */
enum command_read command_read_line(struct session *s, int64_t deadline, struct span *ret,
				    enum session_end *ret_end);

/* Takes the command, as far as it has been read, off s->in and overwrites it. After
 * COMMAND_TOO_LONG and the literal errors it also reads away what the client sends of it without
 * being asked. END_NONE or the end. */
enum session_end command_skip(struct session *s, enum command_read what, int64_t deadline);

#endif
