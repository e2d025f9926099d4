/* SCRAM's messages. A message is read in the order that the grammar has (RFC 5802 section 7), with
 * nothing between; extensions that are not mandatory may stand where it allows them.
 *
 * Written here rather than taken from libgsasl: that makes the server's nonce itself, so that the
 * examples of the RFCs cannot be run through it, keeps what it derives from passwords in memory
 * that it does not overwrite, and brings Kerberos and IDN into every worker. With CRAM's digests
 * there, this is all that is missing.
 */
#include "lookupd/scram.h"

#include <errno.h>

#include "lib/base64.h"

/* Cuts off what stands in front of the next comma, which goes as well. */
static struct span cut(struct span *rest, char separator)
{
	const char *end = rest->n > 0 ? memchr(rest->p, separator, rest->n) : NULL;
	const struct span part = { rest->p, end ? (size_t)(end - rest->p) : rest->n };

	*rest = span_from(*rest, part.n + (end != NULL));
	return part;
}

/* Cuts off NAME=value. False: it is not the next one. */
static bool cut_value(struct span *rest, char name, struct span *ret)
{
	struct span look = *rest, part = cut(&look, ',');

	if (part.n < 2 || part.p[0] != name || part.p[1] != '=')
		return false;
	*ret = span_from(part, 2);
	*rest = look;
	return true;
}

/* printable: %x21-2B / %x2D-7E */
static bool is_nonce(struct span s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] <= ' ' || s.p[i] >= 0x7f || s.p[i] == ',')
			return false;
	return s.n > 0;
}

/* saslname: "=2C" is a comma, "=3D" an equals sign. */
static int unescape(struct span name, struct buf *out)
{
	for (size_t i = 0; i < name.n; i++) {
		char c = name.p[i];

		if ((unsigned char)c < ' ' || c == 0x7f)
			return -EINVAL;
		if (c == '=') {
			const struct span code = { name.p + i + 1, i + 3 <= name.n ? 2 : 0 };

			if (!span_eq(code, SPAN("2C")) && !span_eq(code, SPAN("3D")))
				return -EINVAL;
			c = code.p[0] == '2' ? ',' : '=';
			i += 2;
		}
		if (buf_add_char(out, c) < 0)
			return -ENOBUFS;
	}
	return name.n > 0 ? 0 : -EINVAL;
}

/* "n," or "y,", then perhaps a name, then ",". */
static int read_header(struct span *rest, struct span *ret_authzid)
{
	const struct span flag = cut(rest, ',');

	if (flag.n > 2 && flag.p[0] == 'p' && flag.p[1] == '=')
		return -EOPNOTSUPP;
	if (!span_eq(flag, SPAN("n")) && !span_eq(flag, SPAN("y")))
		return -EINVAL;
	*ret_authzid = SPAN_NONE;
	if (!cut_value(rest, 'a', ret_authzid) && cut(rest, ',').n > 0)
		return -EINVAL;
	return 0;
}

int scram_read_first(struct span message, struct buf *user, struct scram_first *ret)
{
	struct span rest = message, authzid, name, nonce;
	int r = read_header(&rest, &authzid);

	if (r < 0)
		return r;
	*ret = (struct scram_first){ .header = { message.p, message.n - rest.n }, .bare = rest };
	/* m= would be an extension that must be understood: there is none */
	if (!cut_value(&rest, 'n', &name) || !cut_value(&rest, 'r', &nonce) || !is_nonce(nonce) ||
	    nonce.n > SCRAM_NONCE_MAX)
		return -EINVAL;
	ret->nonce = nonce;
	r = unescape(name, user);
	/* of the two forms that a name can have in a message there is one */
	return r == 0 && authzid.n > 0 && !span_eq(authzid, name) ? -EACCES : r;
}

/* Exactly so many bytes in base64. */
static int read_exactly(struct span base64, size_t length, unsigned char *ret)
{
	char bytes[DIGEST_MAX + 3];
	int n = base64_decode(base64, bytes, sizeof(bytes));

	if (n < 0 || (size_t)n != length)
		return -EINVAL;
	memcpy(ret, bytes, length);
	explicit_bzero(bytes, sizeof(bytes));
	return 0;
}

int scram_read_final(struct span message, size_t length, struct scram_final *ret)
{
	struct span rest = message, proof = SPAN_NONE, extension;

	if (!cut_value(&rest, 'c', &ret->binding) || !cut_value(&rest, 'r', &ret->nonce))
		return -EINVAL;
	while (!cut_value(&rest, 'p', &proof)) {
		extension = cut(&rest, ',');
		if (extension.n < 2 || extension.p[1] != '=' || extension.p[0] == 'm')
			return -EINVAL;
	}
	if (rest.n > 0 || message.p[message.n - 1] == ',') /* the proof is the last */
		return -EINVAL;
	ret->without_proof = (struct span){ message.p, (size_t)(proof.p - message.p) - 3 };
	return read_exactly(proof, length, ret->proof);
}

static bool cut_prefix(struct span *text, struct span prefix)
{
	if (!span_istarts(*text, prefix))
		return false;
	*text = span_from(*text, prefix.n);
	return true;
}

static bool cut_char(struct span *text, char c)
{
	if (text->n == 0 || text->p[0] != c)
		return false;
	*text = span_from(*text, 1);
	return true;
}

int scram_read_keys(struct span hash, struct span name, enum digest d, struct scram_keys *ret)
{
	const bool braces = cut_char(&hash, '{');
	const size_t length = digest_length(d);
	uint64_t iterations;

	if (!cut_prefix(&hash, name) || !cut_char(&hash, braces ? '}' : '$'))
		return -ENOENT;
	if (span_u64(cut(&hash, braces ? ',' : ':'), SCRAM_ITERATIONS_MOST, &iterations) < 0 ||
	    iterations == 0)
		return -EINVAL;
	int n = base64_decode(cut(&hash, braces ? ',' : '$'), ret->salt, sizeof(ret->salt));

	if (n <= 0 || read_exactly(cut(&hash, braces ? ',' : ':'), length, ret->stored) < 0 ||
	    read_exactly(hash, length, ret->server) < 0)
		return -EINVAL;
	ret->iterations = (uint32_t)iterations;
	ret->salt_length = (size_t)n;
	return 0;
}

/* U+00C0 to U+017E but for the ligatures and such, which NFKC takes apart. */
static bool is_letter_in_one_piece(unsigned char first, unsigned char second)
{
	static const unsigned taken_apart[] = { 0x132, 0x133, 0x13f, 0x140, 0x149 };
	const unsigned c = (first & 0x1fu) << 6 | (second & 0x3fu);

	if ((second & 0xc0) != 0x80)
		return false;
	for (size_t i = 0; i < sizeof(taken_apart) / sizeof(taken_apart[0]); i++)
		if (c == taken_apart[i])
			return false;
	return c >= 0xc0 && c <= 0x17e;
}

bool scram_is_prepared(struct span password)
{
	for (size_t i = 0; i < password.n; i++) {
		const unsigned char c = (unsigned char)password.p[i];

		if (c >= ' ' && c < 0x7f)
			continue;
		if ((c & 0xe0) != 0xc0 || i + 1 == password.n ||
		    !is_letter_in_one_piece(c, (unsigned char)password.p[i + 1]))
			return false;
		i++;
	}
	return true;
}
