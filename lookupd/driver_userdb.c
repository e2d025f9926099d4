/* userdb: Courier's text file, or a tree of such files, as it is: makeuserdb is not needed.
 *
 * All of it is kept in memory: the text, and a table of names that point into it. It is looked at
 * once a second and read again when it has changed and is still; what cannot be read, or has a name
 * twice (makeuserdb refuses that, too), or ends in the middle of a line, is not taken: the accounts
 * of before stay, since a file that is being written must make nobody unknown.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "lib/clock.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "lookupd/drivers.h"
#include "lookupd/filewatch.h"
#include "lookupd/textline.h"

#define FILE_BYTES_MOST (1u << 30)
#define LOOK_MS		1000

struct text {
	struct text *next;
	size_t length;
	char data[];
};

struct record {
	struct span name, fields; /* in a text */
	UT_hash_handle hh;
};

struct table {
	struct text *texts;
	struct record *records;
};

struct userdb {
	char *path;
	struct table table;
	struct filewatch read, refused; /* what was read last, or could not be */
	bool filled;
	int64_t look_at; /* monotonic ms */
};

static void empty(struct table *t)
{
	struct record *r, *next;

	HASH_ITER(hh, t->records, r, next)
	{
		HASH_DEL(t->records, r);
		free(r);
	}
	while (t->texts) {
		struct text *text = t->texts;

		t->texts = text->next;
		explicit_bzero(text->data, text->length);
		free(text);
	}
}

static int add_record(struct table *t, struct span name, struct span fields)
{
	struct record *r;

	HASH_FIND(hh, t->records, name.p, name.n, r);
	if (r)
		return -EEXIST;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->name = name;
	r->fields = fields;
	HASH_ADD_KEYPTR(hh, t->records, r->name.p, r->name.n, r);
	if (r->hh.tbl)
		return 0;
	free(r);
	return -ENOMEM;
}

static int read_text(const char *path, struct text **ret)
{
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	ssize_t n = 0;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size > FILE_BYTES_MOST)
		return -EFBIG;
	struct text *text = malloc(sizeof(*text) + (size_t)st.st_size);

	if (!text)
		return -ENOMEM;
	for (text->length = 0; text->length < (size_t)st.st_size; text->length += (size_t)n) {
		n = read(fd, text->data + text->length, (size_t)st.st_size - text->length);
		if (n <= 0)
			break;
	}
	if (n < 0 || text->length < (size_t)st.st_size) { /* or it was cut while we read */
		free(text);
		return n < 0 ? -errno : -EAGAIN;
	}
	*ret = text;
	return 0;
}

struct reading {
	struct table *table;
	struct why *why;
};

static int read_file(void *context, const char *path)
{
	struct reading *reading = context;
	struct text *text = NULL;
	unsigned line_number = 0;
	int r = read_text(path, &text);

	if (r < 0 || !text) {
		why_say(reading->why, "%s: %s", path, strerror(-r));
		return r;
	}
	text->next = reading->table->texts;
	reading->table->texts = text;
	for (struct span rest = { text->data, text->length }, name, fields; r == 0 && rest.n > 0;) {
		const char *end = memchr(rest.p, '\n', rest.n);
		const struct span line = { rest.p, end ? (size_t)(end - rest.p) : 0 };

		line_number++;
		if (!end)
			r = -EAGAIN; /* the rest of the line is still to come */
		else if (textline_userdb(line, &name, &fields) > 0)
			r = add_record(reading->table, name, fields);
		rest = span_from(rest, line.n + 1);
	}
	if (r < 0)
		why_say(reading->why, "%s:%u: %s", path, line_number,
			r == -EEXIST   ? "the name is there twice"
			: r == -EAGAIN ? "the line is not finished"
				       : strerror(-r));
	return r;
}

/* Reads it all; the old table is replaced only by a good one. */
static int read_all(struct userdb *u, struct filewatch *seen, struct why *why)
{
	struct table fresh = { NULL, NULL };
	struct reading reading = { &fresh, why };
	int r = filewatch_look(u->path, seen, read_file, &reading, why);

	if (r < 0) {
		empty(&fresh);
		u->refused = *seen;
		return r;
	}
	empty(&u->table);
	u->table = fresh;
	u->read = *seen;
	u->filled = true;
	return 0;
}

/* Brings the table up to date, now and then. 0, or -errno when there is none. */
static int refresh(struct userdb *u, struct why *why)
{
	const int64_t now_ms = clock_ms();
	struct filewatch seen;
	int r;

	if (u->filled && now_ms < u->look_at)
		return 0;
	u->look_at = now_ms + LOOK_MS;
	if (!u->filled)
		return read_all(u, &seen, why);
	r = filewatch_look(u->path, &seen, NULL, NULL, why);
	if (r == 0 && (seen.digest == u->read.digest || !filewatch_is_still(&seen)))
		return 0;
	if (seen.digest == u->refused.digest)
		return 0; /* said already */
	if (r == 0)
		r = read_all(u, &seen, why);
	u->refused = r < 0 ? seen : (struct filewatch){ .digest = 0 };
	if (r < 0)
		log_printf(LOG_ERR, "userdb: going on with the accounts of before: %s", why->text);
	else
		log_printf(LOG_NOTICE, "userdb: %s was read again, %u accounts", u->path,
			   HASH_COUNT(u->table.records));
	return 0;
}

static void close_userdb(void *source)
{
	struct userdb *u = source;

	empty(&u->table);
	free(u->path);
	free(u);
}

static int open_userdb(const char *place, const struct config *c, void **ret, struct why *why)
{
	struct filewatch seen;
	int r = filewatch_look(place, &seen, NULL, NULL, why);

	(void)c;
	if (r < 0)
		return r;
	struct userdb *u = calloc(1, sizeof(*u));

	if (u)
		u->path = strdup(place);
	if (!u || !u->path) {
		free(u);
		why_say(why, "out of memory");
		return -ENOMEM;
	}
	*ret = u;
	return 0;
}

static enum found find_userdb(void *source, const struct driver_question *q, struct account *ret,
			      struct why *why)
{
	struct userdb *u = source;
	struct record *found = NULL;

	if (refresh(u, why) < 0)
		return FOUND_DOWN;
	HASH_FIND(hh, u->table.records, q->user.p, q->user.n, found);
	if (!found)
		return FOUND_NOT;
	switch (textline_userdb_account(found->fields, q->service, ret)) {
	case 0:
		return FOUND_NOT;
	case 1:
		return FOUND;
	default:
		why_say(why, "%s: the account's record is wrong (hosts, or a value's length)",
			u->path);
		return FOUND_TROUBLE;
	}
}

const struct driver driver_userdb = { "userdb", open_userdb, find_userdb, close_userdb };
