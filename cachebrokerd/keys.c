/* Keyed digests. Every field is preceded by its length, so that no two lists of fields give the
 * same bytes. */
#include "cachebrokerd/keys.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdlib.h>

struct keys {
	EVP_MAC *mac;
	EVP_MAC_CTX *template; /* keyed, nothing added yet */
	struct key secret;     /* for our successor: OpenSSL does not give it back */
};

/* The purposes, as first field, keep digests of different kinds apart. */
static const struct span purpose_proof = { "proof", 5 };
static const struct span purpose_master = { "master", 6 };
static const struct span purpose_account = { "account", 7 };
static const struct span purpose_made = { "made", 4 };
static const struct span purpose_login = { "login", 5 };
static const struct span purpose_name = { "name", 4 };
static const struct span purpose_lease = { "lease", 5 };
static const struct span purpose_fingerprint = { "fingerprint", 11 };
static const struct span purpose_tokens = { "tokens", 6 };
static const struct span purpose_verified = { "verified", 8 };
static const struct span purpose_habit = { "habit", 5 };
static const struct span purpose_plain = { "plain", 5 };
static const struct span purpose_setting = { "setting", 7 };

int keys_adopt(const struct key *secret, struct keys **ret)
{
	OSSL_PARAM params[] = { OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST,
								 (char[]){ "SHA256" }, 0),
				OSSL_PARAM_construct_end() };
	struct keys *k = calloc(1, sizeof(*k));

	if (!k)
		return -ENOMEM;
	k->secret = *secret;
	k->mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	k->template = k->mac ? EVP_MAC_CTX_new(k->mac) : NULL;
	if (!k->template ||
	    EVP_MAC_init(k->template, secret->bytes, sizeof(secret->bytes), params) != 1) {
		keys_free(k);
		return -EIO;
	}
	*ret = k;
	return 0;
}

int keys_new(struct keys **ret)
{
	struct key secret;
	int r = RAND_bytes(secret.bytes, sizeof(secret.bytes)) == 1 ? keys_adopt(&secret, ret)
								     : -EIO;

	OPENSSL_cleanse(&secret, sizeof(secret));
	return r;
}

const struct key *keys_secret(const struct keys *k)
{
	return &k->secret;
}

void keys_free(struct keys *k)
{
	if (!k)
		return;
	EVP_MAC_CTX_free(k->template);
	EVP_MAC_free(k->mac);
	OPENSSL_cleanse(k, sizeof(*k));
	free(k);
}

/* The digest of a list of fields. A fresh copy of the context each time: freeing it overwrites the
 * part of the secret that it holds, which using it again would not. */
static int digest(const struct keys *k, const struct span *fields, size_t count, struct key *ret)
{
	EVP_MAC_CTX *ctx = EVP_MAC_CTX_dup(k->template);
	size_t length = 0;
	bool good = ctx != NULL;

	for (size_t i = 0; good && i < count; i++) {
		uint32_t n = (uint32_t)fields[i].n;

		good = EVP_MAC_update(ctx, (const unsigned char *)&n, sizeof(n)) == 1 &&
		       EVP_MAC_update(ctx, (const unsigned char *)fields[i].p, fields[i].n) == 1;
	}
	good = good && EVP_MAC_final(ctx, ret->bytes, &length, sizeof(ret->bytes)) == 1 &&
	       length == sizeof(ret->bytes);
	EVP_MAC_CTX_free(ctx);
	return good ? 0 : -EIO;
}

/* How a connection is protected says nothing of whose it is. */
static struct span tls_of(const struct key_account *a, const struct key *proof)
{
	return proof ? (struct span){ (const char *)&a->tls, sizeof(a->tls) } : SPAN_NONE;
}

static struct span number(const uint32_t *n)
{
	return (struct span){ (const char *)n, sizeof(*n) };
}

int keys_proof(const struct keys *k, enum msg_proof kind, struct span secret, struct key *ret)
{
	uint32_t which = kind;
	const struct span fields[] = { purpose_proof, number(&which), secret };

	return digest(k, fields, sizeof(fields) / sizeof(fields[0]), ret);
}

int keys_master(const struct keys *k, struct span shared, struct span user, struct span password,
		struct key *ret)
{
	const struct span fields[] = { purpose_master, shared, user, password };

	return digest(k, fields, sizeof(fields) / sizeof(fields[0]), ret);
}

int keys_account(const struct keys *k, const struct key_account *a, const struct key *proof,
		 struct key *ret)
{
	const struct span proved =
		proof ? (struct span){ (const char *)proof->bytes, KEY_BYTES } : SPAN_NONE;
	const struct span fields[] = { proof ? purpose_lease : purpose_account,
				       number(&a->service),
				       a->host,
				       number(&a->port),
				       a->backend_user,
				       a->authzid,
				       proof ? a->preauth : SPAN_NONE,
				       tls_of(a, proof),
				       proved };

	return digest(k, fields, sizeof(fields) / sizeof(fields[0]), ret);
}

static struct span bytes_of(const struct key *key)
{
	return (struct span){ (const char *)key->bytes, KEY_BYTES };
}

int keys_made(const struct keys *k, const struct key *given, struct span user, struct span password,
	      struct key *ret)
{
	const struct span fields[] = { purpose_made, bytes_of(given), user, password };

	return digest(k, fields, sizeof(fields) / sizeof(fields[0]), ret);
}

int keys_plain(const struct keys *k, const struct key *login, struct key *ret)
{
	const struct key before = *login; /* *ret may be the same one */
	const struct span fields[] = { purpose_plain, bytes_of(&before) };

	return digest(k, fields, sizeof(fields) / sizeof(fields[0]), ret);
}

int keys_tokens(const struct keys *k, const struct key *account, struct key *ret)
{
	const struct span fields[] = { purpose_tokens, bytes_of(account) };

	return digest(k, fields, sizeof(fields) / sizeof(fields[0]), ret);
}

int keys_verified(const struct keys *k, const struct key *account, struct key *ret)
{
	const struct span fields[] = { purpose_verified, bytes_of(account) };

	return digest(k, fields, sizeof(fields) / sizeof(fields[0]), ret);
}

int keys_fingerprint(const struct keys *k, const struct key *key, struct span fingerprint,
		     struct key *ret)
{
	const struct span fields[] = { purpose_fingerprint, bytes_of(key), fingerprint };

	return digest(k, fields, sizeof(fields) / sizeof(fields[0]), ret);
}

int keys_habit(const struct keys *k, const struct key *account, uint64_t client_id,
	       struct span address, struct key *ret)
{
	const struct span id = { (const char *)&client_id, sizeof(client_id) };
	const struct span fields[] = { purpose_habit, bytes_of(account), id, address };

	return digest(k, fields, sizeof(fields) / sizeof(fields[0]), ret);
}

int keys_setting(const struct keys *k, struct span name, struct span value, struct key *sum)
{
	const struct key before = *sum;
	const struct span fields[] = { purpose_setting, bytes_of(&before), name, value };

	return digest(k, fields, sizeof(fields) / sizeof(fields[0]), sum);
}

int keys_name(const struct keys *k, uint32_t service, struct span user, struct key *ret)
{
	const struct span fields[] = { purpose_name, number(&service), user };

	return digest(k, fields, sizeof(fields) / sizeof(fields[0]), ret);
}

int keys_login(const struct keys *k, uint32_t service, struct span user, const struct key *proof,
	       struct key *ret)
{
	const struct span fields[] = { purpose_login, number(&service), user, bytes_of(proof) };

	return digest(k, fields, sizeof(fields) / sizeof(fields[0]), ret);
}

bool key_same(const struct key *a, const struct key *b)
{
	return CRYPTO_memcmp(a->bytes, b->bytes, KEY_BYTES) == 0;
}
