/* mysql: MySQL and MariaDB, by an authmysqlrc as it is. One connection, kept; a query that finds it
 * dead is asked once more on a new one. The first row counts.
 */
#include <errno.h>
#include <mysql.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/clock.h"
#include "lookupd/drivers.h"
#include "lookupd/sqlquery.h"

#define PREFIX		"MYSQL_"
#define CONNECT_SECONDS 2
#define ANSWER_SECONDS	3
#define ROWS_MOST	1000
#define GONE_FIRST	2000 /* errors of the client's own, the connection's end among them */
#define GONE_LAST	2999

struct mysql {
	struct authrc rc;
	MYSQL conn;
	bool connected;
};

static void drop(struct mysql *m)
{
	if (m->connected)
		mysql_close(&m->conn);
	m->connected = false;
}

static void close_mysql(void *source)
{
	struct mysql *m = source;

	drop(m);
	authrc_wipe(&m->rc);
	free(m);
}

static int open_mysql(const char *place, const struct config *c, void **ret, struct why *why)
{
	struct mysql *m = calloc(1, sizeof(*m));

	(void)c;
	if (!m)
		return -ENOMEM;
	int r = authrc_read(place, &m->rc, why);

	if (r == 0)
		r = sql_check(&m->rc, PREFIX, why);
	if (r < 0) {
		close_mysql(m);
		return r;
	}
	*ret = m;
	return 0;
}

/* A setting, or NULL when it is empty. */
static const char *given(const struct mysql *m, const char *name)
{
	const char *value = authrc_get(&m->rc, name, "");

	return *value ? value : NULL;
}

/* The documentation says CIPHERS, the program reads CIPHER. */
static const char *cipher(const struct mysql *m)
{
	const char *value = given(m, "MYSQL_SSL_CIPHER");

	return value ? value : given(m, "MYSQL_SSL_CIPHERS");
}

/* Whoever names keys or authorities wants TLS. */
static bool wants_tls(const struct mysql *m)
{
	return given(m, "MYSQL_SSL_KEY") || given(m, "MYSQL_SSL_CERT") ||
	       given(m, "MYSQL_SSL_CACERT") || given(m, "MYSQL_SSL_CAPATH") || cipher(m);
}

static void set_options(struct mysql *m)
{
	const unsigned connecting = CONNECT_SECONDS, answering = ANSWER_SECONDS, no = 0;
	const char *charset = given(m, "MYSQL_CHARACTER_SET");

	(void)mysql_options(&m->conn, MYSQL_OPT_CONNECT_TIMEOUT, &connecting);
	(void)mysql_options(&m->conn, MYSQL_OPT_READ_TIMEOUT, &answering);
	(void)mysql_options(&m->conn, MYSQL_OPT_WRITE_TIMEOUT, &answering);
	/* A server must not ask for our files. */
	(void)mysql_options(&m->conn, MYSQL_OPT_LOCAL_INFILE, &no);
	if (charset)
		(void)mysql_options(&m->conn, MYSQL_SET_CHARSET_NAME, charset);
	if (wants_tls(m))
		(void)mysql_ssl_set(&m->conn, given(m, "MYSQL_SSL_KEY"), given(m, "MYSQL_SSL_CERT"),
				    given(m, "MYSQL_SSL_CACERT"), given(m, "MYSQL_SSL_CAPATH"),
				    cipher(m));
}

static int connect_to(struct mysql *m, struct why *why)
{
	unsigned long flags = (unsigned long)authrc_number(&m->rc, "MYSQL_OPT", 0);

	if (!mysql_init(&m->conn)) {
		why_say(why, "out of memory");
		return -ENOMEM;
	}
	m->connected = true; /* as far as mysql_close() is concerned */
	set_options(m);
	flags &= ~(unsigned long)(CLIENT_MULTI_STATEMENTS | CLIENT_LOCAL_FILES);
	bool good = mysql_real_connect(&m->conn, given(m, "MYSQL_SERVER"),
				       given(m, "MYSQL_USERNAME"), given(m, "MYSQL_PASSWORD"),
				       given(m, "MYSQL_DATABASE"),
				       (unsigned)authrc_number(&m->rc, "MYSQL_PORT", 0),
				       given(m, "MYSQL_SOCKET"), flags) != NULL;

	/* To a server without TLS the library goes on in the clear, whatever files it was given. */
	if (good && (!wants_tls(m) || mysql_get_ssl_cipher(&m->conn)))
		return 0;
	why_say(why, "%s",
		good ? "the server has no TLS, which MYSQL_SSL_... asks for"
		     : mysql_error(&m->conn));
	drop(m);
	return -ENOTCONN;
}

static int quote(void *context, struct span text, struct buf *out)
{
	struct mysql *m = context;
	char quoted[2 * ACCOUNT_USER_MAX + 1];

	if (text.n > ACCOUNT_USER_MAX)
		return -EINVAL;
	unsigned long n = mysql_real_escape_string(&m->conn, quoted, text.p, text.n);

	return n == (unsigned long)-1 ? -EILSEQ : buf_add(out, (struct span){ quoted, n });
}

static enum found judge_error(struct mysql *m, struct why *why)
{
	unsigned number = mysql_errno(&m->conn);

	why_say(why, "%s", mysql_error(&m->conn));
	return number >= GONE_FIRST && number <= GONE_LAST ? FOUND_DOWN : FOUND_TROUBLE;
}

/* It may hold a password, and lies where the library has read it into. */
static void wipe_row(MYSQL_RES *result, MYSQL_ROW row)
{
	const unsigned long *lengths = mysql_fetch_lengths(result);

	for (unsigned i = 0; lengths && i < mysql_num_fields(result); i++)
		if (row[i])
			explicit_bzero(row[i], lengths[i]);
}

static bool skip_row(MYSQL_RES *result)
{
	MYSQL_ROW row = mysql_fetch_row(result);

	if (row)
		wipe_row(result, row);
	return row != NULL;
}

static enum found read_answer(struct mysql *m, MYSQL_RES *result, struct account *ret,
			      struct why *why)
{
	struct span columns[SQL_COLUMNS];
	MYSQL_ROW row = mysql_fetch_row(result);
	const unsigned long *lengths = row ? mysql_fetch_lengths(result) : NULL;
	size_t count = mysql_num_fields(result);
	unsigned rows = 0;

	if (!row)
		return mysql_errno(&m->conn) ? judge_error(m, why) : FOUND_NOT;
	if (!lengths)
		return judge_error(m, why);
	if (count > SQL_COLUMNS)
		count = SQL_COLUMNS;
	for (size_t i = 0; i < count; i++)
		columns[i] =
			row[i] ? (struct span){ row[i], lengths[i] } : (struct span){ NULL, 0 };
	enum found found = sql_account(columns, count, ret, why);

	wipe_row(result, row);
	while (skip_row(result) && rows < ROWS_MOST)
		rows++;
	if (rows < ROWS_MOST)
		return found;
	why_say(why, "the answer has too many rows");
	return FOUND_DOWN;
}

static enum found ask(struct mysql *m, const char *service, struct span user, struct account *ret,
		      struct why *why)
{
	static char data[SQL_QUERY_MAX];
	struct buf query = BUF_OVER(data);
	int r = sql_build(&m->rc, PREFIX, service, user, quote, m, &query);

	if (r == -EILSEQ)
		return FOUND_NOT;
	if (r < 0) {
		why_say(why, "the query is too long");
		return FOUND_TROUBLE;
	}
	if (mysql_real_query(&m->conn, data, query.len) != 0)
		return judge_error(m, why);
	MYSQL_RES *result = mysql_use_result(&m->conn);

	if (!result) {
		why_say(why, "the query gives no rows");
		return mysql_errno(&m->conn) ? judge_error(m, why) : FOUND_TROUBLE;
	}
	enum found found = read_answer(m, result, ret, why);

	if (found == FOUND_DOWN)
		/* mysql_free_result() would read the rest of the rows */
		(void)shutdown(mysql_get_socket(&m->conn), SHUT_RDWR);
	mysql_free_result(result);
	return found;
}

static enum found find_mysql(void *source, const struct driver_question *q, struct account *ret,
			     struct why *why)
{
	struct mysql *m = source;
	const struct account empty = *ret;

	for (bool had_one = true; had_one;) {
		had_one = m->connected;
		if (!had_one && connect_to(m, why) < 0)
			return FOUND_DOWN;
		const int64_t began = clock_ms();
		enum found found = ask(m, q->service, q->user, ret, why);

		if (found != FOUND_DOWN)
			return found;
		drop(m);
		*ret = empty;
		if (clock_ms() - began > 1000) /* it is not dead, it is slow */
			return FOUND_DOWN;
	}
	return FOUND_DOWN;
}

const struct driver driver_mysql = { "mysql", open_mysql, find_mysql, close_mysql };
