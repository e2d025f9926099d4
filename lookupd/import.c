/* Importing accounts. Whatever is wrong in the text, a line that ends in the middle included, ends
 * the import, and the table of before stays: a broken export must not make accounts unknown.
 */
#include "lookupd/import.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "lib/config_directory.h"
#include "lookupd/accountsdb.h"
#include "lookupd/textline.h"

#define COLUMNS_MOST 32
#define LINE_MOST    65536

enum column {
	COLUMN_OTHER,
	COLUMN_USER,
	COLUMN_HOST,
	COLUMN_LOGIN,
	COLUMN_PASSWORD,
	COLUMN_HASH,
	COLUMN_OPTIONS
};

struct import {
	struct accountsdb *table;
	struct why why;
	unsigned long line_number, accounts;
	int (*add_line)(struct import *, struct span line); /* 0 or -errno and why */
	enum column columns[COLUMNS_MOST];
	int column_count;
	bool ended;    /* a line said that there are no more */
	bool must_end; /* such a line must come */
};

static const struct {
	struct span name;
	enum column column;
} column_names[] = {
	{ SPAN("user"), COLUMN_USER },	 { SPAN("mailhost"), COLUMN_HOST },
	{ SPAN("login"), COLUMN_LOGIN }, { SPAN("password"), COLUMN_PASSWORD },
	{ SPAN("hash"), COLUMN_HASH },	 { SPAN("options"), COLUMN_OPTIONS },
};

static int wrong(struct import *i, const char *what)
{
	why_say(&i->why, "%s", what);
	return -EINVAL;
}

static int add_field(struct buf *out, const char *name, const char *value)
{
	if (!*value)
		return 0;
	return buf_add_str(out, name) || buf_add_char(out, '=') || buf_add_str(out, value) ||
			       buf_add_char(out, '\n')
		       ? -ENOBUFS
		       : 0;
}

static int add_hmacs(struct buf *out, const struct account *a)
{
	char name[20];
	int r = 0;

	for (size_t i = 0; r == 0 && i < HMACS; i++) {
		(void)snprintf(name, sizeof(name), "HMAC-%s", account_hmac_name(i));
		r = add_field(out, name, a->hmac[i]);
	}
	return r;
}

/* A hash of POP3's own. An empty one counts as well: with POP3 the account has no password then. */
static int add_own_hash(struct buf *out, const struct account *pop3)
{
	return buf_add_str(out, ACCOUNTSDB_HASH_OF "pop3=") || buf_add_str(out, pop3->hash) ||
	       buf_add_char(out, '\n');
}

/* A checked record goes into the table; pop3: where that service has another hash, else NULL. */
static int store(struct import *i, struct span name, const struct account *a,
		 const struct account *pop3)
{
	char lines[ACCOUNTSDB_RECORD_MAX];
	struct buf out = BUF_OVER(lines);
	bool renamed = !span_eq(name, span_str(a->user));
	int r = add_hmacs(&out, a) || add_field(&out, "ADDRESS", renamed ? a->user : "") ||
				add_field(&out, "PASSWD", a->hash) ||
				(pop3 && add_own_hash(&out, pop3)) ||
				add_field(&out, "PASSWD2", a->password) ||
				add_field(&out, "OPTIONS", a->options)
			? wrong(i, "the record is too long")
			: accountsdb_add(i->table, name, buf_span(&out), &i->why);

	buf_wipe(&out);
	i->accounts += r == 0;
	return r;
}

static int begin_account(struct import *i, struct account *a, struct span name)
{
	for (size_t n = 0; n < name.n; n++)
		if ((unsigned char)name.p[n] < ' ' || name.p[n] == 0x7f)
			return wrong(i, "the name has control characters in it");
	return name.n == 0 || account_init(a, name) < 0 ? wrong(i, "the name is empty or too long")
							: 0;
}

static int add_userdb(struct import *i, struct span line)
{
	struct account a, pop3;
	struct span name, fields;

	if (textline_userdb(line, &name, &fields) == 0)
		return 0;
	int r = begin_account(i, &a, name) || begin_account(i, &pop3, name) ? -EINVAL : 0;

	if (r == 0) {
		/* what has no uid, gid or home is no account: for Courier neither */
		int kind = textline_userdb_account(fields, "imap", &a);
		bool good = kind >= 0 && textline_userdb_account(fields, "pop3", &pop3) >= 0;
		bool differs = strcmp(a.hash, pop3.hash) != 0;

		r = !good      ? wrong(i, "a value of the account is wrong")
		    : kind > 0 ? store(i, name, &a, differs ? &pop3 : NULL)
			       : 0;
	}
	account_wipe(&a);
	account_wipe(&pop3);
	return r;
}

static int add_enumerated(struct import *i, struct span line)
{
	struct account a;
	struct span name, options;

	i->ended = span_eq(line, SPAN(".")) || span_eq(line, SPAN(".\r"));
	if (textline_enumerated(line, &name, &options) == 0)
		return 0;
	int r = begin_account(i, &a, name);

	if (r == 0)
		r = account_add_options(&a, options) < 0 ? wrong(i, "the options are wrong")
							 : store(i, name, &a, NULL);
	return r;
}

static int set_column(struct account *a, enum column column, struct span value)
{
	char option[ACCOUNT_OPTIONS_MAX];
	struct buf text = BUF_OVER(option);

	switch (column) {
	case COLUMN_LOGIN:
		return account_set_user(a, value);
	case COLUMN_PASSWORD:
		return account_set_password(a, value);
	case COLUMN_HASH:
		return account_set_hash(a, value);
	case COLUMN_OPTIONS:
		return account_add_options(a, value);
	case COLUMN_HOST:
		if (value.n == 0)
			return 0;
		if (memchr(value.p, ',', value.n) || buf_add_str(&text, "mailhost=") ||
		    buf_add(&text, value))
			return -EINVAL;
		return account_add_options(a, buf_span(&text));
	default:
		return 0;
	}
}

static int add_csv(struct import *i, struct span line)
{
	static char room[LINE_MOST];
	struct span values[COLUMNS_MOST], name = SPAN_NONE;
	struct account a;

	if (line.n == 0 || line.p[0] == '#')
		return 0;
	int count = textline_csv(line, room, values, COLUMNS_MOST);

	if (count != i->column_count)
		return wrong(i, "the line has not as many columns as the first, or wrong quotes");
	for (int n = 0; n < count; n++)
		if (i->columns[n] == COLUMN_USER)
			name = values[n];
	int r = begin_account(i, &a, name);

	for (int n = 0; r == 0 && n < count; n++)
		if (set_column(&a, i->columns[n], values[n]) < 0)
			r = wrong(i, "a value of the account is wrong");
	if (r == 0)
		r = store(i, name, &a, NULL);
	account_wipe(&a);
	explicit_bzero(room, line.n);
	return r;
}

static int read_header(struct import *i, struct span line)
{
	static char room[LINE_MOST];
	struct span names[COLUMNS_MOST];
	const struct span mark = SPAN("\xef\xbb\xbf"); /* some programs' sign of UTF-8 */
	int users = 0;

	if (span_istarts(line, mark))
		line = span_from(line, mark.n);
	i->column_count = textline_csv(line, room, names, COLUMNS_MOST);
	for (int n = 0; n < i->column_count; n++) {
		i->columns[n] = COLUMN_OTHER;
		for (size_t k = 0; k < sizeof(column_names) / sizeof(column_names[0]); k++)
			if (span_ieq(names[n], column_names[k].name))
				i->columns[n] = column_names[k].column;
		if (i->columns[n] == COLUMN_OTHER)
			return wrong(i, "the first line names a column that is none of user, "
					"mailhost, login, password, hash, options");
		users += i->columns[n] == COLUMN_USER;
	}
	i->add_line = add_csv;
	return users == 1 ? 0 : wrong(i, "the first line does not name the column user");
}

/* The first line that is no comment shows what the text is. */
static int begin_text(struct import *i, struct span line)
{
	const char *tab = memchr(line.p, '\t', line.n);

	if (span_eq(line, SPAN("# authuserdb")))
		i->add_line = add_enumerated;
	if (i->add_line == NULL && (line.n == 0 || line.p[0] == '#'))
		return 0;
	if (i->add_line == NULL && !tab && !span_eq(line, SPAN(".")))
		return read_header(i, line);
	if (i->add_line == NULL)
		i->add_line =
			tab && memchr(tab, '=', line.n - (size_t)(tab - line.p)) &&
					!memchr(tab + 1, '\t', line.n - (size_t)(tab + 1 - line.p))
				? add_userdb
				: add_enumerated;
	i->must_end = i->add_line == add_enumerated;
	return i->add_line(i, line);
}

static int read_lines(struct import *i, FILE *file)
{
	char *line = NULL;
	size_t room = 0;
	ssize_t n;
	int r = 0;

	while (r == 0 && !i->ended && (n = getline(&line, &room, file)) > 0) {
		const struct span text = { line, (size_t)n - 1 };

		i->line_number++;
		if (line[n - 1] != '\n')
			r = wrong(i, "the line is not finished");
		else if (n > LINE_MOST)
			r = wrong(i, "the line is too long");
		else
			r = i->add_line ? i->add_line(i, text) : begin_text(i, text);
	}
	if (line)
		explicit_bzero(line, room);
	free(line);
	if (r == 0 && ferror(file))
		r = wrong(i, "it cannot be read");
	if (r == 0 && i->must_end && !i->ended)
		r = wrong(i, "the answer is not whole: it ends without a single dot");
	if (r == 0 && i->accounts == 0)
		r = wrong(i, "there is no account in it");
	return r;
}

static const char *find_place(const struct config *c)
{
	struct span kind;
	const char *place;

	for (size_t i = 0; i < c->directory.count; i++)
		if (!config_directory_split(c->directory.items[i], &kind, &place) &&
		    span_eq(kind, SPAN("lmdb")))
			return place;
	return NULL;
}

/* The service shall read what root makes, and nobody else: its group may see statistics, but no
 * hashes of passwords. */
static int owner_of(const struct config *c)
{
	const struct passwd *user = geteuid() == 0 ? getpwnam(c->proc_username) : NULL;

	return user ? (int)user->pw_uid : -1;
}

int import_accounts(const struct config *c, const char *file)
{
	struct import i = { .line_number = 0 };
	const char *place = find_place(c);
	bool is_input = strcmp(file, "-") == 0;
	int r;

	if (!place) {
		(void)fprintf(stderr, "lookupd: the configuration has no directory lmdb:PATH\n");
		return 1;
	}
	FILE *in = is_input ? stdin : fopen(file, "re");

	if (!in) {
		(void)fprintf(stderr, "lookupd: %s: %s\n", file, strerror(errno));
		return 1;
	}
	r = accountsdb_begin(place, owner_of(c), &i.table, &i.why);
	if (r == 0) {
		r = read_lines(&i, in);
		if (r < 0)
			accountsdb_abandon(i.table);
		else
			r = accountsdb_finish(i.table, &i.why);
	}
	if (!is_input)
		(void)fclose(in);
	if (r < 0)
		(void)fprintf(stderr, "lookupd: %s:%lu: %s\n", file, i.line_number, i.why.text);
	else
		(void)printf("%lu accounts are in %s\n", i.accounts, place);
	return r < 0 ? 1 : 0;
}
