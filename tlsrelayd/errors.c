/* Tables from OpenSSL's codes to sentences.
 *
 * A trap: a certificate that was sent alone and whose issuer is not known may lack the intermediate
 * certificate or come from an unknown authority: nothing tells these apart, so the sentence says
 * both and names the issuer.
 */
#include "tlsrelayd/errors.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "lib/buf.h"

#define NAMES_SHOWN 5

struct row {
	int code;
	enum msg_tls_failure reason;
	const char *sentence;
};

static const struct row of_certificate[] = {
	{ X509_V_ERR_CERT_HAS_EXPIRED, TLS_CERTIFICATE,
	  "its certificate, or one above it, has expired (tls_verify_server)" },
	{ X509_V_ERR_CERT_NOT_YET_VALID, TLS_CERTIFICATE,
	  "its certificate is not valid yet (tls_verify_server)" },
	{ X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, TLS_CERTIFICATE,
	  "its certificate is self-signed and not in tls_ca_file" },
	{ X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, TLS_CERTIFICATE,
	  "its certificate leads to no known authority (tls_ca_file)" },
	{ X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, TLS_CERTIFICATE,
	  "its certificate leads to no known authority (tls_ca_file)" },
	{ X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, TLS_CERTIFICATE,
	  "its certificate leads to no known authority (tls_ca_file)" },
	{ X509_V_ERR_INVALID_PURPOSE, TLS_CERTIFICATE,
	  "its certificate is not one for servers (tls_verify_server)" },
	{ X509_V_ERR_EE_KEY_TOO_SMALL, TLS_CERTIFICATE,
	  "its certificate's key is too weak (tls_ciphers: @SECLEVEL)" },
	{ X509_V_ERR_CA_KEY_TOO_SMALL, TLS_CERTIFICATE,
	  "the key of an authority above its certificate is too weak (tls_ciphers: @SECLEVEL)" },
	{ X509_V_ERR_CA_MD_TOO_WEAK, TLS_CERTIFICATE,
	  "its certificate's signature is too weak (tls_ciphers: @SECLEVEL)" },
};

/* The same of a client's, where it is asked for one. */
static const struct row of_client_certificate[] = {
	{ X509_V_ERR_CERT_HAS_EXPIRED, TLS_CERTIFICATE,
	  "its certificate, or one above it, has expired" },
	{ X509_V_ERR_CERT_NOT_YET_VALID, TLS_CERTIFICATE, "its certificate is not valid yet" },
	{ X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, TLS_CERTIFICATE,
	  "its certificate is self-signed and not in tls_client_ca_file" },
	{ X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, TLS_CERTIFICATE,
	  "its certificate leads to no authority in tls_client_ca_file" },
	{ X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, TLS_CERTIFICATE,
	  "its certificate leads to no authority in tls_client_ca_file" },
	{ X509_V_ERR_INVALID_PURPOSE, TLS_CERTIFICATE,
	  "its certificate is not one for clients" },
	{ X509_V_ERR_EE_KEY_TOO_SMALL, TLS_CERTIFICATE, "its certificate's key is too weak" },
	{ X509_V_ERR_CA_MD_TOO_WEAK, TLS_CERTIFICATE, "its certificate's signature is too weak" },
};

/* Of a mail host. */
static const struct row of_server[] = {
	{ SSL_R_WRONG_VERSION_NUMBER, TLS_HANDSHAKE,
	  "does not speak TLS on port %u (server_tls, server_port)" },
	{ SSL_R_HTTP_REQUEST, TLS_HANDSHAKE,
	  "does not speak TLS on port %u (server_tls, server_port)" },
	{ SSL_R_PACKET_LENGTH_TOO_LONG, TLS_HANDSHAKE,
	  "does not speak TLS on port %u (server_tls, server_port)" },
	{ SSL_R_UNSUPPORTED_PROTOCOL, TLS_HANDSHAKE,
	  "offers only a version of TLS that is too old (tls_min_version)" },
	{ SSL_R_VERSION_TOO_LOW, TLS_HANDSHAKE,
	  "offers only a version of TLS that is too old (tls_min_version)" },
	{ SSL_R_TLSV1_ALERT_PROTOCOL_VERSION, TLS_HANDSHAKE,
	  "has no version of TLS in common with us (tls_min_version)" },
	{ SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE, TLS_HANDSHAKE,
	  "refuses: nothing in common (tls_ciphers), or no client certificate (tls_cert_file)" },
	{ SSL_R_TLSV1_ALERT_INSUFFICIENT_SECURITY, TLS_HANDSHAKE,
	  "refuses: our ciphers are too weak for it (tls_ciphers)" },
	{ SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, TLS_HANDSHAKE,
	  "refuses our certificate (tls_cert_file)" },
	{ SSL_R_TLSV1_ALERT_UNKNOWN_CA, TLS_HANDSHAKE, "refuses our certificate (tls_cert_file)" },
	{ SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED, TLS_HANDSHAKE,
	  "says that our certificate has expired (tls_cert_file)" },
	{ SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED, TLS_HANDSHAKE,
	  "wants a client certificate (tls_cert_file)" },
	{ SSL_R_TLSV1_UNRECOGNIZED_NAME, TLS_HANDSHAKE,
	  "does not know itself by that name (server_hostname)" },
	{ SSL_R_DH_KEY_TOO_SMALL, TLS_HANDSHAKE,
	  "uses a key exchange that is too weak (tls_ciphers: @SECLEVEL)" },
	{ SSL_R_EE_KEY_TOO_SMALL, TLS_CERTIFICATE,
	  "its certificate's key is too weak (tls_ciphers: @SECLEVEL)" },
};

/* Of a client. */
static const struct row of_client[] = {
	{ SSL_R_WRONG_VERSION_NUMBER, TLS_HANDSHAKE, "does not speak TLS" },
	{ SSL_R_HTTP_REQUEST, TLS_HANDSHAKE, "speaks HTTP" },
	{ SSL_R_UNSUPPORTED_PROTOCOL, TLS_HANDSHAKE,
	  "offers only versions of TLS that are too old (tls_server_min_version)" },
	{ SSL_R_VERSION_TOO_LOW, TLS_HANDSHAKE,
	  "offers only versions of TLS that are too old (tls_server_min_version)" },
	{ SSL_R_NO_SHARED_CIPHER, TLS_HANDSHAKE,
	  "has no cipher in common with us (tls_server_ciphers)" },
	{ SSL_R_NO_APPLICATION_PROTOCOL, TLS_HANDSHAKE, "wants another protocol (ALPN)" },
	{ SSL_R_TLSV1_ALERT_UNKNOWN_CA, TLS_HANDSHAKE,
	  "does not know the authority of our certificate (tls_server_cert_file)" },
	{ SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, TLS_HANDSHAKE,
	  "does not accept our certificate (tls_server_cert_file)" },
	{ SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN, TLS_HANDSHAKE,
	  "does not accept our certificate (tls_server_cert_file)" },
	{ SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED, TLS_HANDSHAKE,
	  "says that our certificate has expired (tls_server_cert_file)" },
};

/* Of either, when the connection has been open: what refuses a handshake is about a second one
 * then, and what is no TLS comes from a peer that can speak it. */
static const struct row of_open[] = {
	{ SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE, TLS_HANDSHAKE,
	  "broke off, perhaps since it may not renegotiate" },
	{ SSL_R_WRONG_VERSION_NUMBER, TLS_HANDSHAKE, "sent something that is no TLS" },
	{ SSL_R_PACKET_LENGTH_TOO_LONG, TLS_HANDSHAKE, "sent something that is no TLS" },
	{ SSL_R_HTTP_REQUEST, TLS_HANDSHAKE, "sent something that is no TLS" },
};

static const struct row *find(const struct row *rows, size_t count, int code)
{
	for (size_t i = 0; i < count; i++)
		if (rows[i].code == code)
			return &rows[i];
	return NULL;
}

void errors_say(struct errors_text *ret, const char *peer, enum msg_tls_failure reason,
		const char *sentence)
{
	struct buf out = { .data = ret->text, .cap = sizeof(ret->text) - 1 };
	const struct span parts[] = { span_str(peer), SPAN(": "), span_str(sentence) };

	ret->reason = reason;
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		size_t room = out.cap - out.len;

		(void)buf_add(&out, (struct span){ parts[i].p,
						   parts[i].n < room ? parts[i].n : room });
	}
	ret->text[out.len] = '\0';
	for (char *p = ret->text; *p; p++)
		if (*p < ' ' || *p > '~')
			*p = '?';
}

/* One name of subjectAltName that a host can be known by. False: it is of another kind. */
static bool host_name(const GENERAL_NAME *name, char *to, size_t size)
{
	int kind;
	const ASN1_STRING *s = GENERAL_NAME_get0_value(name, &kind);

	if (kind != GEN_DNS && kind != GEN_IPADD)
		return false; /* nor need s be a string then */
	const unsigned char *bytes = ASN1_STRING_get0_data(s);
	int n = ASN1_STRING_length(s);

	if (kind == GEN_DNS)
		return snprintf(to, size, "%.*s", n, (const char *)bytes) >= 0;
	return (n == 4 || n == 16) &&
	       inet_ntop(n == 4 ? AF_INET : AF_INET6, bytes, to, (socklen_t)size);
}

/* Writes "a, b": the names in a certificate. Its common name counts where no host is in
 * subjectAltName (X509_check_host(3)). */
static void write_names(X509 *cert, char *text, size_t cap)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	size_t have = 0;
	int shown = 0;

	for (int i = 0; i < sk_GENERAL_NAME_num(names) && shown < NAMES_SHOWN; i++) {
		size_t comma = shown ? 2 : 0, at = have + comma;

		if (at + 1 >= cap ||
		    !host_name(sk_GENERAL_NAME_value(names, i), text + at, cap - at))
			continue;
		memcpy(text + have, ", ", comma);
		have = at + strlen(text + at);
		shown++;
	}
	sk_GENERAL_NAME_pop_free(names, GENERAL_NAME_free);
	if (shown == 0 && X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName,
						    text, (int)cap) < 0)
		(void)snprintf(text, cap, "no host name at all");
}

/* The certificate is in OpenSSL's hands only while it verifies. One connection shakes hands at a
 * time, and its failure is asked for before the next one's turn. */
static struct {
	char names[200];
	char issuer[100];
	bool alone; /* no other certificate came with it */
} refused;

int errors_on_verify(int good, X509_STORE_CTX *store)
{
	X509 *cert = X509_STORE_CTX_get0_cert(store);

	if (good || !cert)
		return good;
	refused.alone = sk_X509_num(X509_STORE_CTX_get0_untrusted(store)) <= 1;
	if (X509_NAME_get_text_by_NID(X509_get_issuer_name(cert), NID_commonName, refused.issuer,
				      sizeof(refused.issuer)) < 0)
		(void)snprintf(refused.issuer, sizeof(refused.issuer), "somebody without a name");
	write_names(cert, refused.names, sizeof(refused.names));
	return good;
}

static const struct row *find_certificate(long code, bool is_client)
{
	return is_client ? find(of_client_certificate,
				sizeof(of_client_certificate) / sizeof(of_client_certificate[0]),
				(int)code)
			 : find(of_certificate, sizeof(of_certificate) / sizeof(of_certificate[0]),
				(int)code);
}

static void say_certificate(const char *peer, long code, bool is_client, struct errors_text *ret)
{
	char text[ERRORS_TEXT_MAX];
	const struct row *row = find_certificate(code, is_client);
	bool is_unknown = code == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY ||
			  code == X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE;

	if (code == X509_V_ERR_HOSTNAME_MISMATCH || code == X509_V_ERR_IP_ADDRESS_MISMATCH)
		(void)snprintf(text, sizeof(text),
			       "its certificate is for other names (tls_verify_server): %s",
			       refused.names);
	else if (is_unknown && is_client)
		(void)snprintf(text, sizeof(text),
			       "its certificate leads to no authority in tls_client_ca_file: it "
			       "was signed by %s",
			       refused.issuer);
	else if (is_unknown && refused.alone)
		(void)snprintf(text, sizeof(text),
			       "its certificate lacks an intermediate certificate, or leads to no "
			       "known authority (tls_ca_file): it was signed by %s",
			       refused.issuer);
	else if (row)
		(void)snprintf(text, sizeof(text), "%s", row->sentence);
	else
		(void)snprintf(text, sizeof(text), "its certificate is not good (%s): %s",
			       is_client ? "tls_client_ca_file" : "tls_verify_server",
			       X509_verify_cert_error_string(code));
	errors_say(ret, peer, TLS_CERTIFICATE, text);
}

/* A mail host of TLS 1.3 judges our certificate when the connection is open already: what is not
 * among the rows for that is looked for among those of a handshake. */
static const struct row *find_code(unsigned long code, bool is_client, bool is_open)
{
	const int reason = ERR_GET_REASON(code);
	const struct row *row =
		is_open ? find(of_open, sizeof(of_open) / sizeof(of_open[0]), reason) : NULL;

	if (ERR_GET_LIB(code) != ERR_LIB_SSL)
		return NULL;
	if (row)
		return row;
	return is_client ? find(of_client, sizeof(of_client) / sizeof(of_client[0]), reason)
			 : find(of_server, sizeof(of_server) / sizeof(of_server[0]), reason);
}

static void say_code(unsigned long code, const char *peer, uint32_t port, bool is_client,
		     bool is_open, struct errors_text *ret)
{
	char text[ERRORS_TEXT_MAX];
	const struct row *row = find_code(code, is_client, is_open);
	const char *words = ERR_reason_error_string(code);

	if (!row)
		(void)snprintf(text, sizeof(text), "TLS failed: %s",
			       words ? words : "for an unknown reason");
	else if (strstr(row->sentence, "%u"))
		(void)snprintf(text, sizeof(text), "%.*s%u%s",
			       (int)(strstr(row->sentence, "%u") - row->sentence), row->sentence,
			       (unsigned)port, strstr(row->sentence, "%u") + 2);
	else
		(void)snprintf(text, sizeof(text), "%s", row->sentence);
	errors_say(ret, peer, row ? row->reason : TLS_HANDSHAKE, text);
}

void errors_of_handshake(SSL *ssl, const char *peer, uint32_t port, bool is_client, bool ended,
			 int error, struct errors_text *ret)
{
	char text[ERRORS_TEXT_MAX];
	unsigned long code = ERR_peek_error();
	long verdict = SSL_get_verify_result(ssl);

	if (verdict != X509_V_OK && (SSL_get_verify_mode(ssl) & SSL_VERIFY_PEER))
		say_certificate(peer, verdict, is_client, ret);
	else if (code != 0 && !ended)
		say_code(code, peer, port, is_client, false, ret);
	else {
		(void)snprintf(text, sizeof(text), "ended the connection in the TLS handshake%s%s",
			       error ? ": " : "", error ? strerror(error) : "");
		errors_say(ret, peer, TLS_HANDSHAKE, text);
	}
	ERR_clear_error();
}

bool errors_of_stream(const char *peer, uint32_t port, bool is_client, struct errors_text *ret)
{
	unsigned long code = ERR_peek_error();

	if (code == 0)
		return false;
	say_code(code, peer, port, is_client, true, ret);
	ERR_clear_error();
	return true;
}
