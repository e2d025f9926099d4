/* SCRAM's arithmetic (RFC 5802 section 3). What is derived from a password is overwritten. */
#include "lookupd/scram.h"

#include <errno.h>

static struct span bytes_of(const unsigned char *p, enum digest d)
{
	return (struct span){ (const char *)p, digest_length(d) };
}

int scram_make_keys(enum digest d, struct span password, struct scram_keys *k)
{
	const struct span salt = { k->salt, k->salt_length };
	unsigned char salted[DIGEST_MAX], client[DIGEST_MAX];
	int r;

	(void)((r = digest_pbkdf2(d, password, salt, k->iterations, salted)) ||
	       (r = digest_hmac(d, bytes_of(salted, d), SPAN("Client Key"), client)) ||
	       (r = digest_of(d, bytes_of(client, d), k->stored)) ||
	       (r = digest_hmac(d, bytes_of(salted, d), SPAN("Server Key"), k->server)));
	explicit_bzero(salted, sizeof(salted));
	explicit_bzero(client, sizeof(client));
	return r;
}

int scram_prove(enum digest d, const struct scram_keys *k, struct span auth_message,
		const unsigned char *proof, unsigned char *ret)
{
	unsigned char client[DIGEST_MAX], stored[DIGEST_MAX];
	int r = digest_hmac(d, bytes_of(k->stored, d), auth_message, client);

	for (size_t i = 0; r == 0 && i < digest_length(d); i++)
		client[i] ^= proof[i];
	if (r == 0)
		r = digest_of(d, bytes_of(client, d), stored);
	if (r == 0 && !span_eq_secret(bytes_of(stored, d), bytes_of(k->stored, d)))
		r = -EACCES;
	explicit_bzero(client, sizeof(client));
	return r == 0 ? digest_hmac(d, bytes_of(k->server, d), auth_message, ret) : r;
}
