/* The default host: every account is on the mail host that the configuration names. */
#ifndef LOOKUPD_DEFAULT_HOST_H
#define LOOKUPD_DEFAULT_HOST_H

#include "lib/config.h"
#include "lib/msg.h"

/* Answers a LOOKUP. The answer's texts borrow c and the question. */
void default_host_answer(const struct config *c, const struct msg_LOOKUP *question,
			 struct msg_ACCOUNT *ret);

#endif
