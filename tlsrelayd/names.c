/* Names of certificates in a uthash table, in lower case. A client chooses what is looked up here;
 * the table itself comes from the administrator's files. */
#include "tlsrelayd/names.h"

#include <errno.h>
#include <stdlib.h>
#include <uthash.h>

#define NAME_LONGEST 255

struct row {
	UT_hash_handle hh;
	size_t which;
	char name[];
};

struct names {
	struct row *rows;
};

struct names *names_new(void)
{
	return calloc(1, sizeof(struct names));
}

void names_free(struct names *n)
{
	struct row *row, *next;

	if (!n)
		return;
	HASH_ITER (hh, n->rows, row, next) {
		HASH_DEL(n->rows, row);
		free(row);
	}
	free(n);
}

/* Copies a host name in lower case, without a dot at its end. Returns its length, 0 for none. */
static size_t normalize(struct span name, char *to)
{
	if (name.n > 0 && name.p[name.n - 1] == '.')
		name.n--;
	if (name.n > NAME_LONGEST)
		return 0;
	for (size_t i = 0; i < name.n; i++) {
		char c = name.p[i];

		if (c <= ' ' || c >= 0x7f)
			return 0;
		to[i] = c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
	}
	return name.n;
}

int names_add(struct names *n, struct span name, size_t which)
{
	char text[NAME_LONGEST];
	size_t length = normalize(name, text);
	struct row *row = NULL;

	if (length == 0)
		return 0;
	HASH_FIND(hh, n->rows, text, (unsigned)length, row);
	if (row)
		return 0;
	row = calloc(1, sizeof(*row) + length + 1);
	if (!row)
		return -ENOMEM;
	memcpy(row->name, text, length);
	row->which = which;
	HASH_ADD_KEYPTR(hh, n->rows, row->name, (unsigned)length, row);
	return 0;
}

size_t names_find(const struct names *n, struct span name)
{
	char text[NAME_LONGEST];
	size_t length = normalize(name, text);
	struct row *row = NULL;

	if (length == 0 || memchr(text, '*', length))
		return 0;
	HASH_FIND(hh, n->rows, text, (unsigned)length, row);
	if (row)
		return row->which;
	const char *dot = memchr(text, '.', length);

	if (!dot || dot == text)
		return 0;
	/* the first label becomes a star, in its place */
	size_t cut = (size_t)(dot - text) - 1;

	text[cut] = '*';
	HASH_FIND(hh, n->rows, text + cut, (unsigned)(length - cut), row);
	return row ? row->which : 0;
}
