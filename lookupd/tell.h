/* lookupd -t: what a login would find, for people. */
#ifndef LOOKUPD_TELL_H
#define LOOKUPD_TELL_H

#include "lib/config.h"

/* Asks the directories of c, whose file's name is for messages, and prints the answer; secrets as
 * ***. With `check` standard input is the password: is it right? Returns the exit status: 0 found;
 * 1 there is no such login; 3 the password is not right; 75 (EX_TEMPFAIL) nobody can say now; 2
 * another service than imap or pop3. */
int tell_account(const struct config *c, const char *file, const char *user, const char *service,
		 bool check);

#endif
