/* Tags of the proxy's own commands. */
#include "proxyd/tag.h"

#include <stdlib.h>
#include <sys/random.h>

struct tag tag_random(void)
{
	static const char hex[] = "0123456789abcdef";
	unsigned char random[8];
	struct tag t = { .text = "K" };

	/* 8 bytes are never cut short once the pool is initialised (getrandom(2)) */
	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		abort();
	for (size_t i = 0; i < sizeof(random); i++) {
		t.text[1 + 2 * i] = hex[random[i] >> 4];
		t.text[2 + 2 * i] = hex[random[i] & 15];
	}
	return t;
}

bool tag_completes(const struct tag *t, struct span line, struct span *ret)
{
	if (line.n <= sizeof(t->text) || line.p[sizeof(t->text)] != ' ' ||
	    memcmp(line.p, t->text, sizeof(t->text)) != 0)
		return false;
	*ret = span_from(line, sizeof(t->text) + 1);
	return true;
}
