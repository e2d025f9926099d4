/* The files that the keys about TLS name: certificates, keys, authorities. */
#ifndef LIB_TLS_FILES_H
#define LIB_TLS_FILES_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/config.h"
#include "lib/span.h"

/* A file that is larger is refused: it is no certificate, no key, no list of authorities. */
#define TLS_FILE_MAX (1 << 20)

struct tls_file {
	const char *key;  /* that names it */
	struct span path; /* as written there; borrowed from the configuration */
	bool secret;	  /* holds a private key */
	bool directory;	  /* is looked into instead of being read */
};

/* The files that are needed with this configuration, in turn; one that two keys name comes twice.
 * Returns true and fills *ret, or returns false behind the last one. */
bool tls_files_at(const struct config *c, size_t i, struct tls_file *ret);

/* Opens it for reading. Returns the descriptor (close-on-exec, the caller's), or -1 and in *ret_why
 * what is wrong (a constant or strerror(3)'s). */
int tls_files_open(const struct tls_file *file, const char **ret_why);

/* Opens each of them to see whether that can be done, and whether keys are private. Problems are
 * reported as those of config_parse(), `name` is the configuration file's. Returns the number of
 * errors; warnings are added to *ret_warnings when that is not NULL. */
int tls_files_check(const struct config *c, const char *name, config_report_fn *report,
		    void *context, int *ret_warnings);

#endif
