/* Digests, by OpenSSL. Its contexts are overwritten when they are freed. */
#include <errno.h>
#include <openssl/evp.h>

#include "lookupd/password_forms.h"

size_t password_digest(const char *name, struct span a, struct span b,
		       unsigned char ret[PASSWORD_DIGEST_MAX])
{
	EVP_MD *md = EVP_MD_fetch(NULL, name, NULL);
	EVP_MD_CTX *ctx = md ? EVP_MD_CTX_new() : NULL;
	unsigned length = 0;
	bool good = ctx && EVP_MD_get_size(md) <= PASSWORD_DIGEST_MAX &&
		    EVP_DigestInit_ex(ctx, md, NULL) == 1 && EVP_DigestUpdate(ctx, a.p, a.n) == 1 &&
		    EVP_DigestUpdate(ctx, b.p, b.n) == 1 &&
		    EVP_DigestFinal_ex(ctx, ret, &length) == 1;

	EVP_MD_CTX_free(ctx);
	EVP_MD_free(md);
	return good ? length : 0;
}

int password_pbkdf2(const char *name, struct span typed, struct span salt, uint32_t rounds,
		    unsigned char *ret, size_t length)
{
	EVP_MD *md = EVP_MD_fetch(NULL, name, NULL);
	int r = md && PKCS5_PBKDF2_HMAC(typed.p, (int)typed.n, (const unsigned char *)salt.p,
					(int)salt.n, (int)rounds, md, (int)length, ret) == 1
			? 0
			: -EIO;

	EVP_MD_free(md);
	return r;
}
