/* Logging in at a mail host with POP3. */
#ifndef PROXYD_POP3_BACKEND_H
#define PROXYD_POP3_BACKEND_H

#include "proxyd/backend.h"

/* Reads the greeting of a fresh connection, if it is not gone already (b->greeted), and logs in.
 * Of the account `id` and `preauth` say nothing here, and there is no list of capabilities. The
 * answer's code is one of RFC 5530. */
enum backend_verdict pop3_backend_log_in(struct backend *b, const struct backend_account *account,
					 struct backend_answer *ret);

#endif
