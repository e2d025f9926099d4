/* OpenSSL's contexts from the configuration.
 *
 * One context for each certificate that clients are shown, for OpenSSL switches contexts by name
 * (SNI); tickets are the first one's business whatever it switches to. Every context refuses
 * renegotiation (RFC 5746), compression and, by its default, early data.
 */
#include "tlsrelayd/contexts.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/config_tls.h"
#include "lib/log.h"
#include "lib/msg.h"
#include "tlsrelayd/errors.h"
#include "tlsrelayd/files.h"
#include "tlsrelayd/names.h"
#include "tlsrelayd/tickets.h"

#define CERTIFICATES_MAX 64
#define TICKET_SECONDS	 3600
#define CLIENT_DEPTH	 8 /* of authorities above a client's certificate */
#define HOST_MAX	 255  /* bytes of a name */
#define PEER_MAX	 8192 /* bytes of a mail host's certificate in a session */

static int pop3_mark = -1; /* place for what says of a client that it speaks POP3 */

struct contexts {
	SSL_CTX *servers[CERTIFICATES_MAX];
	size_t server_count;
	struct names *names;
	X509_STORE *client_authorities; /* NULL: clients are asked for no certificate */
	STACK_OF(X509_NAME) *client_authority_names;
	uint32_t client_name; /* of enum tls_name */
	unsigned char session_id_context[SSL_MAX_SID_CTX_LENGTH];
	SSL_CTX *client;
	bool verifies;
	contexts_ticket_fn *on_ticket;
};

static SSL_CTX *new_context(const struct files *l, bool is_server)
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
		files_complain(l, LOG_ERR, is_server ? "tls_server_ciphers" : "tls_ciphers",
			 "%s: no cipher that OpenSSL knows", ciphers);
		SSL_CTX_free(ctx);
		return NULL;
	}
	return ctx;
}

/* --- with clients ----------------------------------------------------------------------------- */

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

/* RFC 7301 section 3.2; the names are those of RFC 8314 section 7.1. */
static int choose_protocol(SSL *ssl, const unsigned char **chosen, unsigned char *chosen_length,
			   const unsigned char *offered, unsigned offered_length, void *context)
{
	static const struct span imap = { "\4imap", 5 }, pop3 = { "\4pop3", 5 };
	const struct span ours = SSL_get_ex_data(ssl, pop3_mark) ? pop3 : imap;

	(void)context;

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

/* Verifies as OpenSSL does, and does not keep the chain that was built for it: it would stay in
 * memory as long as the connection. */
static int verify(X509_STORE_CTX *store, void *context)
{
	int good = X509_verify_cert(store);

	(void)context;
	X509_STORE_CTX_set0_verified_chain(store, NULL);
	return good;
}

/* Has clients asked for a certificate; who has none may come in all the same. The store is one of
 * its own: out of the usual one OpenSSL would take what is above our own certificate. */
static int ask_for_certificates(const struct contexts *c, SSL_CTX *ctx)
{
	if (!c->client_authorities)
		return 0;
	STACK_OF(X509_NAME) *names = SSL_dup_CA_list(c->client_authority_names);

	if (!names || SSL_CTX_set1_verify_cert_store(ctx, c->client_authorities) != 1 ||
	    SSL_CTX_set_purpose(ctx, X509_PURPOSE_SSL_CLIENT) != 1) {
		sk_X509_NAME_pop_free(names, X509_NAME_free);
		return -ENOMEM;
	}
	SSL_CTX_set_client_CA_list(ctx, names);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, errors_on_verify);
	SSL_CTX_set_verify_depth(ctx, CLIENT_DEPTH);
	SSL_CTX_set_cert_verify_callback(ctx, verify, NULL);
	return 0;
}

static int add_server(struct contexts *c, const struct files *l, const char *cert_path,
		      const char *key_path)
{
	static const char cert_key[] = "tls_server_cert_file";
	const char *key_key = key_path ? "tls_server_key_file" : cert_key;

	if (c->server_count == CERTIFICATES_MAX) {
		files_complain(l, LOG_ERR, cert_key, "more than %d certificates", CERTIFICATES_MAX);
		return -EINVAL;
	}
	SSL_CTX *ctx = new_context(l, true);

	if (!ctx)
		return -EINVAL;
	c->servers[c->server_count++] = ctx;
	(void)SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
	(void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); /* tickets only */
	(void)SSL_CTX_set_session_id_context(ctx, c->session_id_context,
					     sizeof(c->session_id_context));
	(void)SSL_CTX_set_timeout(ctx, TICKET_SECONDS);
	/* OpenSSL's default of two is for browsers; making and sending one is a tenth of what a
	 * handshake costs */
	(void)SSL_CTX_set_num_tickets(ctx, 1);
	/* what is above our certificate stands in its file: each handshake would look for it in a
	 * store that is empty */
	(void)SSL_CTX_set_mode(ctx, SSL_MODE_NO_AUTO_CHAIN);
	(void)SSL_CTX_set_dh_auto(ctx, 1);
	(void)SSL_CTX_set_tlsext_servername_callback(ctx, choose_by_name);
	(void)SSL_CTX_set_tlsext_servername_arg(ctx, c);
	SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, NULL);
	int r = ask_for_certificates(c, ctx);

	if (r == 0)
		r = files_use_certificate(l, cert_key, cert_path, ctx);
	if (r == 0)
		r = files_use_key(l, key_key, key_path ? key_path : cert_path, ctx);
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

static int load_servers(struct contexts *c, const struct files *l)
{
	struct span certs = span_str(l->config->tls_server_cert_file);
	struct span keys = span_str(l->config->tls_server_key_file);
	char cert_path[PATH_MAX], key_path[PATH_MAX];
	bool has_keys = keys.n > 0;
	int r = 0;

	/* a session is resumed only under the settings that it was made under: its ticket says that
	 * its client's certificate was verified, and by whom that was signed is not in it */
	if (RAND_bytes(c->session_id_context, sizeof(c->session_id_context)) != 1)
		return -EIO;
	c->client_name = l->config->tls_client_name;
	if (*l->config->tls_client_ca_file && certs.n > 0)
		r = files_load_client_authorities(l, &c->client_authorities,
						  &c->client_authority_names);
	while (r == 0 && next_path(&certs, cert_path)) {
		if (has_keys && !next_path(&keys, key_path))
			return -EINVAL; /* lib/config_tls.c has counted them */
		r = add_server(c, l, cert_path, has_keys ? key_path : NULL);
	}
	return r;
}

SSL *contexts_accept(const struct contexts *c, uint32_t service)
{
	static char mark;
	SSL *ssl = c->server_count > 0 ? SSL_new(c->servers[0]) : NULL;

	if (!ssl)
		return NULL;
	SSL_set_accept_state(ssl);
	if (service == SERVICE_POP3 && SSL_set_ex_data(ssl, pop3_mark, &mark) != 1) {
		SSL_free(ssl);
		return NULL;
	}
	return ssl;
}

/* --- with mail hosts -------------------------------------------------------------------------- */

static int give_ticket(SSL *ssl, SSL_SESSION *session)
{
	const struct contexts *c = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
	int length = i2d_SSL_SESSION(session, NULL);
	unsigned char bytes[TICKET_MAX + PEER_MAX], *end = bytes;

	if (!c->on_ticket || length <= 0 || (size_t)length > sizeof(bytes) ||
	    (c->verifies && SSL_get_verify_result(ssl) != X509_V_OK))
		return 0;
	length = i2d_SSL_SESSION(session, &end);
	size_t left = tickets_drop_peer((char *)bytes, (size_t)length);

	if (left > 0 && left <= TICKET_MAX)
		c->on_ticket(SSL_get_app_data(ssl), (struct span){ (char *)bytes, left });
	OPENSSL_cleanse(bytes, (size_t)length);
	return 0; /* it stays OpenSSL's */
}

void contexts_keep_session(SSL *ssl)
{
	SSL_SESSION *session = SSL_get0_session(ssl);

	if (SSL_is_server(ssl) || SSL_version(ssl) != TLS1_2_VERSION || !SSL_session_reused(ssl) ||
	    !session || time(NULL) - SSL_SESSION_get_time(session) >= TICKET_SECONDS)
		return;
	(void)give_ticket(ssl, session);
}

static int load_client(struct contexts *c, const struct files *l)
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
	SSL_CTX_set_cert_verify_callback(c->client, verify, NULL);
	/* A session with our certificate is not resumed: Dovecot 2.3, which asks for one, takes the
	 * attempt for a fault of its own and ends the connection ("session id context
	 * uninitialized"). */
	if (!*config->tls_cert_file) {
		(void)SSL_CTX_set_session_cache_mode(c->client, SSL_SESS_CACHE_CLIENT |
									SSL_SESS_CACHE_NO_INTERNAL);
		SSL_CTX_sess_set_new_cb(c->client, give_ticket);
	}
	int r = files_use_authorities(l, c->client, c->verifies);

	if (r == 0 && *config->tls_cert_file)
		r = files_use_certificate(l, "tls_cert_file", config->tls_cert_file, c->client);
	if (r == 0 && *config->tls_cert_file)
		r = *config->tls_key_file
			    ? files_use_key(l, "tls_key_file", config->tls_key_file, c->client)
			    : files_use_key(l, "tls_cert_file", config->tls_cert_file, c->client);
	return r;
}

static void resume(SSL *ssl, struct span ticket)
{
	const unsigned char *bytes = (const unsigned char *)ticket.p;
	SSL_SESSION *session = d2i_SSL_SESSION(NULL, &bytes, (long)ticket.n);

	if (session)
		(void)SSL_set_session(ssl, session);
	SSL_SESSION_free(session);
	ERR_clear_error();
}

/* The name as certificates and SNI have it: without the dot that may end it (RFC 6066 section 3).
 */
static void copy_name(char to[HOST_MAX + 1], const char *host)
{
	size_t n = strnlen(host, HOST_MAX);

	if (n > 1 && host[n - 1] == '.')
		n--;
	memcpy(to, host, n);
	to[n] = '\0';
}

SSL *contexts_dial(const struct contexts *c, const char *asked, struct span ticket)
{
	unsigned char address[16];
	char host[HOST_MAX + 1];

	copy_name(host, asked);
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
		resume(ssl, ticket);
	return ssl;
}

/* --- both ------------------------------------------------------------------------------------- */

int contexts_load(const struct config *config, const char *config_path, int bundle,
		  struct contexts **ret)
{
	const struct files l = { .config = config, .config_path = config_path, .bundle = bundle };
	struct contexts *c = calloc(1, sizeof(*c));
	int r = c ? 0 : -ENOMEM;

	if (pop3_mark < 0)
		pop3_mark = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	if (r == 0 && pop3_mark < 0)
		r = -ENOMEM;
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
	X509_STORE_free(c->client_authorities);
	c->client_authorities = NULL;
	sk_X509_NAME_pop_free(c->client_authority_names, X509_NAME_free);
	c->client_authority_names = NULL;
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

int contexts_identify(const struct contexts *c, SSL *ssl, char ret[IDENTITY_MAX + 1])
{
	ret[0] = '\0';
	return c->client_authorities ? identity_of(ssl, c->client_name, ret) : 0;
}

void contexts_slim(SSL *ssl)
{
	STACK_OF(X509) *chain = SSL_get_peer_cert_chain(ssl);

	while (sk_X509_num(chain) > 0)
		X509_free(sk_X509_pop(chain));
}

void contexts_on_ticket(struct contexts *c, contexts_ticket_fn *fn)
{
	c->on_ticket = fn;
}

void contexts_set_owner(SSL *ssl, void *context)
{
	(void)SSL_set_app_data(ssl, context);
}
