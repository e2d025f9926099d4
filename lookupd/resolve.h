/* Host names to addresses. */
#ifndef LOOKUPD_RESOLVE_H
#define LOOKUPD_RESOLVE_H

#include "lib/msg.h"

/* As much as the message's field holds. */
#define RESOLVE_TEXT_MAX 1024

/* Answers a RESOLVE by asking the system's resolver, which may block for many seconds. The answer's
 * addresses borrow text (RESOLVE_TEXT_MAX bytes), its error a static text. */
void resolve_answer(const struct msg_RESOLVE *question, char *text, struct msg_ADDRESSES *ret);

#endif
