/* The protocol log's text: marks as the old program wrote them, and what sessions said. Pure. */
#ifndef CACHEBROKERD_PROTOCOL_TEXT_H
#define CACHEBROKERD_PROTOCOL_TEXT_H

#include "lib/buf.h"
#include "lib/trace.h"

/* The longest record: every byte escaped; its mark and a note, each with a name of 255 bytes. */
#define PROTOCOL_RECORD_MAX (4 * (TRACE_BYTES + 2 * 255) + 300)

/* Appends "\n\n-----> C= seconds user PROXY: text\n". In the user's name everything but printable
 * ASCII, and blanks and backslashes, becomes \xNN. 0 or -ENOBUFS. */
int protocol_text_note(struct buf *out, int64_t seconds, struct span user, const char *text);

/* Appends a session's record: "\n\n-----> C= seconds user CLIENT: sd [number]\n" and the bytes (or
 * SERVER, PROXY; with `lost` a note in front; without bytes the note only). In the bytes control
 * characters other than CR, LF and TAB become \xNN, and a line that begins like a mark gets a blank
 * in front, so that nobody outside can forge one. 0; -ENOBUFS; -EINVAL for a side that is none. */
int protocol_text_record(struct buf *out, int64_t seconds, struct span user, uint64_t number,
			 const struct trace_head *head, struct span bytes);

#endif
