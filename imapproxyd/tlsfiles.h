/* Certificates and keys in memory: tlsrelayd, which runs as nobody, gets files that only root may
 * read. */
#ifndef IMAPPROXYD_TLSFILES_H
#define IMAPPROXYD_TLSFILES_H

#include "lib/config.h"

/* Copies the files that this configuration names into an archive in memory (lib/bundle.h), each
 * once. name is the configuration file's, for messages. Problems are reported. Returns a descriptor
 * (close-on-exec, the caller's) or -errno. */
int tlsfiles_copy(const struct config *c, const char *name);

/* Replaces the archive's bytes with those of fresh; those who hold a reader see them. 0 or -errno.
 */
int tlsfiles_replace(int archive, int fresh);

#endif
