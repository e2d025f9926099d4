/* Conversations with clients that are challenged.
 *
 * The table is a ring: each new conversation takes the place of the oldest. The low bits of its
 * number are its place, the others are random.
 *
 * An account that is unknown must not show before the last step: SCRAM goes on with a salt that is
 * made of its name and of a secret of this start, as it does for an account with a clear password,
 * and the same arithmetic is done for all. What does show: after a restart the salts are others,
 * except for those of a stored form; and a stored form may have other iterations than ours.
 */
#include "lookupd/challenge.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/base64.h"
#include "lib/clock.h"
#include "lib/sasl.h"
#include "lookupd/cram.h"
#include "lookupd/scram.h"

#define FIRST_MAX  1024 /* of SCRAM's first message */
#define NONCE_MORE 24	/* characters of ours */
#define SALT_BYTES 16	/* of a salt of ours: as Dovecot and PostgreSQL have them */

static const struct mechanism {
	enum sasl_mechanism bit;
	enum digest digest;
	enum account_hmac hmac; /* CRAM */
	const char *name;	/* as authdaemond has it, or as stored forms have it */
} mechanisms[] = {
	{ SASL_CRAM_MD5, DIGEST_MD5, HMAC_MD5, "cram-md5" },
	{ SASL_CRAM_SHA1, DIGEST_SHA1, HMAC_SHA1, "cram-sha1" },
	{ SASL_CRAM_SHA256, DIGEST_SHA256, HMAC_SHA256, "cram-sha256" },
	{ SASL_SCRAM_SHA_1, DIGEST_SHA1, HMACS, "SCRAM-SHA-1" },
	{ SASL_SCRAM_SHA_256, DIGEST_SHA256, HMACS, "SCRAM-SHA-256" },
	{ SASL_APOP, DIGEST_MD5, HMACS, "APOP" },
};

struct conversation {
	uint64_t id; /* 0: none */
	int64_t since;
	const struct mechanism *mechanism;
	uint32_t service;
	bool known;	     /* SCRAM: the keys are an account's */
	size_t length;	     /* of the text: CRAM's challenge; SCRAM's first messages of both */
	size_t header;	     /* SCRAM: so much of it is GS2's header, */
	size_t nonce, nonce_length; /* and here are both nonces */
	struct scram_keys keys;
	struct why why; /* if it is not known */
	char user[ACCOUNT_USER_MAX + 1];
	char text[FIRST_MAX + 400];
};

struct challenges {
	unsigned next;
	struct conversation entries[CHALLENGES_MOST];
};

static unsigned char secret[32];

int challenge_make_secret(void)
{
	return digest_random(secret, sizeof(secret));
}

struct challenges *challenges_new(void)
{
	return calloc(1, sizeof(struct challenges));
}

void challenges_free(struct challenges *c)
{
	if (c)
		explicit_bzero(c, sizeof(*c));
	free(c);
}

static const struct mechanism *mechanism_of(uint32_t bit)
{
	for (size_t i = 0; i < sizeof(mechanisms) / sizeof(mechanisms[0]); i++)
		if ((uint32_t)mechanisms[i].bit == bit)
			return &mechanisms[i];
	return NULL;
}

static void forget(struct conversation *e)
{
	explicit_bzero(e, sizeof(*e));
}

/* The place of a new conversation, of a number that nobody can guess. NULL: no number. */
static struct conversation *begin(struct challenges *c, const struct mechanism *m,
				  uint32_t service, int64_t now_ms)
{
	const unsigned at = c->next;
	struct conversation *e = &c->entries[at];
	uint64_t number;

	if (digest_random(&number, sizeof(number)) < 0)
		return NULL;
	c->next = (at + 1) % CHALLENGES_MOST;
	forget(e);
	e->id = number - number % CHALLENGES_MOST + at;
	if (e->id == at)
		e->id += CHALLENGES_MOST; /* never 0 */
	e->since = now_ms;
	e->mechanism = m;
	e->service = service;
	return e;
}

static struct conversation *find(struct challenges *c, const struct msg_AUTH_STEP *step,
				 int64_t now_ms)
{
	struct conversation *e = &c->entries[step->conversation % CHALLENGES_MOST];

	if (e->id != step->conversation || (uint32_t)e->mechanism->bit != step->mechanism ||
	    e->service != step->service)
		return NULL;
	if (now_ms - e->since < CHALLENGE_MS)
		return e;
	forget(e);
	return NULL;
}

/* The account of this name. */
static enum found look_up(struct directories *d, const struct msg_AUTH_STEP *step, struct span user,
			  struct account *ret, unsigned *ret_line, struct why *why)
{
	const struct driver_question q = { .service = msg_service_name(step->service),
					   .user = user,
					   .client = "",
					   .tls = step->tls,
					   .attempt = step->attempt };

	return directories_ask(d, &q, ret, ret_line, why);
}

static bool is_trouble(enum found found)
{
	return found == FOUND_TROUBLE || found == FOUND_DOWN;
}

/* --- CRAM ------------------------------------------------------------------------------------ */
static int add_hex(struct buf *out, const unsigned char *bytes, size_t n)
{
	static const char digits[] = "0123456789abcdef";
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		(void)((r = buf_add_char(out, digits[bytes[i] >> 4])) ||
		       (r = buf_add_char(out, digits[bytes[i] & 15])));
	return r;
}

static enum msg_auth begin_cram(struct conversation *e, struct challenge_texts *texts,
				struct msg_AUTH_STEP *ret)
{
	unsigned char random[16];
	char host[65] = "";
	struct buf out = BUF_OVER(e->text);

	if (gethostname(host, sizeof(host) - 1) < 0 || !*host)
		(void)snprintf(host, sizeof(host), "localhost");
	if (digest_random(random, sizeof(random)) < 0 || buf_add_char(&out, '<') ||
	    add_hex(&out, random, sizeof(random)) || buf_add_char(&out, '.') ||
	    buf_add_u64(&out, (uint64_t)clock_wall()) || buf_add_char(&out, '@') ||
	    buf_add_str(&out, host) || buf_add_char(&out, '>')) {
		why_say(&texts->why, "no challenge can be made");
		return AUTH_UNAVAILABLE;
	}
	e->length = out.len;
	memcpy(texts->data, e->text, e->length);
	ret->data = (struct span){ texts->data, e->length };
	return AUTH_CONTINUES;
}

/* Dovecot's form of the same states. */
static struct span states_of(const struct account *a, const struct mechanism *m)
{
	const struct span hash = span_str(a->hash);

	if (m->hmac == HMAC_MD5 && !*a->hmac[HMAC_MD5] && span_istarts(hash, SPAN("{CRAM-MD5}")))
		return span_from(hash, 10);
	return span_str(a->hmac[m->hmac]);
}

/* APOP (RFC 1939 section 7): no HMAC, the password just stands behind the timestamp. */
static int make_plain_digest(struct span challenge, struct span password, unsigned char *ret)
{
	char data[FIRST_MAX + ACCOUNT_PASSWORD_MAX];
	struct buf text = BUF_OVER(data);
	int r = buf_add(&text, challenge) || buf_add(&text, password)
			? -EIO
			: digest_of(DIGEST_MD5, buf_span(&text), ret);

	explicit_bzero(data, sizeof(data));
	return r;
}

/* What the digest must be, of an account that has what is needed for that. 0; -ENOENT; -errno. An
 * empty password is none. */
static int make_digest(const struct account *a, const struct mechanism *m, struct span challenge,
		       unsigned char *ret)
{
	const struct span password = span_str(a->password), hex = states_of(a, m);
	unsigned char states[2 * DIGEST_MAX];

	if (m->bit == SASL_APOP)
		return password.n > 0 ? make_plain_digest(challenge, password, ret) : -ENOENT;
	if (password.n > 0)
		return digest_hmac(m->digest, password, challenge, ret);
	if (hex.n == 0 || cram_read_states(hex, digest_length(m->digest), states) < 0)
		return -ENOENT;
	digest_hmac_resume(m->digest, states, challenge, ret);
	explicit_bzero(states, sizeof(states));
	return 0;
}

static enum msg_auth verdict_of(enum found found)
{
	return found == FOUND ? AUTH_ACCEPTED : is_trouble(found) ? AUTH_UNAVAILABLE : AUTH_REFUSED;
}

/* A directory that judges the answer itself must find the name in it that it knows. */
static enum found let_judge_cram(struct directories *d, const struct conversation *e, unsigned line,
				 struct span user, const unsigned char *given, struct why *why)
{
	char data[ACCOUNT_USER_MAX + 1 + 2 * DIGEST_MAX];
	struct buf answer = BUF_OVER(data);

	if (buf_add(&answer, user) || buf_add_char(&answer, ' ') ||
	    add_hex(&answer, given, digest_length(e->mechanism->digest)))
		return FOUND_TROUBLE;
	return directories_cram(d, line, msg_service_name(e->service), e->mechanism->name,
				(struct span){ e->text, e->length }, buf_span(&answer), why);
}

/* The same arithmetic for an account that there is not. */
static enum msg_auth judge_cram(struct directories *d, const struct conversation *e,
				const struct msg_AUTH_STEP *step, struct span user,
				const unsigned char *given, struct why *why)
{
	static struct account a; /* wiped below */
	const struct mechanism *m = e->mechanism;
	const struct span challenge = { e->text, e->length };
	const size_t n = digest_length(m->digest);
	unsigned char wanted[DIGEST_MAX];
	unsigned line;
	enum found found = look_up(d, step, user, &a, &line, why);
	const bool known = found == FOUND;

	if (is_trouble(found)) {
		account_wipe(&a);
		return AUTH_UNAVAILABLE;
	}
	if (!known)
		(void)account_set_password(&a, SPAN("nobody's"));
	int r = make_digest(&a, m, challenge, wanted);

	if (known && r == -ENOENT && m->bit == SASL_APOP) {
		found = FOUND_NOT;
		why_say(why, "the directory has no clear password for APOP");
	} else if (known && r == -ENOENT) {
		found = let_judge_cram(d, e, line, user, given, why);
	} else if (known && r == 0) {
		found = span_eq_secret((struct span){ (const char *)wanted, n },
				       (struct span){ (const char *)given, n })
				? FOUND
				: FOUND_NOT;
		why_say(why, "the answer to the challenge is wrong");
	} else if (known) {
		found = FOUND_TROUBLE;
		why_say(why, "the digest cannot be made");
	}
	explicit_bzero(wanted, sizeof(wanted));
	account_wipe(&a);
	return verdict_of(known ? found : FOUND_NOT);
}

static enum msg_auth go_on_cram(struct directories *d, const struct conversation *e,
				const struct msg_AUTH_STEP *step, struct challenge_texts *texts,
				struct msg_AUTH_STEP *ret)
{
	unsigned char given[DIGEST_MAX];
	struct span user;
	struct buf name = { .data = texts->user, .cap = ACCOUNT_USER_MAX };

	if (cram_read(step->data, digest_length(e->mechanism->digest), &user, given) < 0 ||
	    directories_complete(d, user, &name) < 0) {
		why_say(&texts->why, "the answer to the challenge is none");
		return AUTH_REFUSED;
	}
	ret->user = buf_span(&name);
	return judge_cram(d, e, step, buf_span(&name), given, &texts->why);
}

/* All at once: the broker has made the timestamp, when the client was greeted, and has put it in
 * front of what the client said. */
static enum msg_auth judge_apop(struct directories *d, const struct mechanism *m,
				const struct msg_AUTH_STEP *step, struct challenge_texts *texts,
				struct msg_AUTH_STEP *ret)
{
	struct conversation e = { .mechanism = m, .service = step->service };
	struct msg_AUTH_STEP said = *step;
	const struct span timestamp = span_word(&said.data, ' ');

	if (timestamp.n == 0 || timestamp.n > FIRST_MAX) {
		why_say(&texts->why, "there is no timestamp");
		return AUTH_UNAVAILABLE;
	}
	said.data = span_from(said.data, 1);
	memcpy(e.text, timestamp.p, timestamp.n);
	e.length = timestamp.n;
	return go_on_cram(d, &e, &said, texts, ret);
}

/* --- SCRAM ----------------------------------------------------------------------------------- */
/* A salt for this name: always the same, and known to nobody beforehand. */
static int make_salt(struct conversation *e, struct span user)
{
	const struct span key = { (const char *)secret, sizeof(secret) };
	unsigned char digest[DIGEST_MAX];
	char data[ACCOUNT_USER_MAX + 40];
	struct buf text = BUF_OVER(data);

	if (buf_add_str(&text, e->mechanism->name) || buf_add_char(&text, ' ') ||
	    buf_add(&text, user) ||
	    digest_hmac(DIGEST_SHA256, key, buf_span(&text), digest) < 0)
		return -EIO;
	memcpy(e->keys.salt, digest, SALT_BYTES);
	e->keys.salt_length = SALT_BYTES;
	e->keys.iterations = SCRAM_ITERATIONS;
	return 0;
}

/* The keys of the account: those that are stored, or those of its clear password; if there is
 * neither, such as nobody has. Either way as much is computed. 0 or -EIO. */
static int make_keys(struct conversation *e, const struct account *a, bool found, struct span user)
{
	const struct mechanism *m = e->mechanism;
	struct span password = found ? span_str(a->password) : SPAN_NONE;
	struct scram_keys stored;
	int r = make_salt(e, user);
	bool has_stored = found && scram_read_keys(span_str(a->hash), span_str(m->name), m->digest,
						   &stored) == 0;

	e->known = has_stored || (password.n > 0 && scram_is_prepared(password));
	if (found && !e->known)
		why_say(&e->why, "%s",
			password.n > 0 ? "SCRAM cannot be done with a password of such letters"
				       : "the directory has neither a clear password nor a "
					 "stored form for this mechanism");
	if (r == 0)
		r = scram_make_keys(m->digest, password.n > 0 ? password : SPAN("nobody's"),
				    &e->keys);
	if (has_stored)
		e->keys = stored;
	explicit_bzero(&stored, sizeof(stored));
	return r;
}

/* Behind the client's first message, of which the header is not signed here, the server's. */
static int write_first(struct conversation *e, const struct scram_first *first,
		       struct span message, struct span *ret)
{
	unsigned char random[NONCE_MORE / 2];
	char salt[(SCRAM_SALT_MAX + 2) / 3 * 4];
	struct buf out = BUF_OVER(e->text);
	int n = base64_encode((struct span){ e->keys.salt, e->keys.salt_length }, salt,
			      sizeof(salt));

	if (n < 0 || digest_random(random, sizeof(random)) < 0 || buf_add(&out, message) ||
	    buf_add_char(&out, ','))
		return -EIO;
	const size_t begin_of = out.len;

	if (buf_add_str(&out, "r=") || buf_add(&out, first->nonce) ||
	    add_hex(&out, random, sizeof(random)))
		return -EIO;
	e->header = first->header.n;
	e->nonce = begin_of + 2;
	e->nonce_length = out.len - e->nonce;
	if (buf_add_str(&out, ",s=") || buf_add(&out, (struct span){ salt, (size_t)n }) ||
	    buf_add_str(&out, ",i=") || buf_add_u64(&out, e->keys.iterations))
		return -EIO;
	e->length = out.len;
	*ret = span_from(buf_span(&out), begin_of);
	return 0;
}

static const char *why_not(int error)
{
	return error == -EOPNOTSUPP ? "channel binding is asked for, and not offered"
	       : error == -EACCES   ? "the client wants to act for somebody else"
				    : "SCRAM's first message is none";
}

static enum msg_auth begin_scram(struct directories *d, struct conversation *e,
				 const struct msg_AUTH_STEP *step, struct challenge_texts *texts,
				 struct msg_AUTH_STEP *ret)
{
	static struct account a; /* wiped below */
	struct scram_first first;
	struct span message;
	char typed_data[ACCOUNT_USER_MAX];
	struct buf typed = BUF_OVER(typed_data);
	struct buf user = { .data = e->user, .cap = ACCOUNT_USER_MAX };
	unsigned line;
	int r = step->data.n > FIRST_MAX ? -EINVAL : scram_read_first(step->data, &typed, &first);

	/* the salt must not tell one way to write an account's name from another */
	if (r == 0 && directories_complete(d, buf_span(&typed), &user) < 0)
		r = -EINVAL;

	if (r < 0) {
		why_say(&texts->why, "%s", why_not(r));
		return AUTH_REFUSED;
	}
	enum found found = look_up(d, step, buf_span(&user), &a, &line, &e->why);

	if (is_trouble(found))
		texts->why = e->why;
	else
		r = make_keys(e, &a, found == FOUND, buf_span(&user));
	account_wipe(&a);
	if (r == 0 && !is_trouble(found))
		r = write_first(e, &first, step->data, &message);
	memcpy(texts->user, e->user, user.len);
	ret->user = (struct span){ texts->user, user.len };
	if (r < 0 || is_trouble(found))
		return AUTH_UNAVAILABLE;
	memcpy(texts->data, message.p, message.n);
	ret->data = (struct span){ texts->data, message.n };
	return AUTH_CONTINUES;
}

/* Does the client mean the same first message as we, and both nonces? */
static bool is_of(const struct conversation *e, const struct scram_final *last)
{
	char header[(FIRST_MAX + 2) / 3 * 4];
	int n = base64_encode((struct span){ e->text, e->header }, header, sizeof(header));

	return n >= 0 && span_eq((struct span){ header, (size_t)n }, last->binding) &&
	       span_eq((struct span){ e->text + e->nonce, e->nonce_length }, last->nonce);
}

static int prove(const struct conversation *e, const struct scram_final *last, unsigned char *ret)
{
	char data[sizeof(e->text) + FIRST_MAX];
	struct buf text = BUF_OVER(data);

	if (!is_of(e, last) ||
	    buf_add(&text, (struct span){ e->text + e->header, e->length - e->header }) ||
	    buf_add_char(&text, ',') || buf_add(&text, last->without_proof))
		return -EACCES;
	return scram_prove(e->mechanism->digest, &e->keys, buf_span(&text), last->proof, ret);
}

static enum msg_auth go_on_scram(const struct conversation *e, const struct msg_AUTH_STEP *step,
				 struct challenge_texts *texts, struct msg_AUTH_STEP *ret)
{
	const size_t length = digest_length(e->mechanism->digest);
	unsigned char signature[DIGEST_MAX];
	struct scram_final last;
	int r = scram_read_final(step->data, length, &last);

	(void)snprintf(texts->user, sizeof(texts->user), "%s", e->user);
	ret->user = span_str(texts->user);
	why_say(&texts->why, "SCRAM's last message is none");
	if (r < 0)
		return AUTH_REFUSED;
	why_say(&texts->why, "%s", *e->why.text ? e->why.text : "the proof is wrong");
	r = prove(e, &last, signature);
	if (r < 0 || !e->known)
		return r < 0 && r != -EACCES ? AUTH_UNAVAILABLE : AUTH_REFUSED;
	memcpy(texts->data, "v=", 2);
	int n = base64_encode((struct span){ (const char *)signature, length }, texts->data + 2,
			      sizeof(texts->data) - 2);

	ret->data = (struct span){ texts->data, 2 + (size_t)n };
	return AUTH_ACCEPTED;
}

/* --- both ------------------------------------------------------------------------------------ */
static enum msg_auth begin_one(struct challenges *c, struct directories *d, int64_t now_ms,
			       const struct msg_AUTH_STEP *step, struct challenge_texts *texts,
			       struct msg_AUTH_STEP *ret)
{
	const struct mechanism *m = mechanism_of(step->mechanism);

	if (m && m->bit == SASL_APOP)
		return judge_apop(d, m, step, texts, ret);
	struct conversation *e = m ? begin(c, m, step->service, now_ms) : NULL;

	if (!e) {
		why_say(&texts->why, "no conversation can be begun");
		return AUTH_UNAVAILABLE;
	}
	enum msg_auth status = m->bit & SASL_SCRAMS ? begin_scram(d, e, step, texts, ret)
						    : begin_cram(e, texts, ret);

	ret->conversation = e->id;
	if (status != AUTH_CONTINUES)
		forget(e);
	return status;
}

static enum msg_auth go_on(struct challenges *c, struct directories *d, int64_t now_ms,
			   const struct msg_AUTH_STEP *step, struct challenge_texts *texts,
			   struct msg_AUTH_STEP *ret)
{
	struct conversation *e = find(c, step, now_ms);

	if (!e) {
		why_say(&texts->why, "the conversation is forgotten: too old, or too many newer");
		return AUTH_UNAVAILABLE;
	}
	enum msg_auth status = e->mechanism->bit & SASL_SCRAMS
				       ? go_on_scram(e, step, texts, ret)
				       : go_on_cram(d, e, step, texts, ret);

	forget(e); /* right or wrong: an answer is for once */
	return status;
}

void challenges_answer(struct challenges *c, struct directories *d, int64_t now_ms,
		       const struct msg_AUTH_STEP *step, struct challenge_texts *texts,
		       struct msg_AUTH_STEP *ret)
{
	texts->why.text[0] = '\0';
	*ret = (struct msg_AUTH_STEP){ .conversation = step->conversation,
				       .service = step->service,
				       .mechanism = step->mechanism,
				       .user = SPAN_NONE,
				       .why = SPAN_NONE,
				       .client = SPAN_NONE,
				       .data = SPAN_NONE };
	ret->status = AUTH_UNAVAILABLE;
	if (!msg_service_name(step->service))
		why_say(&texts->why, "this service is not known");
	else if (step->conversation == 0)
		ret->status = begin_one(c, d, now_ms, step, texts, ret);
	else
		ret->status = go_on(c, d, now_ms, step, texts, ret);
	if (ret->status != AUTH_ACCEPTED)
		ret->why = span_str(texts->why.text);
	if (ret->status != AUTH_CONTINUES)
		ret->conversation = 0;
}
