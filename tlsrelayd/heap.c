/* malloc(3) for OpenSSL. What it decodes a key with is freed as it is (3.0: the decoder's copies);
 * a test looks for the key in the memory of workers for mail hosts. */
#include "tlsrelayd/heap.h"

#include <errno.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define RECORD 16384 /* a block that can hold one is a buffer of OpenSSL's, opened records in it */

static bool relaxed;

static void *heap_malloc(size_t n, const char *file, int line)
{
	(void)file;
	(void)line;
	return malloc(n);
}

static void heap_free(void *p, const char *file, int line)
{
	(void)file;
	(void)line;
	size_t n = p ? malloc_usable_size(p) : 0;

	if (n > 0 && (!relaxed || n >= RECORD))
		explicit_bzero(p, n);
	free(p);
}

static void *heap_realloc(void *p, size_t n, const char *file, int line)
{
	if (!p || relaxed)
		return realloc(p, n);
	size_t had = malloc_usable_size(p);
	void *fresh = n > 0 ? malloc(n) : NULL;

	if (fresh)
		memcpy(fresh, p, had < n ? had : n);
	if (fresh || n == 0)
		heap_free(p, file, line);
	return fresh;
}

int heap_setup(void)
{
	return CRYPTO_set_mem_functions(heap_malloc, heap_realloc, heap_free) == 1 ? 0 : -EBUSY;
}

void heap_relax(void)
{
	relaxed = true;
}
