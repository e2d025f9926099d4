/* Keyed digests: equal for equal fields, different for everything else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cachebrokerd/keys.h"

static struct keys *keys;

static int make_keys(void **unused)
{
	(void)unused;
	return keys_new(&keys);
}

static int drop_keys(void **unused)
{
	(void)unused;
	keys_free(keys);
	return 0;
}

static const struct key_account base = {.service = 1,
					.port = 143,
					.host = {"host", 4},
					.backend_user = {"user", 4},
					.authzid = {"auth", 4}};

static struct key proof_of(const char *secret)
{
	struct key k;

	assert_int_equal(keys_proof(keys, PROOF_PASSWORD, span_str(secret), &k), 0);
	return k;
}

static struct key account_of(struct key_account a, const struct key *proof)
{
	struct key k;

	assert_int_equal(keys_account(keys, &a, proof, &k), 0);
	return k;
}

static struct key name_of(uint32_t service, const char *user)
{
	struct key k;

	assert_int_equal(keys_name(keys, service, span_str(user), &k), 0);
	return k;
}

static struct key sum_of(const char *name, const char *first, const char *second)
{
	struct key sum = { 0 };

	assert_int_equal(keys_setting(keys, span_str(name), span_str(first), &sum), 0);
	if (second)
		assert_int_equal(keys_setting(keys, span_str(name), span_str(second), &sum), 0);
	return sum;
}

static void assert_all_differ(const struct key *all, size_t count)
{
	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < count; j++)
			assert_int_equal(key_same(&all[i], &all[j]), i == j);
}

static void the_same_fields_give_the_same_key(void **unused)
{
	char host[] = "host", user[] = "user", authzid[] = "auth"; /* other memory, same bytes */
	struct key_account again = {1, 143, {host, 4}, {user, 4}, {authzid, 4}, {"", 0}, 0};
	struct key p = proof_of("secret"), q = proof_of("secret");
	struct key a = account_of(base, &p), b = account_of(again, &q);
	struct key c = account_of(base, NULL), d = account_of(again, NULL);
	struct key n = name_of(1, "user"), m = name_of(1, user);

	(void)unused;
	assert_true(key_same(&p, &q));
	assert_true(key_same(&a, &b));
	assert_true(key_same(&c, &d));
	assert_true(key_same(&n, &m));
}

static void every_field_of_an_account_matters(void **unused)
{
	struct key proofs[] = {proof_of("secret"), proof_of("Secret"), proof_of("")};
	struct key_account a[11];
	struct key all[11 * 4];
	size_t n = 0;

	(void)unused;
	for (size_t i = 0; i < 11; i++)
		a[i] = base;
	a[1].service = 2;
	a[2].port = 144;
	a[3].host = SPAN("hosT");
	a[4].host = SPAN("");
	a[5].backend_user = SPAN("User");
	a[6].backend_user = SPAN("");
	a[7].authzid = SPAN("autH");
	a[8].authzid = SPAN("");
	a[9].port = 143u << 8;
	a[10].service = 1u << 24;
	for (size_t i = 0; i < 11; i++) {
		all[n++] = account_of(a[i], NULL);
		for (size_t j = 0; j < 3; j++)
			all[n++] = account_of(a[i], &proofs[j]);
	}
	assert_all_differ(all, n);
}

static void what_was_said_before_the_login_matters_to_connections_only(void **unused)
{
	struct key p = proof_of("secret");
	struct key_account other = base;

	(void)unused;
	other.preauth = SPAN("XGATE 1");
	struct key all[] = {account_of(base, &p), account_of(other, &p)};

	assert_all_differ(all, 2);
	struct key a = account_of(base, NULL), b = account_of(other, NULL);

	assert_true(key_same(&a, &b));
}

static void how_tls_is_made_matters_to_connections_only(void **unused)
{
	struct key p = proof_of("secret");
	struct key_account other = base, third = base;

	(void)unused;
	other.tls = 1;
	third.tls = UINT64_C(1) << 40;
	struct key all[] = {account_of(base, &p), account_of(other, &p), account_of(third, &p)};

	assert_all_differ(all, 3);
	struct key a = account_of(base, NULL), b = account_of(other, NULL);

	assert_true(key_same(&a, &b));
}

static struct key master_of(const char *shared, const char *user, const char *password)
{
	struct key k;

	assert_int_equal(keys_master(keys, span_str(shared), span_str(user), span_str(password),
				     &k),
			 0);
	return k;
}

static void a_masters_proof_is_its_own(void **unused)
{
	struct key all[] = {master_of("s", "u", "p"),  master_of("S", "u", "p"),
			    master_of("s", "U", "p"),  master_of("s", "u", "P"),
			    master_of("su", "", "p"),  master_of("", "su", "p"),
			    proof_of("s"),	       proof_of("p"),
			    proof_of("sup")};

	(void)unused;
	assert_all_differ(all, sizeof(all) / sizeof(all[0]));
}

static void bytes_that_move_between_fields_give_another_key(void **unused)
{
	static const struct {
		struct span host, user, authzid;
	} rows[] = {
		{SPAN("ab"), SPAN("cd"), SPAN("ef")},
		{SPAN("abc"), SPAN("d"), SPAN("ef")},
		{SPAN("a"), SPAN("bcd"), SPAN("ef")},
		{SPAN("ab"), SPAN("cde"), SPAN("f")},
		{SPAN("abcdef"), SPAN(""), SPAN("")},
		{SPAN(""), SPAN("abcdef"), SPAN("")},
		{SPAN(""), SPAN(""), SPAN("abcdef")},
		{SPAN("ab"), SPAN(""), SPAN("cdef")},
		{SPAN("ab\0"), SPAN("cd"), SPAN("ef")},
		{SPAN("ab"), SPAN("\0cd"), SPAN("ef")},
		{SPAN("ab"), SPAN("cd\0"), SPAN("ef")},
		{SPAN("ab"), SPAN("cd"), SPAN("ef\0")},
		{SPAN("ab\2\0\0\0cd"), SPAN(""), SPAN("ef")},
		{SPAN(""), SPAN("ab\2\0\0\0cd"), SPAN("ef")},
	};
	struct key all[sizeof(rows) / sizeof(rows[0])];

	(void)unused;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct key_account a = base;

		a.host = rows[i].host;
		a.backend_user = rows[i].user;
		a.authzid = rows[i].authzid;
		all[i] = account_of(a, NULL);
	}
	assert_all_differ(all, sizeof(rows) / sizeof(rows[0]));
}

static void a_proof_depends_on_its_kind_and_every_byte(void **unused)
{
	struct key all[5];

	(void)unused;
	all[0] = proof_of("secret");
	all[1] = proof_of("secret ");
	assert_int_equal(keys_proof(keys, PROOF_PASSWORD, SPAN("secret\0"), &all[2]), 0);
	assert_int_equal(
		keys_proof(keys, (enum msg_proof)(PROOF_PASSWORD + 1), SPAN("secret"), &all[3]), 0);
	all[4] = proof_of("");
	assert_all_differ(all, 5);
}

static void digests_of_different_purposes_never_meet(void **unused)
{
	struct key_account a = {.service = 1};
	struct key zero = {0}, all[5];

	(void)unused;
	a.host = a.backend_user = a.authzid = SPAN_NONE;
	all[0] = proof_of("x");
	all[1] = name_of(1, "x"); /* the same shape as a proof: number and text */
	all[2] = account_of(a, NULL);
	all[3] = account_of(a, &zero);
	all[4] = name_of(2, "x");
	assert_all_differ(all, 5);
}

static void another_start_has_another_key(void **unused)
{
	struct key mine = proof_of("secret"), other;
	struct keys *second;

	(void)unused;
	assert_int_equal(keys_new(&second), 0);
	assert_int_equal(keys_proof(second, PROOF_PASSWORD, SPAN("secret"), &other), 0);
	assert_false(key_same(&mine, &other));
	keys_free(second);
}

static void a_digest_leaves_nothing_for_the_next_one(void **unused)
{
	struct key first = proof_of("secret"), again;

	(void)unused;
	for (int i = 0; i < 50; i++) {
		name_of(1, "between");
		again = proof_of("secret");
		assert_true(key_same(&first, &again));
	}
}

static void keys_are_the_same_only_with_every_byte(void **unused)
{
	struct key a = proof_of("x");

	(void)unused;
	for (size_t i = 0; i < KEY_BYTES; i++) {
		struct key b = a;

		assert_true(key_same(&a, &b));
		b.bytes[i] ^= 1;
		assert_false(key_same(&a, &b));
	}
	keys_free(NULL);
}

static void a_token_is_another_proof_by_each_mechanism_and_no_password(void **unused)
{
	struct key proofs[3], leases[3];

	(void)unused;
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(keys_proof(keys, PROOF_PASSWORD + i, SPAN("same"), &proofs[i]), 0);
		leases[i] = account_of(base, &proofs[i]);
	}
	assert_all_differ(proofs, 3);
	assert_all_differ(leases, 3);
}

static void an_accounts_tokens_have_a_record_of_their_own(void **unused)
{
	struct key_account other = base;
	struct key all[4];

	(void)unused;
	other.backend_user = SPAN("other");
	all[0] = account_of(base, NULL);
	all[1] = account_of(other, NULL);
	assert_int_equal(keys_tokens(keys, &all[0], &all[2]), 0);
	assert_int_equal(keys_tokens(keys, &all[1], &all[3]), 0);
	assert_all_differ(all, 4);
}

static void a_successor_goes_on_with_the_key(void **unused)
{
	struct key before = account_of(base, NULL), after;
	struct keys *mine = keys, *successor;

	(void)unused;
	assert_int_equal(keys_adopt(keys_secret(keys), &successor), 0);
	keys = successor;
	after = account_of(base, NULL);
	keys = mine;
	keys_free(successor);
	assert_true(key_same(&before, &after));
}

static void settings_have_the_same_digest_only_if_all_are_the_same(void **unused)
{
	const struct key all[] = { sum_of("a", "b", NULL), sum_of("a", "b", "c"),
				   sum_of("a", "c", "b"),  sum_of("a", "bc", NULL),
				   sum_of("ab", "", NULL), sum_of("a", "b", "") };
	struct key again = sum_of("a", "b", "c");

	(void)unused;
	assert_all_differ(all, sizeof(all) / sizeof(all[0]));
	assert_true(key_same(&all[1], &again));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_same_fields_give_the_same_key),
		cmocka_unit_test(every_field_of_an_account_matters),
		cmocka_unit_test(how_tls_is_made_matters_to_connections_only),
		cmocka_unit_test(what_was_said_before_the_login_matters_to_connections_only),
		cmocka_unit_test(a_masters_proof_is_its_own),
		cmocka_unit_test(bytes_that_move_between_fields_give_another_key),
		cmocka_unit_test(a_proof_depends_on_its_kind_and_every_byte),
		cmocka_unit_test(digests_of_different_purposes_never_meet),
		cmocka_unit_test(another_start_has_another_key),
		cmocka_unit_test(a_digest_leaves_nothing_for_the_next_one),
		cmocka_unit_test(a_token_is_another_proof_by_each_mechanism_and_no_password),
		cmocka_unit_test(an_accounts_tokens_have_a_record_of_their_own),
		cmocka_unit_test(a_successor_goes_on_with_the_key),
		cmocka_unit_test(keys_are_the_same_only_with_every_byte),
		cmocka_unit_test(settings_have_the_same_digest_only_if_all_are_the_same),
	};

	return cmocka_run_group_tests(tests, make_keys, drop_keys);
}
