/* Passwords kept for a moment: places of one mapping of their own.
 *
 * A place is handed out again as soon as it is free, the last one first, so that few pages are ever
 * touched. Without MADV_DONTDUMP nothing is kept: the caller then proves the password otherwise.
 */
#include "cachebrokerd/secrets.h"

#include <string.h>
#include <sys/mman.h>

#define PLACE 8192 /* the longest secret of a LEASE */

struct secret {
	struct secret *next_free;
	size_t length;
	char *bytes;
};

static struct secret places[SECRETS_MOST];
static struct secret *first_free;
static char *memory;

static bool have_memory(void)
{
	size_t size = (size_t)SECRETS_MOST * PLACE;

	if (memory)
		return true;
	char *fresh = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (fresh == MAP_FAILED)
		return false;
	if (madvise(fresh, size, MADV_DONTDUMP) < 0) {
		(void)munmap(fresh, size);
		return false;
	}
	(void)mlock2(fresh, size, MLOCK_ONFAULT); /* RLIMIT_MEMLOCK may not allow it */
	memory = fresh;
	for (size_t i = SECRETS_MOST; i-- > 0;) {
		places[i].bytes = memory + i * PLACE;
		places[i].next_free = first_free;
		first_free = &places[i];
	}
	return true;
}

struct secret *secret_keep(struct span value)
{
	if (value.n > PLACE || !have_memory() || !first_free)
		return NULL;
	struct secret *s = first_free;

	first_free = s->next_free;
	s->length = value.n;
	if (value.n > 0)
		memcpy(s->bytes, value.p, value.n);
	return s;
}

struct span secret_span(const struct secret *s)
{
	return (struct span){ s->bytes, s->length };
}

void secret_wipe(struct secret **s)
{
	if (!*s)
		return;
	explicit_bzero((*s)->bytes, (*s)->length);
	(*s)->length = 0;
	(*s)->next_free = first_free;
	first_free = *s;
	*s = NULL;
}
