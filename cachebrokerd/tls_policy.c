/* The number is a hash (FNV-1a), not a digest: nobody but the administrator chooses what goes in,
 * and he does not look for collisions. Of the files it takes what stat() says, not the content:
 * this process may be unable to read them, and a file put in place anew is reason enough. A
 * directory of authorities changes its time when one is put in or taken out.
 */
#include "cachebrokerd/tls_policy.h"

#include <string.h>
#include <sys/stat.h>

#define FNV_BEGIN UINT64_C(0xcbf29ce484222325)

static void add(uint64_t *hash, const void *data, size_t n)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < n; i++)
		*hash = (*hash ^ p[i]) * UINT64_C(0x100000001b3);
}

static void add_text(uint64_t *hash, const char *text)
{
	add(hash, text, strlen(text) + 1);
}

static void add_file(uint64_t *hash, const char *path)
{
	struct stat st;

	add_text(hash, path);
	if (!*path || stat(path, &st) < 0)
		return;
	add(hash, &st.st_dev, sizeof(st.st_dev));
	add(hash, &st.st_ino, sizeof(st.st_ino));
	add(hash, &st.st_size, sizeof(st.st_size));
	add(hash, &st.st_mtim, sizeof(st.st_mtim));
}

uint64_t tls_policy(const struct config *c)
{
	uint64_t hash = FNV_BEGIN;
	const uint32_t numbers[] = { config_tls_mode(c), config_tls_verifies(c),
				     config_tls_min_version(c) };

	add(&hash, numbers, sizeof(numbers));
	add_file(&hash, c->tls_ca_file);
	add_file(&hash, c->tls_ca_path);
	add_file(&hash, c->tls_cert_file);
	add_file(&hash, c->tls_key_file);
	add_text(&hash, c->tls_ciphers);
	return hash;
}

uint64_t tls_policy_clients(const struct config *c)
{
	uint64_t hash = FNV_BEGIN;

	add_file(&hash, c->tls_client_ca_file);
	return hash;
}
