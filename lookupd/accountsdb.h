/* The compiled table of accounts: an LMDB environment in one file, which is never changed: a new
 * one takes its place (rename). Key: 'u' and the name; value: lines NAME=value as
 * account_set_lines() takes them, and PASSWD-SERVICE=hash for a service with a hash of its own. The
 * record ACCOUNTSDB_MARK comes last, so a file without it is not whole.
 */
#ifndef LOOKUPD_ACCOUNTSDB_H
#define LOOKUPD_ACCOUNTSDB_H

#include "lookupd/driver.h"

#define ACCOUNTSDB_MARK	      "keepwarm accounts 1"
#define ACCOUNTSDB_PREFIX     'u'
#define ACCOUNTSDB_HASH_OF    "PASSWD-"
#define ACCOUNTSDB_NAME_MAX   510 /* LMDB's longest key is 511 */
#define ACCOUNTSDB_RECORD_MAX 4096

struct accountsdb;

/* Begins a new table that is to take the place of path, in a file beside it (".new"), which only
 * one can write at a time. owner: whose it is, who alone may read it, if there was none before (-1:
 * leave it). 0, or -errno and *why. */
int accountsdb_begin(const char *path, int owner, struct accountsdb **ret, struct why *why);

/* Adds an account. 0; -EEXIST when it is there; -errno; with *why. */
int accountsdb_add(struct accountsdb *t, struct span name, struct span lines, struct why *why);

/* Puts it in its place, once it is safe on the disk. 0, or -errno and *why: then what was there is
 * still there. t is freed in any case. */
int accountsdb_finish(struct accountsdb *t, struct why *why);

/* Gives it up. NULL is allowed. */
void accountsdb_abandon(struct accountsdb *t);

#endif
