/* Capability lists after login.
 *
 * The accounts of a mail host mostly have one list, of a kilobyte perhaps: equal lists are shared.
 * Which two are compared is decided by a hash that anybody can compute; who provokes collisions
 * makes the broker share less, up to one list a slot.
 */
#include "cachebrokerd/lists.h"

#include <stdlib.h>

struct list {
	unsigned users;
	size_t length;
	char text[];
};

struct lists {
	struct {
		struct key key;
		struct list *list; /* NULL: an empty slot */
	} slots[LISTS_SLOTS];
	struct list *distinct[LISTS_DISTINCT];
};

struct lists *lists_new(void)
{
	return calloc(1, sizeof(struct lists));
}

static void leave(struct list *one)
{
	if (one && --one->users == 0)
		free(one);
}

void lists_free(struct lists *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < LISTS_SLOTS; i++)
		leave(l->slots[i].list);
	for (size_t i = 0; i < LISTS_DISTINCT; i++)
		leave(l->distinct[i]);
	free(l);
}

static size_t slot_of(const struct key *key)
{
	uint32_t n;

	memcpy(&n, key->bytes, sizeof(n));
	return n % LISTS_SLOTS;
}

static struct span text_of(const struct list *one)
{
	return (struct span){ one->text, one->length };
}

static size_t hash_of(struct span text)
{
	size_t hash = 5381;

	for (size_t i = 0; i < text.n; i++)
		hash = hash * 33 + (unsigned char)text.p[i];
	return hash;
}

/* The list with this text, with one user more: the caller. NULL: no memory. */
static struct list *share(struct lists *l, struct span text)
{
	struct list **known = &l->distinct[hash_of(text) % LISTS_DISTINCT];

	if (!*known || !span_eq(text_of(*known), text)) {
		struct list *one = malloc(sizeof(*one) + text.n);

		if (!one)
			return NULL;
		one->users = 1;
		one->length = text.n;
		memcpy(one->text, text.p, text.n);
		leave(*known);
		*known = one;
	}
	(*known)->users++;
	return *known;
}

struct span lists_find(const struct lists *l, const struct key *key)
{
	size_t i = slot_of(key);

	if (!l->slots[i].list || !key_same(&l->slots[i].key, key))
		return SPAN_NONE;
	return text_of(l->slots[i].list);
}

void lists_note(struct lists *l, const struct key *key, struct span text)
{
	size_t i = slot_of(key);
	struct list *one = text.n > 0 ? share(l, text) : NULL;

	if (!one)
		return;
	leave(l->slots[i].list);
	l->slots[i].key = *key;
	l->slots[i].list = one;
}
