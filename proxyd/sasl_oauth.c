/* Messages of the token mechanisms.
 *
 * A message is taken apart, never passed on: what goes to the mail host is written anew, from the
 * account's name there and the token, so that no field of a client's own reaches it. ^A separates
 * fields and can be part of none.
 */
#include "proxyd/sasl_oauth.h"

#include <errno.h>

#define SEPARATOR '\001'

static bool has_controls(struct span s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] < ' ' || s.p[i] == 0x7f)
			return true;
	return false;
}

/* Cuts the next field off, with its separator. False: there is no separator any more. */
static bool cut_field(struct span *rest, struct span *ret)
{
	const char *end = rest->n > 0 ? memchr(rest->p, SEPARATOR, rest->n) : NULL;

	if (!end)
		return false;
	*ret = (struct span){ rest->p, (size_t)(end - rest->p) };
	*rest = span_from(*rest, ret->n + 1);
	return true;
}

/* "Bearer TOKEN" (RFC 6750 section 2.1; the scheme in any case, RFC 9110 section 11.1). */
static int read_bearer(struct span value, struct span *token)
{
	if (!span_istarts(value, SPAN("Bearer ")))
		return -EINVAL;
	value = span_from(value, 7);
	while (value.n > 0 && value.p[0] == ' ')
		value = span_from(value, 1);
	for (size_t i = 0; i < value.n; i++)
		if ((unsigned char)value.p[i] <= ' ' || (unsigned char)value.p[i] >= 0x7f)
			return -EINVAL;
	*token = value;
	return value.n > 0 ? 0 : -EINVAL;
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* KEY=VALUE of OAUTHBEARER. Keys are letters; what is not "auth" (host, port, what an extension may
 * add) says nothing to us. Values may hold line ends and tabs, but no other controls. */
static int read_pair(struct span field, struct span *token)
{
	const char *equals = memchr(field.p, '=', field.n);
	size_t n = equals ? (size_t)(equals - field.p) : 0;
	struct span key = { field.p, n }, value = span_from(field, n + 1);

	if (n == 0)
		return -EINVAL;
	for (size_t i = 0; i < n; i++)
		if (!is_letter(key.p[i]))
			return -EINVAL;
	if (span_eq(key, SPAN("auth")))
		return token->n > 0 ? -EINVAL : read_bearer(value, token);
	for (size_t i = 0; i < value.n; i++)
		if (!memchr("\t\r\n", value.p[i], 3) &&
		    ((unsigned char)value.p[i] < ' ' || (unsigned char)value.p[i] >= 0x7f))
			return -EINVAL;
	return 0;
}

/* The fields up to the empty one, which ends the message. */
static int read_pairs(struct span rest, struct span *token)
{
	struct span field, found = SPAN_NONE;

	while (cut_field(&rest, &field)) {
		if (field.n == 0) {
			if (rest.n > 0 || found.n == 0)
				return -EINVAL;
			*token = found;
			return 0;
		}
		int r = read_pair(field, &found);

		if (r < 0)
			return r;
	}
	return -EINVAL;
}

static int take_name(struct span name, struct buf *user)
{
	if (has_controls(name))
		return -EINVAL;
	return name.n == 0 ? -ENODATA : buf_add(user, name);
}

static int read_xoauth2(struct span rest, struct buf *user, struct span *token)
{
	struct span name, auth, last;
	int r;

	if (!cut_field(&rest, &name) || !cut_field(&rest, &auth) || !cut_field(&rest, &last) ||
	    last.n > 0 || rest.n > 0 || !span_istarts(name, SPAN("user=")) ||
	    !span_istarts(auth, SPAN("auth=")))
		return -EINVAL;
	(void)((r = read_bearer(span_from(auth, 5), token)) ||
	       (r = take_name(span_from(name, 5), user)));
	return r;
}

/* saslname (RFC 5801 section 4): "=2C" is a comma, "=3D" an equals sign, neither stands for itself.
 */
static int unescape(struct span name, struct buf *user)
{
	for (size_t i = 0; i < name.n; i++) {
		char c = name.p[i];

		if (c == '=') {
			struct span code = { name.p + i + 1, i + 3 <= name.n ? 2 : 0 };

			if (!span_ieq(code, SPAN("2C")) && !span_ieq(code, SPAN("3D")))
				return -EINVAL;
			c = code.p[0] == '2' ? ',' : '=';
			i += 2;
		}
		if (buf_add_char(user, c) < 0)
			return -ENOBUFS;
	}
	return 0;
}

/* The GS2 header in front: no channel binding is offered, so that "p" is wrong, and the name is the
 * authorization identity, the only one that there is. A client may leave it out, where the token
 * says who it is; the proxy cannot read tokens. */
static int read_oauthbearer(struct span rest, struct buf *user, struct span *token)
{
	struct span header;

	if (!cut_field(&rest, &header) || header.n < 3 ||
	    (header.p[0] != 'n' && header.p[0] != 'y') || header.p[1] != ',' ||
	    header.p[header.n - 1] != ',')
		return -EINVAL;
	struct span name = { header.p + 2, header.n - 3 };

	if (name.n > 0 && !span_istarts(name, SPAN("a=")))
		return -EINVAL;
	name = span_from(name, 2);
	if (memchr(name.p, ',', name.n) || has_controls(name))
		return -EINVAL;
	int r = read_pairs(rest, token);

	if (r < 0)
		return r;
	return name.n == 0 ? -ENODATA : unescape(name, user);
}

int sasl_oauth_read(enum msg_proof kind, struct span message, struct buf *user, struct span *token)
{
	*token = SPAN_NONE;
	return kind == PROOF_XOAUTH2 ? read_xoauth2(message, user, token)
				     : read_oauthbearer(message, user, token);
}

static int add_escaped(struct span name, struct buf *out)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < name.n; i++) {
		char c = name.p[i];

		r = c == ',' || c == '=' ? buf_add_str(out, c == ',' ? "=2C" : "=3D")
					 : buf_add_char(out, c);
	}
	return r;
}

int sasl_oauth_write(enum msg_proof kind, struct span user, struct span token, struct buf *out)
{
	bool old = kind == PROOF_XOAUTH2;
	int r;

	if (has_controls(user))
		return -EINVAL;
	(void)((r = buf_add_str(out, old ? "user=" : "n,a=")) ||
	       (r = old ? buf_add(out, user) : add_escaped(user, out)) ||
	       (r = buf_add_str(out, old ? "\001auth=Bearer " : ",\001auth=Bearer ")) ||
	       (r = buf_add(out, token)) || (r = buf_add_str(out, "\001\001")));
	return r;
}

struct span sasl_oauth_answer(enum msg_proof kind)
{
	return kind == PROOF_XOAUTH2 ? SPAN_NONE : SPAN("AQ==");
}
