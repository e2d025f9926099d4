/* The forms that passwords are stored in: {SCHEME}value, or one of crypt(3)'s strings.
 *
 * What a value is compared with is computed whole, and compared in a time that says nothing. A
 * value that does not look as its scheme says is broken, not merely wrong: somebody wants to know.
 * Without a scheme only crypt(3)'s strings count, as for Courier: clear text in the place of a hash
 * is no password.
 */
#include "lookupd/password.h"

#include <string.h>

#include "lib/base64.h"
#include "lookupd/password_forms.h"

#define PBKDF2_ROUNDS_MOST 2000000

enum form {
	FORM_CLEAR,
	FORM_CRYPT,
	FORM_ARGON2,
	FORM_DIGEST,
	FORM_SALTED, /* the digest of password and salt, and the salt behind it */
	FORM_PBKDF2, /* ROUNDS$SALT$KEY */
	FORM_DOVECOT_PBKDF2,
};

/* ENCODING_USUAL: of digests base64, or hex where the length says so; of the others as it is. */
enum encoding { ENCODING_USUAL, ENCODING_BASE64, ENCODING_HEX };

static const struct scheme {
	const char *name;
	enum form form;
	const char *digest;
} schemes[] = {
	{ "CRYPT", FORM_CRYPT, NULL },
	{ "MD5-CRYPT", FORM_CRYPT, NULL },
	{ "DES-CRYPT", FORM_CRYPT, NULL },
	{ "BLF-CRYPT", FORM_CRYPT, NULL },
	{ "SHA256-CRYPT", FORM_CRYPT, NULL },
	{ "SHA512-CRYPT", FORM_CRYPT, NULL },
	{ "PLAIN", FORM_CLEAR, NULL },
	{ "CLEARTEXT", FORM_CLEAR, NULL },
	{ "CLEAR", FORM_CLEAR, NULL },
	{ "MD5", FORM_DIGEST, "MD5" },
	{ "MD5RAW", FORM_DIGEST, "MD5" },
	{ "PLAIN-MD5", FORM_DIGEST, "MD5" },
	{ "LDAP-MD5", FORM_DIGEST, "MD5" },
	{ "SMD5", FORM_SALTED, "MD5" },
	{ "SHA", FORM_DIGEST, "SHA1" },
	{ "SHA1", FORM_DIGEST, "SHA1" },
	{ "SHA256", FORM_DIGEST, "SHA256" },
	{ "SHA512", FORM_DIGEST, "SHA512" },
	{ "SSHA", FORM_SALTED, "SHA1" },
	{ "SSHA256", FORM_SALTED, "SHA256" },
	{ "SSHA512", FORM_SALTED, "SHA512" },
	{ "PBKDF2", FORM_DOVECOT_PBKDF2, "SHA1" },
	{ "PBKDF2-SHA1", FORM_PBKDF2, "SHA1" },
	{ "PBKDF2-SHA256", FORM_PBKDF2, "SHA256" },
	{ "PBKDF2-SHA512", FORM_PBKDF2, "SHA512" },
#ifdef HAVE_LIBARGON2
	{ "ARGON2I", FORM_ARGON2, NULL },
	{ "ARGON2ID", FORM_ARGON2, NULL },
	{ "ARGON2", FORM_ARGON2, NULL },
#endif
};

static const struct {
	const char *name;
	enum encoding encoding;
} encodings[] = {
	{ "HEX", ENCODING_HEX },
	{ "B64", ENCODING_BASE64 },
	{ "BASE64", ENCODING_BASE64 },
};

bool password_is_possible(struct span typed)
{
	for (size_t i = 0; i < typed.n; i++)
		if (typed.p[i] == '\0' || typed.p[i] == '\r' || typed.p[i] == '\n')
			return false;
	return typed.n > 0 && typed.n <= PASSWORD_TYPED_MAX;
}

/* Digests of the same length are compared, so that the time does not even tell the length. */
static bool same(struct span a, struct span b)
{
	unsigned char x[PASSWORD_DIGEST_MAX], y[PASSWORD_DIGEST_MAX];
	size_t n = password_digest("SHA256", a, SPAN_NONE, x);
	bool good = n > 0 && password_digest("SHA256", b, SPAN_NONE, y) == n &&
		    span_eq_secret((struct span){ (const char *)x, n },
				   (struct span){ (const char *)y, n });

	explicit_bzero(x, sizeof(x));
	explicit_bzero(y, sizeof(y));
	return good;
}

bool password_same(struct span clear, struct span typed)
{
	return clear.n > 0 && password_is_possible(typed) && same(clear, typed);
}

static int hex_value(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

/* Returns the length or -1. */
static int decode_hex(struct span text, char *out, size_t cap)
{
	if (text.n % 2 != 0 || text.n / 2 > cap)
		return -1;
	for (size_t i = 0; i < text.n; i += 2) {
		int high = hex_value(text.p[i]), low = hex_value(text.p[i + 1]);

		if (high < 0 || low < 0)
			return -1;
		out[i / 2] = (char)(high << 4 | low);
	}
	return (int)(text.n / 2);
}

/* Base64 with or without padding, with + or (as PBKDF2's) a dot. Returns the length or -1. */
static int decode_base64(struct span text, char *out, size_t cap)
{
	char padded[PASSWORD_BYTES_MAX];
	size_t n = text.n;

	if (n > sizeof(padded) - 3)
		return -1;
	for (size_t i = 0; i < n; i++)
		padded[i] = text.p[i];
	for (char *dot = padded; (dot = memchr(dot, '.', (size_t)(padded + n - dot)));)
		*dot = '+';
	for (; n % 4 != 0; n++)
		padded[n] = '=';
	return base64_decode((struct span){ padded, n }, out, cap);
}

static enum password_verdict verdict_of(struct span made, struct span stored)
{
	return span_eq_secret(made, stored) ? PASSWORD_RIGHT : PASSWORD_WRONG;
}

static enum password_verdict check_digest(const struct scheme *s, struct span bytes,
					  struct span typed)
{
	unsigned char made[PASSWORD_DIGEST_MAX];
	size_t n = password_digest(s->digest, SPAN_NONE, SPAN_NONE, made); /* its length */
	struct span salt = s->form == FORM_SALTED ? span_from(bytes, n) : SPAN_NONE;

	if (n == 0 || bytes.n < n || (s->form == FORM_DIGEST && bytes.n != n) ||
	    password_digest(s->digest, typed, salt, made) != n)
		return PASSWORD_BROKEN;
	enum password_verdict verdict =
		verdict_of((struct span){ (const char *)made, n }, (struct span){ bytes.p, n });

	explicit_bzero(made, sizeof(made));
	return verdict;
}

static enum password_verdict check_pbkdf2(const struct scheme *s, struct span rounds,
					  struct span salt, struct span key, struct span typed)
{
	unsigned char made[PASSWORD_DIGEST_MAX];
	uint64_t count;

	for (size_t i = 0; i < rounds.n; i++)
		if (rounds.p[i] < '0' || rounds.p[i] > '9')
			return PASSWORD_BROKEN;
	/* a shorter key would be the beginning of the right one */
	if (rounds.n == 0 || salt.n == 0 ||
	    key.n != password_digest(s->digest, SPAN_NONE, SPAN_NONE, made))
		return PASSWORD_BROKEN;
	if (span_u64(rounds, PBKDF2_ROUNDS_MOST, &count) < 0)
		return PASSWORD_COSTLY;
	if (count == 0 || password_pbkdf2(s->digest, typed, salt, (uint32_t)count, made, key.n) < 0)
		return PASSWORD_BROKEN;
	enum password_verdict verdict = verdict_of((struct span){ (const char *)made, key.n }, key);

	explicit_bzero(made, sizeof(made));
	return verdict;
}

/* ROUNDS$SALT$KEY, both in base64. */
static enum password_verdict check_pbkdf2_text(const struct scheme *s, struct span text,
					       struct span typed)
{
	char salt[PASSWORD_BYTES_MAX], key[PASSWORD_BYTES_MAX];
	struct span rounds = span_word(&text, '$'), salt_text = span_word(&text, '$');
	int salt_length = decode_base64(salt_text, salt, sizeof(salt));
	int key_length = decode_base64(span_word(&text, '$'), key, sizeof(key));

	if (salt_length < 0 || key_length < 0)
		return PASSWORD_BROKEN;
	return check_pbkdf2(s, rounds, (struct span){ salt, (size_t)salt_length },
			    (struct span){ key, (size_t)key_length }, typed);
}

/* $1$SALT$ROUNDS$KEY, the salt as it is, the key in hex. */
static enum password_verdict check_dovecot_pbkdf2(const struct scheme *s, struct span text,
						  struct span typed)
{
	char key[PASSWORD_BYTES_MAX];
	struct span version = span_word(&text, '$'), salt = span_word(&text, '$'),
		    rounds = span_word(&text, '$');
	int length = decode_hex(span_word(&text, '$'), key, sizeof(key));

	if (!span_eq(version, SPAN("1")) || length < 0)
		return PASSWORD_BROKEN;
	return check_pbkdf2(s, rounds, salt, (struct span){ key, (size_t)length }, typed);
}

/* What begins with a $, or is the traditional form: argon2's strings are written like crypt(3)'s,
 * which does not know them. */
static enum password_verdict check_crypt(struct span text, struct span typed)
{
#ifdef HAVE_LIBARGON2
	if (span_istarts(text, SPAN("$argon2")))
		return password_argon2(text, typed);
#endif
	return password_crypt(text, typed);
}

static enum password_verdict check_text(const struct scheme *s, struct span text, struct span typed)
{
	switch (s->form) {
	case FORM_CLEAR:
		return text.n == 0	   ? PASSWORD_BROKEN
		       : same(text, typed) ? PASSWORD_RIGHT
					   : PASSWORD_WRONG;
	case FORM_PBKDF2:
		return check_pbkdf2_text(s, text, typed);
	case FORM_DOVECOT_PBKDF2:
		return check_dovecot_pbkdf2(s, text, typed);
#ifdef HAVE_LIBARGON2
	case FORM_ARGON2:
		return password_argon2(text, typed);
#endif
	default: {
		enum password_verdict verdict = check_crypt(text, typed);

		return verdict == PASSWORD_UNKNOWN ? PASSWORD_BROKEN : verdict;
	}
	}
}

static enum password_verdict check_value(const struct scheme *s, enum encoding encoding,
					 struct span value, struct span typed)
{
	char bytes[PASSWORD_BYTES_MAX];
	bool is_digest = s->form == FORM_DIGEST || s->form == FORM_SALTED;
	int n;

	if (is_digest && encoding == ENCODING_USUAL && value.n > 0 && value.p[0] == '$')
		return password_crypt(value, typed); /* {MD5} means MD5-CRYPT at some places */
	if (!is_digest && encoding == ENCODING_USUAL)
		return check_text(s, value, typed);
	unsigned char digest[PASSWORD_DIGEST_MAX];
	bool is_hex = encoding == ENCODING_HEX ||
		      (encoding == ENCODING_USUAL && s->form == FORM_DIGEST &&
		       value.n == 2 * password_digest(s->digest, SPAN_NONE, SPAN_NONE, digest));

	n = is_hex ? decode_hex(value, bytes, sizeof(bytes))
		   : decode_base64(value, bytes, sizeof(bytes));
	if (n < 0)
		return PASSWORD_BROKEN;
	const struct span decoded = { bytes, (size_t)n };
	enum password_verdict verdict =
		is_digest ? check_digest(s, decoded, typed) : check_text(s, decoded, typed);

	explicit_bzero(bytes, sizeof(bytes));
	return verdict;
}

/* The name between braces, in two parts, off the front. False: there is none. */
static bool cut_scheme(struct span *stored, struct span *ret_name, struct span *ret_encoding)
{
	const char *end = stored->n > 0 ? memchr(stored->p, '}', stored->n) : NULL;

	if (!end || stored->p[0] != '{')
		return false;
	struct span whole = { stored->p + 1, (size_t)(end - stored->p) - 1 };
	const char *dot = whole.n > 0 ? memchr(whole.p, '.', whole.n) : NULL;

	*ret_name = dot ? (struct span){ whole.p, (size_t)(dot - whole.p) } : whole;
	*ret_encoding = dot ? span_from(whole, (size_t)(dot - whole.p) + 1) : SPAN_NONE;
	*stored = span_from(*stored, whole.n + 2);
	return true;
}

/* False: there is no such encoding. */
static bool find_encoding(struct span name, enum encoding *ret)
{
	*ret = ENCODING_USUAL;
	for (size_t i = 0; i < sizeof(encodings) / sizeof(encodings[0]); i++)
		if (span_ieq(name, span_str(encodings[i].name)))
			*ret = encodings[i].encoding;
	return name.n == 0 || *ret != ENCODING_USUAL;
}

/* A scheme's name has letters, digits and - in it; what has anything else may be a clear password
 * that begins with a brace, and is not shown. */
static void name_scheme(struct span name, char scheme[PASSWORD_SCHEME_MAX])
{
	size_t n = 0;

	for (; n < name.n && n < PASSWORD_SCHEME_MAX - 1; n++) {
		char c = name.p[n];
		bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');

		if (!letter && (c < '0' || c > '9') && c != '-')
			break;
		scheme[n] = c;
	}
	scheme[n] = '\0';
	if (n == 0 || n < name.n)
		memcpy(scheme, "?", 2);
}

enum password_verdict password_check(struct span stored, struct span typed,
				     char scheme[PASSWORD_SCHEME_MAX])
{
	struct span name = SPAN("crypt"), encoding_name = SPAN_NONE;
	bool named = cut_scheme(&stored, &name, &encoding_name);
	enum encoding encoding;

	name_scheme(name, scheme);
	if ((stored.n == 0 && !named) || !password_is_possible(typed))
		return PASSWORD_WRONG;
	if (!named)
		return check_crypt(stored, typed);
	if (!find_encoding(encoding_name, &encoding))
		return PASSWORD_UNKNOWN;
	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
		if (span_ieq(name, span_str(schemes[i].name)))
			return stored.n == 0 ? PASSWORD_BROKEN
					     : check_value(&schemes[i], encoding, stored, typed);
	return PASSWORD_UNKNOWN;
}
