/* OpenSSL's contexts from the configuration.
 *
 * One context for each certificate that clients are shown, for OpenSSL switches contexts by name
 * (SNI); tickets are the first one's business whatever it switches to. A jailed worker can open
 * nothing, so authorities are loaded here, all of them. What was read of a file is overwritten as
 * soon as OpenSSL has it. Every context refuses renegotiation (RFC 5746), compression and, by its
 * default, early data.
 */
#include "tlsrelayd/contexts.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/bundle.h"
#include "lib/config_tls.h"
#include "lib/log.h"
#include "tlsrelayd/errors.h"
#include "tlsrelayd/names.h"
#include "tlsrelayd/tickets.h"

#define CERTIFICATES_MAX 64
#define TICKET_SECONDS	 3600
#define SYSTEM_BUNDLE	 "ca-certificates.crt" /* Debian's, in the directory of authorities */

struct contexts {
	SSL_CTX *servers[CERTIFICATES_MAX];
	size_t server_count;
	struct names *names;
	SSL_CTX *client;
	bool verifies;
	contexts_ticket_fn *on_ticket;
};

/* What is being loaded, for messages. */
struct loader {
	const struct config *config;
	const char *config_path;
	int bundle;
};

/* file:line: key: what. */
__attribute__((format(printf, 4, 5))) static void
complain(const struct loader *l, int priority, const char *key, const char *format, ...)
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
struct file {
	char *data;
	size_t length;
	BIO *bio;
};

static void close_file(struct file *f)
{
	BIO_free(f->bio);
	bundle_wipe(f->data, f->length);
	*f = (struct file){ 0 };
}

static int open_file(const struct loader *l, const char *key, const char *path, struct file *ret)
{
	*ret = (struct file){ 0 };
	int r = bundle_find(l->bundle, path, &ret->data, &ret->length);

	if (r == -ENOENT)
		r = bundle_read_file(path, &ret->data, &ret->length);
	if (r == 0) {
		ret->bio = BIO_new_mem_buf(ret->data, (int)ret->length);
		r = ret->bio ? 0 : -ENOMEM;
	}
	if (r < 0) {
		complain(l, LOG_ERR, key, "%s: cannot be read: %s", path,
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

static int use_key(const struct loader *l, const char *key, const char *path, SSL_CTX *ctx)
{
	struct file f;
	bool has_phrase = false;
	int r = open_file(l, key, path, &f);

	if (r < 0)
		return -EINVAL;
	EVP_PKEY *secret = PEM_read_bio_PrivateKey(f.bio, NULL, refuse_phrase, &has_phrase);

	if (!secret && has_phrase)
		complain(l, LOG_ERR, key, "%s: the key has a pass phrase; it must have none", path);
	else if (!secret)
		complain(l, LOG_ERR, key, "%s: there is no key (PEM) in it", path);
	else if (SSL_CTX_use_PrivateKey(ctx, secret) != 1 || SSL_CTX_check_private_key(ctx) != 1)
		complain(l, LOG_ERR, key, "%s: the key does not belong to the certificate", path);
	else
		r = 1;
	EVP_PKEY_free(secret);
	close_file(&f);
	return r == 1 ? 0 : -EINVAL;
}

static void warn_of_dates(const struct loader *l, const char *key, const char *path,
			  const X509 *cert)
{
	if (X509_cmp_current_time(X509_get0_notAfter(cert)) < 0)
		complain(l, LOG_WARNING, key, "%s: the certificate has expired", path);
	else if (X509_cmp_current_time(X509_get0_notBefore(cert)) > 0)
		complain(l, LOG_WARNING, key, "%s: the certificate is not valid yet", path);
}

/* The certificate and what is above it. */
static int use_certificate(const struct loader *l, const char *key, const char *path, SSL_CTX *ctx)
{
	struct file f;
	int r = open_file(l, key, path, &f);

	if (r < 0)
		return -EINVAL;
	X509 *cert = PEM_read_bio_X509_AUX(f.bio, NULL, NULL, NULL), *above = NULL;

	if (!cert)
		complain(l, LOG_ERR, key, "%s: there is no certificate (PEM) in it", path);
	else if (SSL_CTX_use_certificate(ctx, cert) != 1)
		complain(l, LOG_ERR, key, "%s: the certificate cannot be used: %s", path, words());
	else
		r = 1;
	while (r == 1 && (above = PEM_read_bio_X509(f.bio, NULL, NULL, NULL)))
		if (SSL_CTX_add0_chain_cert(ctx, above) != 1) {
			X509_free(above);
			complain(l, LOG_ERR, key, "%s: its chain cannot be used: %s", path,
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

static SSL_CTX *new_context(const struct loader *l, bool is_server)
{
	const struct config *c = l->config;
	SSL_CTX *ctx = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
	const char *ciphers = is_server ? c->tls_server_ciphers : c->tls_ciphers;
	uint32_t least = is_server ? c->tls_server_min_version : config_tls_min_version(c);

	if (!ctx)
		return NULL;
	(void)SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
					       SSL_OP_IGNORE_UNEXPECTED_EOF);
	(void)SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
					    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	(void)SSL_CTX_set_min_proto_version(ctx, least >= 13 ? TLS1_3_VERSION : TLS1_2_VERSION);
	(void)SSL_CTX_set_max_proto_version(ctx, 0);
	if (*ciphers && SSL_CTX_set_cipher_list(ctx, ciphers) != 1) {
		complain(l, LOG_ERR, is_server ? "tls_server_ciphers" : "tls_ciphers",
			 "%s: no cipher that OpenSSL knows", ciphers);
		SSL_CTX_free(ctx);
		return NULL;
	}
	return ctx;
}

/* --- with clients -------------------------------------------------------------------------------- */

/* SNI: the certificate for the name that the client asks for. An unknown one gets the first. */
static int choose_by_name(SSL *ssl, int *alert, void *context)
{
	const struct contexts *c = context;
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

	(void)alert;
	if (name) {
		size_t which = names_find(c->names, span_str(name));

		if (which < c->server_count)
			(void)SSL_set_SSL_CTX(ssl, c->servers[which]);
	}
	return SSL_TLSEXT_ERR_OK;
}

/* RFC 7301 section 3.2; the names are registered by RFC 2595's and 9051's service. */
static int choose_protocol(SSL *ssl, const unsigned char **chosen, unsigned char *chosen_length,
			   const unsigned char *offered, unsigned offered_length, void *context)
{
	(void)context;
	(void)ssl;
	static const struct span ours = { "\4imap", 5 };

	for (unsigned at = 0; at < offered_length; at += 1u + offered[at]) {
		if (offered_length - at < ours.n || memcmp(offered + at, ours.p, ours.n) != 0)
			continue;
		*chosen = offered + at + 1;
		*chosen_length = offered[at];
		return SSL_TLSEXT_ERR_OK;
	}
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static int add_names(struct contexts *c, X509 *cert, size_t which)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	int r = 0, count = names ? sk_GENERAL_NAME_num(names) : 0;
	char common[256];

	for (int i = 0; r == 0 && i < count; i++) {
		int kind;
		const ASN1_STRING *s =
			GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &kind);

		if (kind == GEN_DNS)
			r = names_add(c->names,
				      (struct span){ (const char *)ASN1_STRING_get0_data(s),
						     (size_t)ASN1_STRING_length(s) },
				      which);
	}
	if (count == 0 && X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName,
						    common, sizeof(common)) > 0)
		r = names_add(c->names, span_str(common), which);
	sk_GENERAL_NAME_pop_free(names, GENERAL_NAME_free);
	return r;
}

static int add_server(struct contexts *c, const struct loader *l, const char *cert_path,
		      const char *key_path)
{
	static const char cert_key[] = "tls_server_cert_file";
	const char *key_key = key_path ? "tls_server_key_file" : cert_key;

	if (c->server_count == CERTIFICATES_MAX) {
		complain(l, LOG_ERR, cert_key, "more than %d certificates", CERTIFICATES_MAX);
		return -EINVAL;
	}
	SSL_CTX *ctx = new_context(l, true);

	if (!ctx)
		return -EINVAL;
	c->servers[c->server_count++] = ctx;
	(void)SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
	(void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); /* tickets only */
	(void)SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"keepwarm", 8);
	(void)SSL_CTX_set_timeout(ctx, TICKET_SECONDS);
	(void)SSL_CTX_set_dh_auto(ctx, 1);
	(void)SSL_CTX_set_tlsext_servername_callback(ctx, choose_by_name);
	(void)SSL_CTX_set_tlsext_servername_arg(ctx, c);
	SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, NULL);
	int r = use_certificate(l, cert_key, cert_path, ctx);

	if (r == 0)
		r = use_key(l, key_key, key_path ? key_path : cert_path, ctx);
	if (r == 0)
		r = add_names(c, SSL_CTX_get0_certificate(ctx), c->server_count - 1);
	return r;
}

static bool next_path(struct span *rest, char *path)
{
	struct span word = span_word(rest, ' ');

	if (word.n == 0 || word.n >= PATH_MAX)
		return false;
	memcpy(path, word.p, word.n);
	path[word.n] = '\0';
	return true;
}

static int load_servers(struct contexts *c, const struct loader *l)
{
	struct span certs = span_str(l->config->tls_server_cert_file);
	struct span keys = span_str(l->config->tls_server_key_file);
	char cert_path[PATH_MAX], key_path[PATH_MAX];
	bool has_keys = keys.n > 0;
	int r = 0;

	while (r == 0 && next_path(&certs, cert_path)) {
		if (has_keys && !next_path(&keys, key_path)) {
			complain(l, LOG_ERR, "tls_server_key_file",
				 "there are fewer keys than certificates");
			return -EINVAL;
		}
		r = add_server(c, l, cert_path, has_keys ? key_path : NULL);
	}
	if (r == 0 && next_path(&keys, key_path)) {
		complain(l, LOG_ERR, "tls_server_key_file",
			 "there are more keys than certificates");
		return -EINVAL;
	}
	return r;
}

SSL *contexts_accept(const struct contexts *c, uint32_t service)
{
	(void)service; /* all clients are of IMAP for now */
	SSL *ssl = c->server_count > 0 ? SSL_new(c->servers[0]) : NULL;

	if (ssl)
		SSL_set_accept_state(ssl);
	return ssl;
}

/* --- with mail hosts ----------------------------------------------------------------------------- */

/* Adds the authorities in a file. Returns how many there are, or -errno when it cannot be read. */
static int add_authorities(const struct loader *l, X509_STORE *store, const char *path)
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
static int add_directory(const struct loader *l, X509_STORE *store, const char *directory)
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
static int add_system(const struct loader *l, X509_STORE *store)
{
	char path[PATH_MAX];
	int r = add_authorities(l, store, X509_get_default_cert_file());

	(void)snprintf(path, sizeof(path), "%s/%s", X509_get_default_cert_dir(), SYSTEM_BUNDLE);
	if (r <= 0)
		r = add_authorities(l, store, path);
	return r > 0 ? r : add_directory(l, store, X509_get_default_cert_dir());
}

static int report_authorities(const struct loader *l, const char *key, const char *path, int r)
{
	if (r > 0)
		return 0;
	complain(l, LOG_ERR, key, "%s: %s%s", path, r < 0 ? "cannot be read: " : "",
		 r < 0 ? strerror(-r) : "there is no certificate (PEM) in it");
	return -EINVAL;
}

static int load_authorities(const struct loader *l, SSL_CTX *ctx, bool verifies)
{
	const char *file = l->config->tls_ca_file, *path = l->config->tls_ca_path;
	X509_STORE *store = SSL_CTX_get_cert_store(ctx);
	int r = 0;

	if (*file)
		r = report_authorities(l, "tls_ca_file", file, add_authorities(l, store, file));
	if (r == 0 && *path)
		r = report_authorities(l, "tls_ca_path", path, add_directory(l, store, path));
	if (!*file && !*path && verifies && add_system(l, store) <= 0)
		complain(l, LOG_WARNING, "tls_ca_file",
			 "the system has no authorities in %s: no mail host's certificate will do",
			 X509_get_default_cert_dir());
	return r;
}

static int give_ticket(SSL *ssl, SSL_SESSION *session)
{
	const struct contexts *c = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
	int length = i2d_SSL_SESSION(session, NULL);
	unsigned char bytes[TICKET_MAX], *end = bytes;

	if (!c->on_ticket || length <= 0 || length > TICKET_MAX ||
	    (c->verifies && SSL_get_verify_result(ssl) != X509_V_OK))
		return 0;
	length = i2d_SSL_SESSION(session, &end);
	c->on_ticket(SSL_get_app_data(ssl), (struct span){ (char *)bytes, (size_t)length });
	OPENSSL_cleanse(bytes, sizeof(bytes));
	return 0; /* it stays OpenSSL's */
}

static int load_client(struct contexts *c, const struct loader *l)
{
	const struct config *config = l->config;

	if (!config_tls_possible(config))
		return 0;
	c->verifies = config_tls_verifies(config);
	c->client = new_context(l, false);
	if (!c->client)
		return -EINVAL;
	(void)SSL_CTX_set_app_data(c->client, c);
	SSL_CTX_set_verify(c->client, c->verifies ? SSL_VERIFY_PEER : SSL_VERIFY_NONE,
			   errors_on_verify);
	(void)SSL_CTX_set_session_cache_mode(c->client, SSL_SESS_CACHE_CLIENT |
								SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(c->client, give_ticket);
	int r = load_authorities(l, c->client, c->verifies);

	if (r == 0 && *config->tls_cert_file)
		r = use_certificate(l, "tls_cert_file", config->tls_cert_file, c->client);
	if (r == 0 && *config->tls_cert_file)
		r = *config->tls_key_file
			    ? use_key(l, "tls_key_file", config->tls_key_file, c->client)
			    : use_key(l, "tls_cert_file", config->tls_cert_file, c->client);
	return r;
}

static void resume(const SSL_CTX *ctx, SSL *ssl, struct span ticket)
{
	const unsigned char *bytes = (const unsigned char *)ticket.p;
	SSL_SESSION *session = d2i_SSL_SESSION(NULL, &bytes, (long)ticket.n);

	(void)ctx;
	if (session)
		(void)SSL_set_session(ssl, session);
	SSL_SESSION_free(session);
	ERR_clear_error();
}

SSL *contexts_dial(const struct contexts *c, const char *host, struct span ticket)
{
	unsigned char address[16];
	bool is_address = inet_pton(AF_INET, host, address) == 1 ||
			  inet_pton(AF_INET6, host, address) == 1;
	SSL *ssl = c->client ? SSL_new(c->client) : NULL;

	if (!ssl)
		return NULL;
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
	int good = is_address || SSL_set_tlsext_host_name(ssl, host) == 1;

	if (c->verifies && is_address)
		good = X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1;
	else if (c->verifies)
		good = good && X509_VERIFY_PARAM_set1_host(param, host, 0) == 1;
	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	if (!good) {
		SSL_free(ssl);
		return NULL;
	}
	SSL_set_connect_state(ssl);
	if (ticket.n > 0)
		resume(c->client, ssl, ticket);
	return ssl;
}

/* --- both ---------------------------------------------------------------------------------------- */

int contexts_load(const struct config *config, const char *config_path, int bundle,
		  struct contexts **ret)
{
	const struct loader l = { .config = config, .config_path = config_path, .bundle = bundle };
	struct contexts *c = calloc(1, sizeof(*c));
	int r = c ? 0 : -ENOMEM;

	if (r == 0) {
		c->names = names_new();
		r = c->names ? load_servers(c, &l) : -ENOMEM;
	}
	if (r == 0)
		r = load_client(c, &l);
	if (r < 0) {
		contexts_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

void contexts_drop_clients(struct contexts *c)
{
	while (c->server_count > 0)
		SSL_CTX_free(c->servers[--c->server_count]);
	names_free(c->names);
	c->names = NULL;
}

void contexts_drop_hosts(struct contexts *c)
{
	SSL_CTX_free(c->client);
	c->client = NULL;
}

void contexts_free(struct contexts *c)
{
	if (!c)
		return;
	contexts_drop_clients(c);
	contexts_drop_hosts(c);
	free(c);
}

bool contexts_serve(const struct contexts *c)
{
	return c->server_count > 0;
}

bool contexts_connect(const struct contexts *c)
{
	return c->client;
}

void contexts_on_ticket(struct contexts *c, contexts_ticket_fn *fn)
{
	c->on_ticket = fn;
}

void contexts_set_owner(SSL *ssl, void *context)
{
	(void)SSL_set_app_data(ssl, context);
}
