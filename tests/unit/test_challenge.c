/* CRAM, SCRAM and APOP: the examples of the RFCs, what Courier and Dovecot store, and what is
 * refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base64.h"
#include "lib/sasl.h"
#include "lookupd/accountsdb.h"
#include "lookupd/challenge.h"
#include "lookupd/cram.h"
#include "lookupd/scram.h"

/* userdbpw -hmac-md5 and so on, of RFC 2195's password; doveadm pw -s CRAM-MD5 gives the first. */
#define PASSWORD "tanstaaftanstaaf"
static const char *const states[DIGESTS] = {
	[DIGEST_MD5] = "d06d4e1b26fccaa4b0b61801132340a354b21152711fb604ca3e035e7015116b",
	[DIGEST_SHA1] =
		"72724befb173b1ee5f79c09801b9b15e11d805fe02b49c1d1d00921723b52bcb862c04fa52876446",
	[DIGEST_SHA256] = "0dc4407ecdb637a66615a85f4d5632c459c57a86c2038fdd81a8804bc34a9369"
			  "5325d19c44d48eabed0476bc8078e0987eeaf4fff2267de3e00f539ba83f6225",
};

static struct config config;
static struct directories *directories;
static struct challenges *table;
static struct challenge_texts texts;
static char userdb_path[] = "/tmp/keepwarm-challenge-XXXXXX";
static char lmdb_path[sizeof(userdb_path) + 5];

/* --- texts ----------------------------------------------------------------------------------- */
static void the_example_of_rfc_2195(void **unused)
{
	const struct span challenge = SPAN("<1896.697170952@postoffice.reston.mci.net>");
	unsigned char given[DIGEST_MAX], wanted[DIGEST_MAX];
	struct span user;

	(void)unused;
	assert_int_equal(cram_read(SPAN("tim b913a602c7eda7a495b4e6e7334d3890"), 16, &user, given),
			 0);
	assert_true(span_eq(user, SPAN("tim")));
	assert_int_equal(digest_hmac(DIGEST_MD5, SPAN(PASSWORD), challenge, wanted), 0);
	assert_memory_equal(given, wanted, 16);
}

static void stored_states_are_as_good_as_the_password(void **unused)
{
	static const struct span challenges[] = {
		{ "", 0 }, { "<1@a>", 5 },
		{ "<1896.697170952@postoffice.reston.mci.net.and.longer.than.one.block.is>", 71 }
	};
	unsigned char both[2 * DIGEST_MAX], wanted[DIGEST_MAX], made[DIGEST_MAX];

	(void)unused;
	for (enum digest d = 0; d < DIGESTS; d++) {
		assert_int_equal(cram_read_states(span_str(states[d]), digest_length(d), both), 0);
		for (size_t i = 0; i < 3; i++) {
			assert_int_equal(digest_hmac(d, SPAN(PASSWORD), challenges[i], wanted), 0);
			digest_hmac_resume(d, both, challenges[i], made);
			assert_memory_equal(made, wanted, digest_length(d));
		}
	}
	assert_int_equal(cram_read_states(SPAN("d06d"), 16, both), -EINVAL);
	assert_int_equal(cram_read_states(SPAN_NONE, 16, both), -EINVAL);
}

static void answers_to_cram_that_are_none(void **unused)
{
	static const char *const wrong[] = {
		"", " ", "tim", "b913a602c7eda7a495b4e6e7334d3890",
		" b913a602c7eda7a495b4e6e7334d3890", "tim B913A602C7EDA7A495B4E6E7334D3890",
		"tim b913a602c7eda7a495b4e6e7334d389", "tim b913a602c7eda7a495b4e6e7334d38900",
		"tim b913a602c7eda7a495b4e6e7334d389g", "tim b913a602c7eda7a495b4e6e7334d3890 ",
		"t\nm b913a602c7eda7a495b4e6e7334d3890", "t\x7f b913a602c7eda7a495b4e6e7334d3890",
	};
	unsigned char given[DIGEST_MAX];
	struct span user;

	(void)unused;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(cram_read(span_str(wrong[i]), 16, &user, given), -EINVAL);
	assert_int_equal(cram_read(SPAN("tim\0x b913a602c7eda7a495b4e6e7334d3890"), 16, &user,
				   given),
			 -EINVAL);
	assert_int_equal(
		cram_read(SPAN("a name b913a602c7eda7a495b4e6e7334d3890"), 16, &user, given), 0);
	assert_true(span_eq(user, SPAN("a name")));
}

/* Runs an example: what the client says, and what the server must make of it. */
static void run_example(enum digest d, struct span first, struct span server, const char *salt,
			struct span final, const char *signature)
{
	char name[64], message[600], encoded[64];
	struct buf user = BUF_OVER(name), text = BUF_OVER(message);
	struct scram_keys keys = { .iterations = 4096 };
	struct scram_first read;
	struct scram_final last;
	unsigned char made[DIGEST_MAX];

	keys.salt_length = (size_t)base64_decode(span_str(salt), keys.salt, sizeof(keys.salt));
	assert_int_equal(scram_read_first(first, &user, &read), 0);
	assert_true(span_eq(buf_span(&user), SPAN("user")));
	assert_true(span_eq(read.header, SPAN("n,,")));
	assert_int_equal(scram_read_final(final, digest_length(d), &last), 0);
	assert_true(span_eq(last.binding, SPAN("biws")));
	(void)buf_add(&text, read.bare);
	(void)buf_add_char(&text, ',');
	(void)buf_add(&text, server);
	(void)buf_add_char(&text, ',');
	(void)buf_add(&text, last.without_proof);
	assert_int_equal(scram_make_keys(d, SPAN("pencil"), &keys), 0);
	assert_int_equal(scram_prove(d, &keys, buf_span(&text), last.proof, made), 0);
	int n = base64_encode((struct span){ (const char *)made, digest_length(d) }, encoded,
			      sizeof(encoded));

	assert_true(span_eq((struct span){ encoded, (size_t)n }, span_str(signature)));
	last.proof[3] ^= 1;
	assert_int_equal(scram_prove(d, &keys, buf_span(&text), last.proof, made), -EACCES);
}

static void the_example_of_rfc_5802(void **unused)
{
	(void)unused;
	run_example(DIGEST_SHA1, SPAN("n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL"),
		    SPAN("r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096"),
		    "QSXCR+Q6sek8bf92",
		    SPAN("c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,"
			 "p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="),
		    "rmF9pqV8S7suAoZWja4dJRkFsKQ=");
}

static void the_example_of_rfc_7677(void **unused)
{
	(void)unused;
	run_example(DIGEST_SHA256, SPAN("n,,n=user,r=rOprNGfwEbeRWgbNEkqO"),
		    SPAN("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
			 "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"),
		    "W22ZaJ0SNY7soEsUEjb6gQ==",
		    SPAN("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
			 "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="),
		    "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

static int read_first(const char *message)
{
	char name[16];
	struct buf user = BUF_OVER(name);
	struct scram_first first;

	return scram_read_first(span_str(message), &user, &first);
}

static void first_messages_that_are_refused(void **unused)
{
	static const char *const wrong[] = {
		"", "n", "n,", "n,,", "n,,n=", "n,,n=a", "n,,n=a,r=", "n,,n=,r=x", "x,,n=a,r=x",
		"n,,r=x,n=a", "n,,m=x,n=a,r=x", "n,,n=a=,r=x", "n,,n=a=2c,r=x", "n,,n=a=2,r=x",
		"n,,n=a,r=\x01", "n,,n=a,r=\xff", "n,b,n=a,r=x", "n,a=a,n,r=x", "n,,n=a\nb,r=x",
		"p,,n=a,r=x", "N,,n=a,r=x", "nn,,n=a,r=x",
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(read_first(wrong[i]), -EINVAL);
	assert_int_equal(read_first("p=tls-unique,,n=a,r=x"), -EOPNOTSUPP);
	assert_int_equal(read_first("n,a=b,n=a,r=x"), -EACCES);
	assert_int_equal(read_first("n,,n=12345678901234567,r=x"), -ENOBUFS);
	assert_int_equal(read_first("n,a=a,n=a,r=x"), 0);
	assert_int_equal(read_first("y,,n=a=2Cb=3Dc,r=x,e=x"), 0);
}

static void last_messages_that_are_refused(void **unused)
{
	static const char *const wrong[] = {
		"", "c=biws", "c=biws,r=x", "r=x,c=biws,p=AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
		"c=biws,r=x,p=", "c=biws,r=x,p=AAAA", "c=biws,r=x,p=AAAAAAAAAAAAAAAAAAAAAAAAAAA=,",
		"c=biws,r=x,p=AAAAAAAAAAAAAAAAAAAAAAAAAAA=,x=y", "c=biws,r=x,,p=AAAA",
		"c=biws,r=x,m=y,p=AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
		"c=biws,r=x,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAA",
	};
	struct scram_final last;

	(void)unused;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(scram_read_final(span_str(wrong[i]), 20, &last), -EINVAL);
	assert_int_equal(
		scram_read_final(SPAN("c=biws,r=x,e=y,p=AAAAAAAAAAAAAAAAAAAAAAAAAAA="), 20, &last),
		0);
	assert_true(span_eq(last.without_proof, SPAN("c=biws,r=x,e=y")));
}

static void forms_of_dovecot_and_postgresql(void **unused)
{
	static const char *const wrong[] = {
		"{SCRAM-SHA-256}", "{SCRAM-SHA-256}0,zx/sb9lSEerZjJbTAaP7SA==,x,y",
		"{SCRAM-SHA-256}9999999,zx/sb9lSEerZjJbTAaP7SA==,x,y",
		"{SCRAM-SHA-256}4096,,5K1+2hYd2enI0GaKEQW1TiFF03YKOvasN/ZsH6nXcsM=,"
		"x343U+vpikxsXP2Z+Bob8R3lyQVgP+AjHGtOuYtSzmc=",
		"SCRAM-SHA-256$4096:zx/sb9lSEerZjJbTAaP7SA==$5K1+2hYd2enI0GaKEQW1TiFF03YKOvasN/"
		"ZsH6nXcsM=",
	};
	/* doveadm pw -s SCRAM-SHA-256 -p pencil */
	const struct span dovecot = SPAN("{scram-sha-256}4096,zx/sb9lSEerZjJbTAaP7SA==,"
					 "5K1+2hYd2enI0GaKEQW1TiFF03YKOvasN/ZsH6nXcsM=,"
					 "x343U+vpikxsXP2Z+Bob8R3lyQVgP+AjHGtOuYtSzmc=");
	const struct span postgresql = SPAN("SCRAM-SHA-256$4096:zx/sb9lSEerZjJbTAaP7SA==$"
					    "5K1+2hYd2enI0GaKEQW1TiFF03YKOvasN/ZsH6nXcsM=:"
					    "x343U+vpikxsXP2Z+Bob8R3lyQVgP+AjHGtOuYtSzmc=");
	const struct span name = SPAN("SCRAM-SHA-256");
	struct scram_keys a = { .iterations = 0 }, b = a, made = a;

	(void)unused;
	assert_int_equal(scram_read_keys(dovecot, name, DIGEST_SHA256, &a), 0);
	assert_int_equal(scram_read_keys(postgresql, name, DIGEST_SHA256, &b), 0);
	assert_memory_equal(&a, &b, sizeof(a));
	made = a;
	memset(made.stored, 0, sizeof(made.stored));
	memset(made.server, 0, sizeof(made.server));
	assert_int_equal(scram_make_keys(DIGEST_SHA256, SPAN("pencil"), &made), 0);
	assert_memory_equal(&a, &made, sizeof(a));
	assert_int_equal(scram_read_keys(dovecot, SPAN("SCRAM-SHA-1"), DIGEST_SHA1, &a), -ENOENT);
	assert_int_equal(scram_read_keys(SPAN("$1$x$y"), name, DIGEST_SHA256, &a), -ENOENT);
	assert_int_equal(scram_read_keys(SPAN_NONE, name, DIGEST_SHA256, &a), -ENOENT);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(scram_read_keys(span_str(wrong[i]), name, DIGEST_SHA256, &a),
				 -EINVAL);
}

static void passwords_that_need_no_preparation(void **unused)
{
	(void)unused;
	assert_true(scram_is_prepared(SPAN("pencil ~!")));
	assert_true(scram_is_prepared(SPAN("p\xc3\xa4ssw\xc3\xb6rt\xc5\xbe")));
	assert_false(scram_is_prepared(SPAN("a\xc2\xaa")));	/* feminine ordinal: a */
	assert_false(scram_is_prepared(SPAN("\xc4\xb3")));	/* a ligature */
	assert_false(scram_is_prepared(SPAN("a\xcc\x88")));	/* in two pieces */
	assert_false(scram_is_prepared(SPAN("\xc3")));
	assert_false(scram_is_prepared(SPAN("\xe2\x82\xac")));
	assert_false(scram_is_prepared(SPAN("a\tb")));
}

/* --- conversations --------------------------------------------------------------------------- */
static struct msg_AUTH_STEP step(uint64_t conversation, uint32_t mechanism, struct span data,
				 int64_t now_ms)
{
	const struct msg_AUTH_STEP m = { .conversation = conversation,
					 .service = SERVICE_IMAP,
					 .mechanism = mechanism,
					 .data = data };
	struct msg_AUTH_STEP ret;

	challenges_answer(table, directories, now_ms, &m, &texts, &ret);
	return ret;
}

/* RFC 2195's user answers this challenge. */
static struct span answer_to(enum digest d, const char *user, struct span challenge, char *room)
{
	unsigned char digest[DIGEST_MAX];
	int n = snprintf(room, 200, "%s ", user);

	assert_int_equal(digest_hmac(d, SPAN(PASSWORD), challenge, digest), 0);
	for (size_t i = 0; i < digest_length(d); i++)
		n += snprintf(room + n, 200 - (size_t)n, "%02x", digest[i]);
	return (struct span){ room, (size_t)n };
}

/* Of userdb, which has only states. */
static void cram_by_what_userdb_has(void **unused)
{
	static const uint32_t mechanisms[DIGESTS] = { SASL_CRAM_MD5, SASL_CRAM_SHA1,
						      SASL_CRAM_SHA256 };
	static const char *const users[] = { "tim", "own" };
	char room[200], other[200];

	(void)unused;
	for (size_t u = 0; u < 2; u++)
		for (enum digest d = 0; d < DIGESTS; d++) {
			struct msg_AUTH_STEP begun = step(0, mechanisms[d], SPAN_NONE, 0);

			assert_int_equal(begun.status, AUTH_CONTINUES);
			assert_true(begun.conversation != 0 && begun.data.p[0] == '<');
			struct span answer = answer_to(d, users[u], begun.data, room);
			struct msg_AUTH_STEP end =
				step(begun.conversation, mechanisms[d], answer, 1);

			assert_int_equal(end.status, AUTH_ACCEPTED);
			assert_true(span_eq(end.user, span_str(users[u])));
			assert_int_equal(end.conversation, 0);
			/* once more */
			end = step(begun.conversation, mechanisms[d], answer, 1);
			assert_int_equal(end.status, AUTH_UNAVAILABLE);
			/* to the next challenge */
			begun = step(0, mechanisms[d], SPAN_NONE, 0);
			end = step(begun.conversation, mechanisms[d], answer, 1);
			assert_int_equal(end.status, AUTH_REFUSED);
			/* by somebody else */
			begun = step(0, mechanisms[d], SPAN_NONE, 0);
			end = step(begun.conversation, mechanisms[d],
				   answer_to(d, "nobody", begun.data, other), 1);
			assert_int_equal(end.status, AUTH_REFUSED);
		}
}

static void no_password_is_not_the_empty_password(void **unused)
{
	unsigned char digest[DIGEST_MAX];
	char room[200] = "bare ";
	struct msg_AUTH_STEP begun = step(0, SASL_CRAM_MD5, SPAN_NONE, 0);

	(void)unused;
	assert_int_equal(digest_hmac(DIGEST_MD5, SPAN_NONE, begun.data, digest), 0);
	for (size_t i = 0; i < 16; i++)
		(void)snprintf(room + 5 + 2 * i, 3, "%02x", digest[i]);
	begun = step(begun.conversation, SASL_CRAM_MD5, span_str(room), 0);
	assert_int_equal(begun.status, AUTH_REFUSED);
	assert_true(span_ihas(begun.why, SPAN("neither a clear password")));
}

/* What a broker sends that has greeted with this timestamp. */
static struct msg_AUTH_STEP apop(const char *text)
{
	return step(0, SASL_APOP, span_str(text), 0);
}

static void the_example_of_rfc_1939(void **unused)
{
	struct msg_AUTH_STEP end = apop("<1896.697170952@dbc.mtview.ca.us> "
					"mrose c4c9334bac560ecc979e58001b3e22fb");

	(void)unused;
	if (getenv("KEEPWARM_LEAK_CHECK"))
		skip(); /* it needs the table */
	assert_int_equal(end.status, AUTH_ACCEPTED);
	assert_int_equal(end.conversation, 0);
	assert_true(span_eq(end.user, SPAN("mrose")));
}

static void apop_is_refused(void **unused)
{
	static const char *const wrong[] = {
		"<1896.697170953@dbc.mtview.ca.us> mrose c4c9334bac560ecc979e58001b3e22fb",
		"<1896.697170952@dbc.mtview.ca.us> mrose C4C9334BAC560ECC979E58001B3E22FB",
		"<1896.697170952@dbc.mtview.ca.us> rose c4c9334bac560ecc979e58001b3e22fb",
		"<1896.697170952@dbc.mtview.ca.us> tim c4c9334bac560ecc979e58001b3e22fb",
		/* the MD5 of the timestamp alone: no password is not the empty one */
		"<1896.697170952@dbc.mtview.ca.us> bare 6d7379174f7df9fb329480e5c47c1f1a",
		"<1896.697170952@dbc.mtview.ca.us> mrose",
		"<1896.697170952@dbc.mtview.ca.us>  c4c9334bac560ecc979e58001b3e22fb",
		"<1896.697170952@dbc.mtview.ca.us>",
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(apop(wrong[i]).status, AUTH_REFUSED);
	assert_true(span_ihas(apop(wrong[3]).why, SPAN("no clear password")));
	assert_true(span_ihas(apop(wrong[4]).why, SPAN("no clear password")));
	assert_int_equal(apop("").status, AUTH_UNAVAILABLE);
}

static void a_conversation_is_forgotten_in_time(void **unused)
{
	char room[200];
	struct msg_AUTH_STEP begun = step(0, SASL_CRAM_MD5, SPAN_NONE, 1000);
	struct span answer = answer_to(DIGEST_MD5, "tim", begun.data, room);
	uint64_t number = begun.conversation;

	(void)unused;
	/* not by another mechanism, whose digest is as long or not */
	assert_int_equal(step(number, SASL_SCRAM_SHA_1, answer, 1000).status, AUTH_UNAVAILABLE);
	assert_int_equal(step(number ^ 1024, SASL_CRAM_MD5, answer, 1000).status,
			 AUTH_UNAVAILABLE);
	assert_int_equal(step(number, SASL_CRAM_MD5, answer, 1000 + CHALLENGE_MS).status,
			 AUTH_UNAVAILABLE);
	begun = step(0, SASL_CRAM_MD5, SPAN_NONE, 1000);
	answer = answer_to(DIGEST_MD5, "tim", begun.data, room);
	number = begun.conversation;
	assert_int_equal(step(number, SASL_CRAM_MD5, answer, 999 + CHALLENGE_MS).status,
			 AUTH_ACCEPTED);
}

static void the_oldest_makes_room(void **unused)
{
	char room[200], other[200];
	struct msg_AUTH_STEP first = step(0, SASL_CRAM_MD5, SPAN_NONE, 0);
	struct span answer = answer_to(DIGEST_MD5, "tim", first.data, room);
	struct msg_AUTH_STEP second = step(0, SASL_CRAM_MD5, SPAN_NONE, 0);
	struct span its = answer_to(DIGEST_MD5, "tim", second.data, other);

	(void)unused;
	for (int i = 0; i < CHALLENGES_MOST - 1; i++)
		assert_int_equal(step(0, SASL_CRAM_MD5, SPAN_NONE, 0).status, AUTH_CONTINUES);
	assert_int_equal(step(first.conversation, SASL_CRAM_MD5, answer, 0).status,
			 AUTH_UNAVAILABLE);
	assert_int_equal(step(second.conversation, SASL_CRAM_MD5, its, 0).status, AUTH_ACCEPTED);
}

/* Begins SCRAM; the server's message behind its nonce, which is another one each time. */
static struct span salt_of(uint32_t mechanism, const char *user, char *room)
{
	char message[600];
	int n = snprintf(message, sizeof(message), "n,,n=%s,r=abc", user);
	struct msg_AUTH_STEP begun = step(0, mechanism, (struct span){ message, (size_t)n }, 0);
	struct span rest = begun.data;

	assert_int_equal(begun.status, AUTH_CONTINUES);
	assert_true(begun.data.n > 30 && memcmp(begun.data.p, "r=abc", 5) == 0);
	(void)span_word(&rest, ',');
	n = snprintf(room, 200, "%.*s", (int)rest.n, rest.p);
	return (struct span){ room, (size_t)n };
}

static void who_is_unknown_has_a_salt_that_stays(void **unused)
{
	char one[200], two[200];
	struct span salt = salt_of(SASL_SCRAM_SHA_256, "nobody", one);

	(void)unused;
	assert_true(span_eq(salt, salt_of(SASL_SCRAM_SHA_256, "nobody", two)));
	assert_false(span_eq(salt, salt_of(SASL_SCRAM_SHA_256, "somebody", two)));
	assert_false(span_eq(salt, salt_of(SASL_SCRAM_SHA_1, "nobody", two)));
	assert_int_equal(salt.n, salt_of(SASL_SCRAM_SHA_256, "bare", two).n);
}

static void what_is_too_long_begins_nothing(void **unused)
{
	static char message[4096];

	(void)unused;
	memset(message, 'x', sizeof(message));
	memcpy(message, "n,,n=", 5);
	assert_int_equal(step(0, SASL_SCRAM_SHA_1, (struct span){ message, 4096 }, 0).status,
			 AUTH_REFUSED);
	memcpy(message + 600, ",r=x", 4);
	assert_int_equal(step(0, SASL_SCRAM_SHA_1, (struct span){ message, 604 }, 0).status,
			 AUTH_REFUSED);
	memcpy(message + 5 + ACCOUNT_USER_MAX, ",r=x", 4);
	struct msg_AUTH_STEP longest =
		step(0, SASL_SCRAM_SHA_1, (struct span){ message, 9 + ACCOUNT_USER_MAX }, 0);

	assert_int_equal(longest.status, AUTH_CONTINUES);
	assert_int_equal(step(0, SASL_PLAIN, SPAN_NONE, 0).status, AUTH_UNAVAILABLE);
}

static int write_userdb(void)
{
	int fd = mkstemp(userdb_path);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "we");

	if (!f)
		return -1;
	(void)fprintf(f,
		      "tim\tuid=1|gid=1|home=/|hmac-md5pw=%s|hmac-sha1pw=%s|hmac-sha256pw=%s\n"
		      "own\tuid=1|gid=1|home=/|imap-hmac-md5pw=%s|imap-hmac-sha1pw=%s|"
		      "imap-hmac-sha256pw=%s|hmac-md5pw=x|hmac-sha1pw=x|hmac-sha256pw=x\n"
		      "bare\tuid=1|gid=1|home=/|systempw=|hmac-md5pw=\n",
		      states[0], states[1], states[2], states[0], states[1], states[2]);
	return fclose(f);
}

/* RFC 1939's user, whose clear password is known. */
static int write_lmdb(void)
{
	struct accountsdb *made;
	struct why why;

	(void)snprintf(lmdb_path, sizeof(lmdb_path), "%s.lmdb", userdb_path);
	if (accountsdb_begin(lmdb_path, -1, &made, &why) < 0)
		return -1;
	if (accountsdb_add(made, SPAN("mrose"), SPAN("PASSWD2=tanstaaf\n"), &why) < 0) {
		accountsdb_abandon(made);
		return -1;
	}
	return accountsdb_finish(made, &why);
}

static void print(void *context, bool is_error, const char *line)
{
	(void)context;
	if (is_error)
		(void)fprintf(stderr, "%s\n", line);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_example_of_rfc_2195),
		cmocka_unit_test(stored_states_are_as_good_as_the_password),
		cmocka_unit_test(answers_to_cram_that_are_none),
		cmocka_unit_test(the_example_of_rfc_5802),
		cmocka_unit_test(the_example_of_rfc_7677),
		cmocka_unit_test(first_messages_that_are_refused),
		cmocka_unit_test(last_messages_that_are_refused),
		cmocka_unit_test(forms_of_dovecot_and_postgresql),
		cmocka_unit_test(passwords_that_need_no_preparation),
		cmocka_unit_test(cram_by_what_userdb_has),
		cmocka_unit_test(no_password_is_not_the_empty_password),
		cmocka_unit_test(the_example_of_rfc_1939),
		cmocka_unit_test(apop_is_refused),
		cmocka_unit_test(a_conversation_is_forgotten_in_time),
		cmocka_unit_test(the_oldest_makes_room),
		cmocka_unit_test(who_is_unknown_has_a_salt_that_stays),
		cmocka_unit_test(what_is_too_long_begins_nothing),
	};
	char text[200];

	/* valgrind has no room for LMDB's map: the tests that need the table are left out */
	const bool has_table = !getenv("KEEPWARM_LEAK_CHECK");

	if (write_userdb() < 0 || (has_table && write_lmdb() < 0))
		return 1;
	int n = snprintf(text, sizeof(text),
			 has_table ? "directory userdb:%s\ndirectory lmdb:%s\nno_mailhost default\n"
				   : "directory userdb:%s\nno_mailhost default\n",
			 userdb_path, lmdb_path);

	if (config_init(&config) < 0 ||
	    config_parse(&config, "f", text, (size_t)n, print, NULL, NULL) != 0 ||
	    directories_new(&config, &directories) < 0 || challenge_make_secret() < 0)
		return 1;
	table = challenges_new();
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	challenges_free(table);
	directories_free(directories);
	config_wipe(&config);
	(void)unlink(userdb_path);
	(void)unlink(lmdb_path);
	return failed;
}
