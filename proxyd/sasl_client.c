/* The client's side of SASL.
 *
 * What the messages hold is kept in s->credentials and nowhere else; what was decoded on the way is
 * overwritten.
 */
#include "proxyd/sasl_client.h"

#include <errno.h>

#include "lib/base64.h"
#include "lib/large.h"
#include "lib/sasl.h"
#include "proxyd/command_reader.h"
#include "proxyd/sasl_challenge.h"
#include "proxyd/sasl_oauth.h"
#include "proxyd/tls.h"

void sasl_client_note_secret(struct credentials *to, size_t n)
{
	if (n > to->secret_touched)
		to->secret_touched = n;
}

/* Splits authzid NUL user NUL password (RFC 4616). */
static int read_plain(struct span message, struct credentials *to)
{
	const char *first = memchr(message.p, '\0', message.n);
	struct span rest = first ? span_from(message, (size_t)(first - message.p) + 1) : SPAN_NONE;
	const char *second = first ? memchr(rest.p, '\0', rest.n) : NULL;

	if (!second)
		return -EINVAL;
	struct span authzid = { message.p, (size_t)(first - message.p) };
	struct span user = { rest.p, (size_t)(second - rest.p) };
	struct span secret = span_from(rest, user.n + 1);

	if (user.n == 0 || memchr(secret.p, '\0', secret.n))
		return -EINVAL;
	if (authzid.n > sizeof(to->authzid) || user.n > sizeof(to->user) ||
	    secret.n > sizeof(to->secret))
		return -ENOBUFS;
	memcpy(to->authzid, authzid.p, authzid.n);
	memcpy(to->user, user.p, user.n);
	memcpy(to->secret, secret.p, secret.n);
	to->authzid_length = authzid.n;
	to->user_length = user.n;
	to->secret_length = secret.n;
	sasl_client_note_secret(to, secret.n);
	return 0;
}

/* One step of AUTH=LOGIN: a user name, then a password, each a message of its own. */
static int read_part(struct span message, char *to, size_t cap, size_t *length)
{
	if (memchr(message.p, '\0', message.n))
		return -EINVAL;
	if (message.n > cap)
		return -ENOBUFS;
	memcpy(to, message.p, message.n);
	*length = message.n;
	return 0;
}

static int take_user(struct span message, struct credentials *to)
{
	int r = read_part(message, to->user, sizeof(to->user), &to->user_length);

	return r == 0 && to->user_length == 0 ? -EINVAL : r;
}

static int take_password(struct span message, struct credentials *to)
{
	sasl_client_note_secret(to, message.n < sizeof(to->secret) ? message.n
								     : sizeof(to->secret));
	return read_part(message, to->secret, sizeof(to->secret), &to->secret_length);
}

/* A token of to->kind and whose it is. */
static int take_token(struct span message, struct credentials *to)
{
	struct buf user = BUF_OVER(to->user);
	struct span token;
	int r = sasl_oauth_read(to->kind, message, &user, &token);

	if (r == 0 && token.n > sizeof(to->secret))
		r = -ENOBUFS;
	if (r < 0)
		return r;
	memcpy(to->secret, token.p, token.n);
	to->user_length = user.len;
	to->secret_length = token.n;
	sasl_client_note_secret(to, token.n);
	return 0;
}

/* SCRAM's first message, for sasl_challenge.c. */
static int take_first(struct span message, struct credentials *to)
{
	sasl_client_note_secret(to, message.n < sizeof(to->secret) ? message.n
								     : sizeof(to->secret));
	return read_part(message, to->secret, SASL_CHALLENGE_MOST, &to->secret_length);
}

_Static_assert(SASL_CHALLENGE_MOST <= sizeof(((struct credentials *)0)->secret), "it must fit in");

/* EXTERNAL (RFC 4422 appendix A): who it is stands in the certificate, the message may say it
 * again. The broker knows both, and judges. */
static int take_authzid(struct span message, struct credentials *to)
{
	const struct span identity = tls_identity();

	memcpy(to->user, identity.p, identity.n);
	to->user_length = identity.n;
	to->secret_length = 0;
	return read_part(message, to->authzid, sizeof(to->authzid), &to->authzid_length);
}

/* A mechanism: which row of lib/sasl.h, and its messages in turn, each after a prompt. */
static const struct sasl_client {
	enum sasl_mechanism bit;
	struct {
		struct span prompt;
		sasl_client_take_fn *take;
	} messages[2]; /* those that must come before anybody is asked */
	size_t count;
} mechanisms[] = {
	{ SASL_PLAIN, { { { "+ \r\n", 4 }, read_plain } }, 1 },
	{ SASL_XOAUTH2, { { { "+ \r\n", 4 }, take_token } }, 1 },
	{ SASL_OAUTHBEARER, { { { "+ \r\n", 4 }, take_token } }, 1 },
	{ SASL_EXTERNAL, { { { "+ \r\n", 4 }, take_authzid } }, 1 },
	{ SASL_LOGIN,
	  { { { "+ VXNlcm5hbWU6\r\n", 16 }, take_user },
	    { { "+ UGFzc3dvcmQ6\r\n", 16 }, take_password } },
	  2 },
	{ SASL_SCRAM_SHA_256, { { { "+ \r\n", 4 }, take_first } }, 1 },
	{ SASL_SCRAM_SHA_1, { { { "+ \r\n", 4 }, take_first } }, 1 },
	{ SASL_CRAM_SHA256, { { { NULL, 0 }, NULL } }, 0 },
	{ SASL_CRAM_SHA1, { { { NULL, 0 }, NULL } }, 0 },
	{ SASL_CRAM_MD5, { { { NULL, 0 }, NULL } }, 0 },
};

/* Decodes base64 and takes the message. "*" is the client's way to cancel (RFC 9051 section 6.2.2).
 */
static int take_message(struct span base64, sasl_client_take_fn *take, struct credentials *to)
{
	static LARGE char decoded[SESSION_SECRET_MAX + 2 * SESSION_USER_MAX + 2];

	if (span_eq(base64, SPAN("*")))
		return -ECANCELED;
	int length = base64_decode(base64, decoded, sizeof(decoded));
	int r = length < 0 ? length : take((struct span){ decoded, (size_t)length }, to);

	/* what is decoded is never longer than what it came from */
	explicit_bzero(decoded, base64.n < sizeof(decoded) ? base64.n : sizeof(decoded));
	return r;
}

enum session_end sasl_client_ask(struct session *s, struct span prompt, sasl_client_take_fn *take,
				 int64_t deadline, int *ret)
{
	enum session_end end = session_tell(s, prompt);
	struct span line;

	if (end != END_NONE)
		return end;
	enum command_read r = command_read_line(s, deadline, &line, &end);

	if (r == COMMAND_END)
		return end;
	*ret = r == COMMAND_WHOLE ? take_message(line, take, &s->credentials) : -EINVAL;
	return command_skip(s, r, deadline);
}

const struct sasl_client *sasl_client_find(struct session *s, struct span name)
{
	struct sasl_row row;
	size_t i = 0;

	while (sasl_row_at(i, &row) && !span_ieq(name, row.name))
		i++;
	if (!sasl_row_at(i, &row) || !(tls_mechanisms(s) & row.bit))
		return NULL;
	s->credentials.kind = row.proof;
	s->credentials.mechanism = row.name;
	for (i = 0; i < sizeof(mechanisms) / sizeof(mechanisms[0]); i++)
		if (mechanisms[i].bit == row.bit)
			return &mechanisms[i];
	return NULL;
}

int sasl_client_begin(struct session *s, const struct sasl_client *m, struct span initial,
		      bool has_initial)
{
	struct credentials *to = &s->credentials;

	to->authzid_length = 0;
	to->sasl = true;
	if (!has_initial)
		return 0;
	if (m->count == 0)
		return -EINVAL; /* the server speaks first */
	return take_message(span_eq(initial, SPAN("=")) ? SPAN_NONE : initial, m->messages[0].take,
			    to);
}

enum session_end sasl_client_go_on(struct session *s, const struct sasl_client *m,
				   bool has_initial, int64_t deadline, int *ret)
{
	enum session_end end = END_NONE;

	*ret = 0;
	for (size_t i = has_initial ? 1 : 0; end == END_NONE && *ret == 0 && i < m->count; i++)
		end = sasl_client_ask(s, m->messages[i].prompt, m->messages[i].take, deadline, ret);
	if (end == END_NONE && *ret == 0 && (m->bit & SASL_CHALLENGES))
		end = sasl_challenge_run(s, m->bit, deadline, ret);
	return end;
}
