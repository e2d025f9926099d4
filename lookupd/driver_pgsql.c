/* pgsql: PostgreSQL, by an authpgsqlrc as it is. One connection, kept; a query that finds it dead
 * is asked once more on a new one. Only the first row counts, as for courier-authlib, and only so
 * many others are read away.
 */
#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lookupd/drivers.h"
#include "lookupd/sqlquery.h"

#define PREFIX		"PGSQL_"
#define CONNECT_SECONDS "2"
#define ROWS_MOST	1000

struct pgsql {
	struct authrc rc;
	PGconn *conn; /* NULL: none */
};

static void drop(struct pgsql *p)
{
	PQfinish(p->conn);
	p->conn = NULL;
}

static void close_pgsql(void *source)
{
	struct pgsql *p = source;

	drop(p);
	authrc_wipe(&p->rc);
	free(p);
}

/* libpq takes what has neither a = nor a scheme for the name of a database. Its own text about a
 * string that it cannot read quotes parts of it, which may be of the password: it is not told. */
static int check_connection(const char *place, const char *text, struct why *why)
{
	PQconninfoOption *options = NULL;
	char *problem = NULL;

	if (!text) {
		why_say(why, "%s: PGSQL_CONNECTION is missing", place);
		return -EINVAL;
	}
	if (!strchr(text, '=') && strncmp(text, "postgres", strlen("postgres")) != 0)
		return 0;
	options = PQconninfoParse(text, &problem);
	if (problem)
		explicit_bzero(problem, strlen(problem));
	PQfreemem(problem);
	if (!options) {
		why_say(why,
			"%s: PGSQL_CONNECTION is no connection string: NAME=VALUE with blanks in "
			"between, values with blanks within single quotes",
			place);
		return -EINVAL;
	}
	for (PQconninfoOption *o = options; o->keyword; o++)
		if (o->val)
			explicit_bzero(o->val, strlen(o->val));
	PQconninfoFree(options);
	return 0;
}

static int open_pgsql(const char *place, const struct config *c, void **ret, struct why *why)
{
	struct pgsql *p = calloc(1, sizeof(*p));

	(void)c;
	if (!p)
		return -ENOMEM;
	int r = authrc_read(place, &p->rc, why);

	if (r == 0)
		r = check_connection(place, authrc_get(&p->rc, "PGSQL_CONNECTION", NULL), why);
	if (r == 0)
		r = sql_check(&p->rc, PREFIX, why);
	if (r < 0) {
		close_pgsql(p);
		return r;
	}
	*ret = p;
	return 0;
}

static int connect_to(struct pgsql *p, struct why *why)
{
	const char *const names[] = { "dbname", "connect_timeout", "fallback_application_name",
				      NULL };
	const char *const values[] = { authrc_get(&p->rc, "PGSQL_CONNECTION", ""), CONNECT_SECONDS,
				       "keepwarm", NULL };
	const char *charset = authrc_get(&p->rc, "PGSQL_CHARACTER_SET", "");

	p->conn = PQconnectdbParams(names, values, 1);
	if (PQstatus(p->conn) == CONNECTION_OK &&
	    (!*charset || PQsetClientEncoding(p->conn, charset) == 0))
		return 0;
	why_say(why, "%s", PQerrorMessage(p->conn));
	drop(p);
	return -ENOTCONN;
}

static int quote(void *context, struct span text, struct buf *out)
{
	const struct pgsql *p = context;
	char quoted[2 * ACCOUNT_USER_MAX + 1];
	int error = 0;

	if (text.n > ACCOUNT_USER_MAX)
		return -EINVAL;
	size_t n = PQescapeStringConn(p->conn, quoted, text.p, text.n, &error);

	/* No text in this encoding: no such account. */
	return error ? -EILSEQ : buf_add(out, (struct span){ quoted, n });
}

/* Waits until the next result can be had. 0, -ETIMEDOUT or -ECONNRESET. */
static int wait_result(PGconn *conn, int64_t deadline)
{
	while (PQisBusy(conn)) {
		struct pollfd wait = { .fd = PQsocket(conn), .events = POLLIN };
		int64_t left = deadline - clock_ms();

		if (left <= 0 || poll(&wait, 1, (int)left) == 0)
			return -ETIMEDOUT;
		if (!PQconsumeInput(conn))
			return -ECONNRESET;
	}
	return 0;
}

static enum found read_row(const PGresult *result, struct account *ret, struct why *why)
{
	struct span columns[SQL_COLUMNS];
	size_t count = (size_t)PQnfields(result);

	if (count > SQL_COLUMNS)
		count = SQL_COLUMNS;
	for (size_t i = 0; i < count; i++) {
		const int n = (int)i;

		columns[i] = PQgetisnull(result, 0, n)
				     ? (struct span){ NULL, 0 }
				     : (struct span){ PQgetvalue(result, 0, n),
						      (size_t)PQgetlength(result, 0, n) };
	}
	return sql_account(columns, count, ret, why);
}

/* Its rows may hold passwords. libpq's own buffer, which they came through, it keeps to itself. */
static void wipe_rows(const PGresult *result)
{
	for (int row = 0; row < PQntuples(result); row++)
		for (int i = 0; i < PQnfields(result); i++)
			explicit_bzero(PQgetvalue(result, row, i),
				       (size_t)PQgetlength(result, row, i));
}

static enum found judge_error(const PGresult *result, struct why *why)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	/* character_not_in_repertoire, untranslatable_character: it is in no table */
	if (state && (strcmp(state, "22021") == 0 || strcmp(state, "22P05") == 0))
		return FOUND_NOT;
	why_say(why, "%s",
		PQresultStatus(result) == PGRES_COMMAND_OK ? "the query gives no rows"
							   : PQresultErrorMessage(result));
	return FOUND_TROUBLE;
}

/* Reads the whole answer. FOUND_DOWN: the connection is of no use any more. */
static enum found read_answer(struct pgsql *p, int64_t deadline, struct account *ret,
			      struct why *why)
{
	enum found found = FOUND_NOT;

	for (unsigned rows = 0;; rows++) {
		int r = wait_result(p->conn, deadline);

		if (r < 0 || rows > ROWS_MOST) {
			why_say(why, r == -ETIMEDOUT ? "no answer in time"
				     : r < 0	     ? "the connection is lost"
						     : "the answer has too many rows");
			return FOUND_DOWN;
		}
		PGresult *result = PQgetResult(p->conn);

		if (!result)
			return PQstatus(p->conn) == CONNECTION_OK ? found : FOUND_DOWN;
		ExecStatusType status = PQresultStatus(result);

		if (status == PGRES_SINGLE_TUPLE && rows == 0)
			found = read_row(result, ret, why);
		else if (status != PGRES_SINGLE_TUPLE && status != PGRES_TUPLES_OK)
			found = judge_error(result, why);
		wipe_rows(result);
		PQclear(result);
	}
}

static enum found ask(struct pgsql *p, const char *service, struct span user, struct account *ret,
		      struct why *why)
{
	static char data[SQL_QUERY_MAX];
	struct buf query = { .data = data, .cap = sizeof(data) - 1 };
	const int64_t deadline = clock_ms() + DRIVER_TIMEOUT_MS - 2000; /* less the connect */
	int r = sql_build(&p->rc, PREFIX, service, user, quote, p, &query);

	if (r == -EILSEQ)
		return FOUND_NOT;
	if (r < 0) {
		why_say(why, "the query is too long");
		return FOUND_TROUBLE;
	}
	data[query.len] = '\0';
	if (!PQsendQuery(p->conn, data) || !PQsetSingleRowMode(p->conn)) {
		why_say(why, "%s", PQerrorMessage(p->conn));
		return FOUND_DOWN;
	}
	return read_answer(p, deadline, ret, why);
}

static enum found find_pgsql(void *source, const struct driver_question *q, struct account *ret,
			     struct why *why)
{
	struct pgsql *p = source;
	const struct account empty = *ret;

	for (bool had_one = true; had_one;) {
		had_one = p->conn != NULL;
		if (!had_one && connect_to(p, why) < 0)
			return FOUND_DOWN;
		const int64_t began = clock_ms();
		enum found found = ask(p, q->service, q->user, ret, why);

		if (found != FOUND_DOWN)
			return found;
		drop(p);
		*ret = empty;
		if (clock_ms() - began > 1000) /* it is not dead, it is slow */
			return FOUND_DOWN;
	}
	return FOUND_DOWN;
}

const struct driver driver_pgsql = { "pgsql", open_pgsql, find_pgsql, close_pgsql };
