/* The files that the configuration names, into OpenSSL's contexts: certificates, keys, authorities.
 * The only place where they are read. */
#ifndef TLSRELAYD_FILES_H
#define TLSRELAYD_FILES_H

#include <stdbool.h>

#include "lib/config.h"

struct ssl_ctx_st;

/* Where they come from, and what messages say. */
struct files {
	const struct config *config;
	const char *config_path;
	int bundle; /* lib/bundle.h; a file that is in it is taken from there. -1: none */
};

/* Logs "file:line: key: what". */
__attribute__((format(printf, 4, 5))) void files_complain(const struct files *f, int priority,
							  const char *key, const char *format,
							  ...);

/* The certificate in the file `path`, with what is above it; its key. `key` is the setting that
 * names the file. 0, or -EINVAL with a log line. */
int files_use_certificate(const struct files *f, const char *key, const char *path,
			  struct ssl_ctx_st *ctx);
int files_use_key(const struct files *f, const char *key, const char *path,
		  struct ssl_ctx_st *ctx);

/* The authorities of tls_ca_file and tls_ca_path; the system's where neither is set, if they are
 * `needed`. 0, or -EINVAL with a log line. */
int files_use_authorities(const struct files *f, struct ssl_ctx_st *ctx, bool needed);

/* The authorities of clients in the file of tls_client_ca_file: a store of them, the caller's, and
 * the same as names that clients are told. 0, or -EINVAL with a log line. */
struct x509_store_st;
struct stack_st_X509_NAME;
int files_load_client_authorities(const struct files *f, struct x509_store_st **ret_store,
				  struct stack_st_X509_NAME **ret_names);

#endif
