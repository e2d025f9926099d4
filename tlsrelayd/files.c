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

/* Was that the end of the text, or of what can be read of it? What stands behind a damaged one
 * would be missing without a word. */
static bool is_damaged(void)
{
	unsigned long error = ERR_peek_last_error();

	return ERR_GET_LIB(error) != ERR_LIB_PEM || ERR_GET_REASON(error) != PEM_R_NO_START_LINE;
}

static void complain_of_damage(const struct files *l, int priority, const char *key,
			       const char *path, int place)
{
	files_complain(l, priority, key, "%s: certificate %d in it is damaged: %s", path, place,
		       words());
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
	int place = 1, r = open_file(l, key, path, &f);

	if (r < 0)
		return -EINVAL;
	X509 *cert = PEM_read_bio_X509_AUX(f.bio, NULL, NULL, NULL), *above = NULL;

	if (!cert && is_damaged())
		complain_of_damage(l, LOG_ERR, key, path, place);
	else if (!cert)
		files_complain(l, LOG_ERR, key, "%s: there is no certificate (PEM) in it", path);
	else if (SSL_CTX_use_certificate(ctx, cert) != 1)
		files_complain(l, LOG_ERR, key, "%s: the certificate cannot be used: %s", path,
			       words());
	else
		r = 1;
	while (r == 1 && (place++, above = PEM_read_bio_X509(f.bio, NULL, NULL, NULL)))
		if (SSL_CTX_add0_chain_cert(ctx, above) != 1) {
			X509_free(above);
			files_complain(l, LOG_ERR, key, "%s: its chain cannot be used: %s", path,
				 words());
			r = 0;
		}
	if (r == 1 && is_damaged()) {
		complain_of_damage(l, LOG_ERR, key, path, place);
		r = 0;
	}
	if (cert && r == 1)
		warn_of_dates(l, key, path, cert);
	ERR_clear_error(); /* the end of the file is one, too */
	X509_free(cert);
	close_file(&f);
	return r == 1 ? 0 : -EINVAL;
}

/* Where authorities are added, and what is said of a file that is damaged. */
struct source {
	const char *key;
	int priority;
	X509_STORE *store;
	int count;
};

/* Adds the authorities in a file. Returns 0, -EILSEQ when one is damaged, which was said, or -errno
 * when it cannot be read. */
static int add_authorities(const struct files *l, struct source *to, const char *path)
{
	char *data = NULL;
	size_t length = 0;
	int place = 1, r = bundle_find(l->bundle, path, &data, &length);

	if (r == -ENOENT)
		r = bundle_read_file(path, &data, &length);
	BIO *bio = r == 0 ? BIO_new_mem_buf(data, (int)length) : NULL;
	X509 *cert;

	for (; bio && (cert = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL)); place++) {
		to->count += X509_STORE_add_cert(to->store, cert);
		X509_free(cert);
	}
	if (bio && is_damaged()) {
		complain_of_damage(l, to->priority, to->key, path, place);
		r = -EILSEQ;
	}
	ERR_clear_error();
	BIO_free(bio);
	bundle_wipe(data, length);
	return r;
}

/* All files of a directory, for later none can be opened. 0 or -errno. */
static int add_directory(const struct files *l, struct source *to, const char *directory)
{
	char path[PATH_MAX];
	DIR *dir = opendir(directory);
	const struct dirent *entry;

	if (!dir)
		return -errno;
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.' &&
		    (size_t)snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name) <
			    sizeof(path))
			(void)add_authorities(l, to, path);
	(void)closedir(dir);
	return 0;
}

/* The system's: one file where there is one. */
static void add_system(const struct files *l, struct source *to)
{
	char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s/%s", X509_get_default_cert_dir(), SYSTEM_BUNDLE);
	(void)add_authorities(l, to, X509_get_default_cert_file());
	if (to->count == 0)
		(void)add_authorities(l, to, path);
	if (to->count == 0)
		(void)add_directory(l, to, X509_get_default_cert_dir());
}

static int report_authorities(const struct files *l, const struct source *to, const char *path,
			      int r)
{
	if (r == 0 && to->count > 0)
		return 0;
	if (r != -EILSEQ)
		files_complain(l, LOG_ERR, to->key, "%s: %s%s", path,
			       r < 0 ? "cannot be read: " : "",
			       r < 0 ? strerror(-r) : "there is no certificate (PEM) in it");
	return -EINVAL;
}

int files_use_authorities(const struct files *l, SSL_CTX *ctx, bool needed)
{
	const char *file = l->config->tls_ca_file, *path = l->config->tls_ca_path;
	X509_STORE *store = SSL_CTX_get_cert_store(ctx);
	struct source of_file = { "tls_ca_file", LOG_ERR, store, 0 },
		      of_path = { "tls_ca_path", LOG_WARNING, store, 0 },
		      of_system = { "tls_ca_file", LOG_WARNING, store, 0 };
	int r = 0;

	if (*file)
		r = report_authorities(l, &of_file, file, add_authorities(l, &of_file, file));
	if (r == 0 && *path)
		r = report_authorities(l, &of_path, path, add_directory(l, &of_path, path));
	if (*file || *path || !needed)
		return r;
	add_system(l, &of_system);
	if (of_system.count == 0)
		files_complain(l, LOG_WARNING, "tls_ca_file",
			 "the system has no authorities in %s: no mail host's certificate will do",
			 X509_get_default_cert_dir());
	return 0;
}

int files_load_client_authorities(const struct files *l, X509_STORE **ret_store,
				  STACK_OF(X509_NAME) **ret_names)
{
	const char *path = l->config->tls_client_ca_file;
	X509_STORE *store = X509_STORE_new();
	STACK_OF(X509_NAME) *names = sk_X509_NAME_new_null();
	struct source source = { "tls_client_ca_file", LOG_ERR, store, 0 };
	int r = store && names ? report_authorities(l, &source, path,
						    add_authorities(l, &source, path))
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
