/* Connections by address. What an address has is counted with and without a bound, so that a reload
 * that sets one finds all that are there. */
#include "cachebrokerd/perip.h"

#include <stdlib.h>
#include <string.h>

/* Without memory nobody is let in; uthash would exit. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct name {
	uint32_t service;
	char address[65];
};

struct entry {
	struct name name;
	uint32_t count;
	UT_hash_handle hh;
};

struct perip {
	struct entry *all;
};

struct perip *perip_new(void)
{
	return calloc(1, sizeof(struct perip));
}

void perip_free(struct perip *p)
{
	struct entry *e, *next;

	if (!p)
		return;
	HASH_ITER(hh, p->all, e, next) {
		HASH_DEL(p->all, e);
		free(e);
	}
	free(p);
}

/* Every byte of it counts in the table. */
static void set_name(struct name *to, uint32_t service, const char *address)
{
	size_t n = strnlen(address, sizeof(to->address) - 1);

	memset(to, 0, sizeof(*to));
	to->service = service;
	memcpy(to->address, address, n);
}

static struct entry *find(const struct perip *p, const struct name *name)
{
	struct entry *e;

	HASH_FIND(hh, p->all, name, sizeof(*name), e);
	return e;
}

bool perip_join(struct perip *p, uint32_t service, const char *address, uint32_t most)
{
	struct name name;

	set_name(&name, service, address);
	struct entry *e = find(p, &name);

	if (e && most > 0 && e->count >= most)
		return false;
	if (!e) {
		e = calloc(1, sizeof(*e));
		if (!e)
			return false; /* a moment in which nobody can be served anyway */
		e->name = name;
		HASH_ADD(hh, p->all, name, sizeof(e->name), e);
		if (!find(p, &name)) {
			free(e);
			return false;
		}
	}
	e->count++;
	return true;
}

void perip_leave(struct perip *p, uint32_t service, const char *address)
{
	struct name name;

	set_name(&name, service, address);
	struct entry *e = find(p, &name);

	if (!e || --e->count > 0)
		return;
	HASH_DEL(p->all, e);
	free(e);
}
