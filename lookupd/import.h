/* lookupd --import: makes the compiled table from a text. */
#ifndef LOOKUPD_IMPORT_H
#define LOOKUPD_IMPORT_H

#include "lib/config.h"

/* Reads accounts from a file ("-": standard input): CSV with a header line, userdb's text, or what
 * authdaemond answers to ENUMERATE, as its first line shows. They take the place of what is in the
 * first lmdb: directory of c, all or none. Prints what was done, or what is wrong, with its line.
 * Returns the exit status. */
int import_accounts(const struct config *c, const char *file);

#endif
