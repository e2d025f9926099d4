/* Messages of the token mechanisms: what is one, what is none; what is written reads the same. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "lib/sasl.h"
#include "proxyd/sasl_oauth.h"

#define A "\001"

static char user_bytes[32];

static int read_message(enum msg_proof kind, struct span message, struct buf *user,
			struct span *token)
{
	*user = BUF_OVER(user_bytes);
	return sasl_oauth_read(kind, message, user, token);
}

static void assert_read(enum msg_proof kind, const char *message, const char *name,
			const char *secret)
{
	struct buf user;
	struct span token;

	print_message("%s\n", message);
	assert_int_equal(read_message(kind, span_str(message), &user, &token), 0);
	assert_true(span_eq(buf_span(&user), span_str(name)));
	assert_true(span_eq(token, span_str(secret)));
}

static void assert_none(enum msg_proof kind, const char *message, int error)
{
	struct buf user;
	struct span token;

	print_message("%s\n", message);
	assert_int_equal(read_message(kind, span_str(message), &user, &token), error);
}

static void what_real_clients_send_is_read(void **unused)
{
	(void)unused;
	assert_read(PROOF_XOAUTH2, "user=anna@example.org" A "auth=Bearer ya29.vF9-_~+/==" A A,
		    "anna@example.org", "ya29.vF9-_~+/==");
	assert_read(PROOF_XOAUTH2, "user=a b,c=d" A "auth=bearer  x" A A, "a b,c=d", "x");
	assert_read(PROOF_OAUTHBEARER,
		    "n,a=user@example.com," A "host=server.example.com" A "port=143" A
		    "auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==" A A,
		    "user@example.com", "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==");
	assert_read(PROOF_OAUTHBEARER, "y,a=a=2Cb=3dc," A "auth=BEARER x" A A, "a,b=c", "x");
	assert_read(PROOF_OAUTHBEARER, "n,a=u," A "auth=Bearer x" A "host=" A "x=\t \r\n!" A A, "u",
		    "x");
}

static void what_is_no_xoauth2_message_is_refused(void **unused)
{
	static const char *const bad[] = {
		"", A, A A A, "user=u", "user=u" A "auth=Bearer x", "user=u" A "auth=Bearer x" A,
		"user=u" A "auth=Bearer x" A A A, "user=u" A "auth=Bearer x" A A "y",
		"user=u" A "auth=Bearer x" A "host=h" A A, "user=u" A "auth=Bearer " A A,
		"user=u" A "auth=Bearer" A A, "user=u" A "auth=Basic x" A A,
		"user=u" A "auth=Bearerx" A A, "user=u" A "auth=Bearer x y" A A,
		"user=u" A "auth=Bearer x\t" A A, "user=u" A "auth=Bearer x\x7f" A A,
		"user=u" A "auth=Bearer \xc3\xa4" A A, "user=u\t" A "auth=Bearer x" A A,
		"user=u\r\n" A "auth=Bearer x" A A, "user=\x7f" A "auth=Bearer x" A A,
		"auth=Bearer x" A A, "auth=Bearer x" A "user=u" A A, "u" A "auth=Bearer x" A A,
		"n,a=u," A "auth=Bearer x" A A,
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_none(PROOF_XOAUTH2, bad[i], -EINVAL);
}

static void what_is_no_oauthbearer_message_is_refused(void **unused)
{
	static const char *const bad[] = {
		"", A, A A, "n,a=u,", "n,a=u," A, "n,a=u," A A, "n,a=u," A "auth=Bearer x",
		"n,a=u," A "auth=Bearer x" A, "n,a=u," A "auth=Bearer x" A A A,
		"n,a=u," A "auth=Bearer x" A A "y",
		"n,a=u," A "auth=Bearer x" A "auth=Bearer y" A A,
		"n,a=u," A "auth=Basic x" A A, "n,a=u," A "=x" A "auth=Bearer x" A A,
		"n,a=u," A "host" A "auth=Bearer x" A A, "n,a=u," A "h0st=x" A "auth=Bearer x" A A,
		"n,a=u," A "host=\x02" A "auth=Bearer x" A A, "n,a=u," A "host=h" A A,
		"n" A "auth=Bearer x" A A, "n," A "auth=Bearer x" A A,
		"n,a=u" A "auth=Bearer x" A A, "p=tls-unique,a=u," A "auth=Bearer x" A A,
		"F,n,a=u," A "auth=Bearer x" A A, "N,a=u," A "auth=Bearer x" A A,
		"n,u," A "auth=Bearer x" A A, "n,a=u,v," A "auth=Bearer x" A A,
		"n,a=u=," A "auth=Bearer x" A A, "n,a=u=2," A "auth=Bearer x" A A,
		"n,a=u=41," A "auth=Bearer x" A A, "n,a=u\n," A "auth=Bearer x" A A,
		"user=u" A "auth=Bearer x" A A,
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_none(PROOF_OAUTHBEARER, bad[i], -EINVAL);
}

static void a_nul_is_refused_wherever_it_stands(void **unused)
{
	static const char x[] = "user=anna" A "auth=Bearer token" A A,
			  o[] = "n,a=anna," A "host=h" A "auth=Bearer token" A A;
	char copy[sizeof(o)];
	struct buf user;
	struct span token;

	(void)unused;
	for (size_t i = 0; i < sizeof(x) - 1; i++) {
		memcpy(copy, x, sizeof(x));
		copy[i] = '\0';
		assert_int_equal(read_message(PROOF_XOAUTH2, (struct span){copy, sizeof(x) - 1},
					      &user, &token),
				 -EINVAL);
	}
	for (size_t i = 0; i < sizeof(o) - 1; i++) {
		memcpy(copy, o, sizeof(o));
		copy[i] = '\0';
		assert_int_equal(read_message(PROOF_OAUTHBEARER,
					      (struct span){copy, sizeof(o) - 1}, &user, &token),
				 -EINVAL);
	}
}

static void without_a_name_nobody_can_be_looked_up(void **unused)
{
	(void)unused;
	assert_none(PROOF_XOAUTH2, "user=" A "auth=Bearer x" A A, -ENODATA);
	assert_none(PROOF_OAUTHBEARER, "n,," A "auth=Bearer x" A A, -ENODATA);
	assert_none(PROOF_OAUTHBEARER, "n,a=," A "auth=Bearer x" A A, -ENODATA);
}

static void a_name_that_does_not_fit_is_too_long(void **unused)
{
	(void)unused;
	assert_none(PROOF_XOAUTH2,
		    "user=0123456789abcdef0123456789abcdefX" A "auth=Bearer x" A A, -ENOBUFS);
	assert_none(PROOF_OAUTHBEARER,
		    "n,a=0123456789abcdef0123456789abcdefX," A "auth=Bearer x" A A, -ENOBUFS);
}

static void assert_written(enum msg_proof kind, const char *name, const char *text)
{
	char bytes[100];
	struct buf out = BUF_OVER(bytes);

	assert_int_equal(sasl_oauth_write(kind, span_str(name), SPAN("tok=,"), &out), 0);
	assert_true(span_eq(buf_span(&out), span_str(text)));
	assert_read(kind, text, name, "tok=,");
	assert_true(out.len <= strlen(name) * (kind == PROOF_XOAUTH2 ? 1 : 3) + 5 +
				       SASL_OAUTH_EXTRA);
	for (size_t room = 0; room < strlen(text); room++) {
		out = (struct buf){.data = bytes, .cap = room};
		assert_int_equal(sasl_oauth_write(kind, span_str(name), SPAN("tok=,"), &out),
				 -ENOBUFS);
	}
}

static void what_is_written_reads_the_same(void **unused)
{
	(void)unused;
	assert_written(PROOF_XOAUTH2, "a=b,c", "user=a=b,c" A "auth=Bearer tok=," A A);
	assert_written(PROOF_OAUTHBEARER, "a=b,c", "n,a=a=3Db=2Cc," A "auth=Bearer tok=," A A);
}

static void a_name_with_controls_is_not_written(void **unused)
{
	char bytes[100];
	struct buf out = BUF_OVER(bytes);

	(void)unused;
	assert_int_equal(sasl_oauth_write(PROOF_XOAUTH2, SPAN("a" A "auth=Bearer y"), SPAN("x"),
					  &out),
			 -EINVAL);
	assert_int_equal(sasl_oauth_write(PROOF_OAUTHBEARER, SPAN("a\r"), SPAN("x"), &out),
			 -EINVAL);
}

static void an_error_is_answered_as_each_mechanism_wants(void **unused)
{
	(void)unused;
	assert_true(span_eq(sasl_oauth_answer(PROOF_XOAUTH2), SPAN("")));
	assert_true(span_eq(sasl_oauth_answer(PROOF_OAUTHBEARER), SPAN("AQ==")));
}

static void lists_of_mechanisms_are_read_in_any_case(void **unused)
{
	struct span bad = SPAN_NONE;
	uint32_t set = 99;

	(void)unused;
	assert_int_equal(sasl_list_read(SPAN("none"), &set, &bad), 0);
	assert_int_equal(set, 0);
	assert_int_equal(sasl_list_read(SPAN("PLAIN  login XOAUTH2 plain"), &set, &bad), 0);
	assert_int_equal(set, SASL_PLAIN | SASL_LOGIN | SASL_XOAUTH2);
	assert_int_equal(sasl_list_read(SPAN("oauthbearer"), &set, &bad), 0);
	assert_int_equal(set, SASL_OAUTHBEARER);
	assert_int_equal(sasl_list_read(SPAN("PLAIN XOAUTH PLAIN2"), &set, &bad), -EINVAL);
	assert_true(span_eq(bad, SPAN("XOAUTH")));
	assert_int_equal(sasl_list_read(SPAN("PLAIN none"), &set, &bad), -EINVAL);
}

static void only_tokens_have_a_mechanism_of_their_own(void **unused)
{
	struct sasl_row row;

	(void)unused;
	assert_false(sasl_token_of(PROOF_PASSWORD, &row));
	assert_false(sasl_token_of(0, &row));
	assert_false(sasl_token_of(PROOF_VERIFIED, &row));
	assert_false(sasl_token_of(PROOF_EXTERNAL, &row));
	assert_true(sasl_token_of(PROOF_XOAUTH2, &row));
	assert_int_equal(row.bit, SASL_XOAUTH2);
	assert_true(sasl_token_of(PROOF_OAUTHBEARER, &row));
	assert_true(span_eq(row.name, SPAN("OAUTHBEARER")));
	assert_false(sasl_row_at(10, &row));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_real_clients_send_is_read),
		cmocka_unit_test(what_is_no_xoauth2_message_is_refused),
		cmocka_unit_test(what_is_no_oauthbearer_message_is_refused),
		cmocka_unit_test(a_nul_is_refused_wherever_it_stands),
		cmocka_unit_test(without_a_name_nobody_can_be_looked_up),
		cmocka_unit_test(a_name_that_does_not_fit_is_too_long),
		cmocka_unit_test(what_is_written_reads_the_same),
		cmocka_unit_test(a_name_with_controls_is_not_written),
		cmocka_unit_test(an_error_is_answered_as_each_mechanism_wants),
		cmocka_unit_test(lists_of_mechanisms_are_read_in_any_case),
		cmocka_unit_test(only_tokens_have_a_mechanism_of_their_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
