/* The name in a client's certificate.
 *
 * An authority may have signed a name with a NUL in it, in the belief that it belongs to somebody
 * else ("anna@example.org", NUL, ".evil.example"): so lengths are what ASN.1 says, and a name with
 * a NUL or any other control character is nobody's. Nor is another one looked for then. Of several
 * names of one kind the first counts.
 *
 * A resumed session brings the certificate that was verified when it began, out of its ticket,
 * which only we can read: OpenSSL does not look at its dates again, so this does.
 */
#include "tlsrelayd/identity.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "lib/config.h"
#include "lib/utf8.h"

static int keep(const unsigned char *bytes, int length, char ret[IDENTITY_MAX + 1])
{
	struct span name = { (const char *)bytes, length > 0 ? (size_t)length : 0 };

	if (name.n == 0 || name.n > IDENTITY_MAX || !utf8_is_text(name))
		return -EINVAL;
	memcpy(ret, name.p, name.n);
	ret[name.n] = '\0';
	return 1;
}

/* The first name of this kind in the subject. 0: there is none. */
static int of_subject(const X509 *cert, int kind, char ret[IDENTITY_MAX + 1])
{
	const X509_NAME *subject = X509_get_subject_name(cert);
	int at = X509_NAME_get_index_by_NID(subject, kind, -1);
	unsigned char *bytes = NULL;

	if (at < 0)
		return 0;
	int n = ASN1_STRING_to_UTF8(&bytes,
				    X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
	int r = n < 0 ? -EINVAL : keep(bytes, n, ret);

	if (n >= 0)
		OPENSSL_free(bytes);
	return r;
}

/* The first address in subjectAltName; it is ASCII (RFC 5280 section 4.2.1.6). 0: there is none. */
static int of_alternatives(const X509 *cert, char ret[IDENTITY_MAX + 1])
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	int r = 0;

	for (int i = 0; r == 0 && i < sk_GENERAL_NAME_num(names); i++) {
		int kind;
		const ASN1_STRING *s =
			GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &kind);

		if (kind == GEN_EMAIL)
			r = keep(ASN1_STRING_get0_data(s), ASN1_STRING_length(s), ret);
	}
	sk_GENERAL_NAME_pop_free(names, GENERAL_NAME_free);
	return r;
}

static int read_name(const X509 *cert, uint32_t kind, char ret[IDENTITY_MAX + 1])
{
	int r;

	switch (kind) {
	case TLS_NAME_CN:
		return of_subject(cert, NID_commonName, ret);
	case TLS_NAME_UID:
		return of_subject(cert, NID_userId, ret);
	default:
		r = of_alternatives(cert, ret);
		return r == 0 ? of_subject(cert, NID_pkcs9_emailAddress, ret) : r;
	}
}

int identity_of(SSL *ssl, uint32_t kind, char ret[IDENTITY_MAX + 1])
{
	const X509 *cert = SSL_get0_peer_certificate(ssl);

	ret[0] = '\0';
	if (!cert || !(SSL_get_verify_mode(ssl) & SSL_VERIFY_PEER) ||
	    SSL_get_verify_result(ssl) != X509_V_OK ||
	    X509_cmp_current_time(X509_get0_notAfter(cert)) <= 0 ||
	    X509_cmp_current_time(X509_get0_notBefore(cert)) >= 0)
		return 0;
	int r = read_name(cert, kind, ret);

	ERR_clear_error();
	return r == 1 ? 1 : -EINVAL;
}
