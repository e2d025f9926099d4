/* Reading certificates and keys.
 *
 * A jailed worker can open nothing, so all authorities there are are read here, before it is made.
 * What was read of a file is overwritten as soon as OpenSSL has it: it may hold a key.
 */
#include "tlsrelayd/files.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/bundle.h"
#include "lib/log.h"

#define SYSTEM_BUNDLE "ca-certificates.crt" /* Debian's, in the directory of authorities */

void files_complain(const struct files *l, int priority, const char *key, const char *format, ...)
{
	char text[600];
	unsigned line = config_line_of(l->config, key);
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	ERR_clear_error();
	if (line > 0)
		log_printf(priority, "%s:%u: %s: %s", l->config_path, line, key, text);
	else
		log_printf(priority, "%s: %s: %s", l->config_path, key, text);
}

/* OpenSSL's own words for what went wrong last. */
static const char *words(void)
{
	const char *text = ERR_reason_error_string(ERR_peek_last_error());

	return text ? text : "unknown error";
}

/* A file's content as a BIO; ends with close_file(). */
struct text {
	char *data;
	size_t length;
	BIO *bio;
};

static void close_file(struct text *f)
{
	BIO_free(f->bio);
	bundle_wipe(f->data, f->length);
	*f = (struct text){ 0 };
}

static int open_file(const struct files *l, const char *key, const char *path, struct text *ret)
{
	*ret = (struct text){ 0 };
	int r = bundle_find(l->bundle, path, &ret->data, &ret->length);

	if (r == -ENOENT)
		r = bundle_read_file(path, &ret->data, &ret->length);
	if (r == 0) {
		ret->bio = BIO_new_mem_buf(ret->data, (int)ret->length);
		r = ret->bio ? 0 : -ENOMEM;
	}
	if (r < 0) {
		files_complain(l, LOG_ERR, key, "%s: cannot be read: %s", path,
			 r == -EBADMSG ? "the archive of root's files is damaged" : strerror(-r));
		close_file(ret);
	}
	return r;
}

/* A key with a pass phrase: nobody is there to be asked. */
static int refuse_phrase(char *phrase, int size, int writing, void *context)
{
	(void)phrase;
	(void)size;
	(void)writing;
	*(bool *)context = true;
	return -1;
}

int files_use_key(const struct files *l, const char *key, const char *path, SSL_CTX *ctx)
{
	struct text f;
	bool has_phrase = false;
	int r = open_file(l, key, path, &f);

	if (r < 0)
		return -EINVAL;
	EVP_PKEY *secret = PEM_read_bio_PrivateKey(f.bio, NULL, refuse_phrase, &has_phrase);

	if (!secret && has_phrase)
		files_complain(l, LOG_ERR, key, "%s: the key has a pass phrase; it must have none",
			       path);
	else if (!secret)
		files_complain(l, LOG_ERR, key, "%s: there is no key (PEM) in it", path);
	else if (SSL_CTX_use_PrivateKey(ctx, secret) != 1 || SSL_CTX_check_private_key(ctx) != 1)
		files_complain(l, LOG_ERR, key, "%s: the key does not belong to the certificate",
			       path);
	else
		r = 1;
	EVP_PKEY_free(secret);
	close_file(&f);
	return r == 1 ? 0 : -EINVAL;
}

static void warn_of_dates(const struct files *l, const char *key, const char *path,
			  const X509 *cert)
{
	if (X509_cmp_current_time(X509_get0_notAfter(cert)) < 0)
		files_complain(l, LOG_WARNING, key, "%s: the certificate has expired", path);
	else if (X509_cmp_current_time(X509_get0_notBefore(cert)) > 0)
		files_complain(l, LOG_WARNING, key, "%s: the certificate is not valid yet", path);
}

/* The certificate and what is above it. */
int files_use_certificate(const struct files *l, const char *key, const char *path, SSL_CTX *ctx)
{
	struct text f;
	int r = open_file(l, key, path, &f);

	if (r < 0)
		return -EINVAL;
	X509 *cert = PEM_read_bio_X509_AUX(f.bio, NULL, NULL, NULL), *above = NULL;

	if (!cert)
		files_complain(l, LOG_ERR, key, "%s: there is no certificate (PEM) in it", path);
	else if (SSL_CTX_use_certificate(ctx, cert) != 1)
		files_complain(l, LOG_ERR, key, "%s: the certificate cannot be used: %s", path,
			       words());
	else
		r = 1;
	while (r == 1 && (above = PEM_read_bio_X509(f.bio, NULL, NULL, NULL)))
		if (SSL_CTX_add0_chain_cert(ctx, above) != 1) {
			X509_free(above);
			files_complain(l, LOG_ERR, key, "%s: its chain cannot be used: %s", path,
				 words());
			r = 0;
		}
	if (cert && r == 1)
		warn_of_dates(l, key, path, cert);
	ERR_clear_error(); /* the end of the file is one, too */
	X509_free(cert);
	close_file(&f);
	return r == 1 ? 0 : -EINVAL;
}

/* Adds the authorities in a file. Returns how many there are, or -errno when it cannot be read. */
static int add_authorities(const struct files *l, X509_STORE *store, const char *path)
{
	char *data = NULL;
	size_t length = 0;
	int count = 0, r = bundle_find(l->bundle, path, &data, &length);

	if (r == -ENOENT)
		r = bundle_read_file(path, &data, &length);
	BIO *bio = r == 0 ? BIO_new_mem_buf(data, (int)length) : NULL;
	X509 *cert;

	while (bio && (cert = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL))) {
		count += X509_STORE_add_cert(store, cert);
		X509_free(cert);
	}
	ERR_clear_error();
	BIO_free(bio);
	bundle_wipe(data, length);
	return r < 0 ? r : count;
}

/* All files of a directory, for later none can be opened. Returns as above. */
static int add_directory(const struct files *l, X509_STORE *store, const char *directory)
{
	char path[PATH_MAX];
	DIR *dir = opendir(directory);
	const struct dirent *entry;
	int count = 0;

	if (!dir)
		return -errno;
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.' ||
		    (size_t)snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name) >=
			    sizeof(path))
			continue;
		int r = add_authorities(l, store, path);

		count += r > 0 ? r : 0;
	}
	(void)closedir(dir);
	return count;
}

/* The system's: one file where there is one. */
static int add_system(const struct files *l, X509_STORE *store)
{
	char path[PATH_MAX];
	int r = add_authorities(l, store, X509_get_default_cert_file());

	(void)snprintf(path, sizeof(path), "%s/%s", X509_get_default_cert_dir(), SYSTEM_BUNDLE);
	if (r <= 0)
		r = add_authorities(l, store, path);
	return r > 0 ? r : add_directory(l, store, X509_get_default_cert_dir());
}

static int report_authorities(const struct files *l, const char *key, const char *path, int r)
{
	if (r > 0)
		return 0;
	files_complain(l, LOG_ERR, key, "%s: %s%s", path, r < 0 ? "cannot be read: " : "",
		 r < 0 ? strerror(-r) : "there is no certificate (PEM) in it");
	return -EINVAL;
}

int files_use_authorities(const struct files *l, SSL_CTX *ctx, bool needed)
{
	const char *file = l->config->tls_ca_file, *path = l->config->tls_ca_path;
	X509_STORE *store = SSL_CTX_get_cert_store(ctx);
	int r = 0;

	if (*file)
		r = report_authorities(l, "tls_ca_file", file, add_authorities(l, store, file));
	if (r == 0 && *path)
		r = report_authorities(l, "tls_ca_path", path, add_directory(l, store, path));
	if (!*file && !*path && needed && add_system(l, store) <= 0)
		files_complain(l, LOG_WARNING, "tls_ca_file",
			 "the system has no authorities in %s: no mail host's certificate will do",
			 X509_get_default_cert_dir());
	return r;
}

int files_load_client_authorities(const struct files *l, X509_STORE **ret_store,
				  STACK_OF(X509_NAME) **ret_names)
{
	const char *path = l->config->tls_client_ca_file;
	X509_STORE *store = X509_STORE_new();
	STACK_OF(X509_NAME) *names = sk_X509_NAME_new_null();
	int r = store && names ? report_authorities(l, "tls_client_ca_file", path,
						    add_authorities(l, store, path))
			       : -ENOMEM;
	STACK_OF(X509) *all = r == 0 ? X509_STORE_get1_all_certs(store) : NULL;

	for (int i = 0; r == 0 && i < sk_X509_num(all); i++) {
		X509_NAME *name = X509_NAME_dup(X509_get_subject_name(sk_X509_value(all, i)));

		if (!name || sk_X509_NAME_push(names, name) <= 0) {
			X509_NAME_free(name);
			r = -ENOMEM;
		}
	}
	sk_X509_pop_free(all, X509_free);
	if (r < 0) {
		X509_STORE_free(store);
		sk_X509_NAME_pop_free(names, X509_NAME_free);
		return r;
	}
	*ret_store = store;
	*ret_names = names;
	return 0;
}
