/* What authmysqlrc and authpgsqlrc ask, and what a row of the answer means. Pure: quoting is the
 * driver's library's. */
#ifndef LOOKUPD_SQLQUERY_H
#define LOOKUPD_SQLQUERY_H

#include "lookupd/authrc.h"

/* login, hash, password, uid, gid, home, maildir, quota, name, options */
#define SQL_COLUMNS	  10
#define SQL_COLUMNS_LEAST 6
#define SQL_QUERY_MAX	  65536

/* Appends the text as it may stand between single quotes in a query. 0 or -errno. */
typedef int sql_quote_fn(void *context, struct span text, struct buf *out);

/* Are the settings enough to ask? prefix: "MYSQL_" or "PGSQL_". 0, or -EINVAL and *why. */
int sql_check(const struct authrc *rc, const char *prefix, struct why *why);

/* Appends the query for this account: SELECT_CLAUSE with $(local_part), $(domain) and $(service)
 * put in, or one made of the table and the fields. 0 or -errno of the quoting. */
int sql_build(const struct authrc *rc, const char *prefix, const char *service, struct span user,
	      sql_quote_fn *quote, void *context, struct buf *out);

/* The account of a row; a column that is NULL has p NULL. FOUND_NOT: without uid, gid or home it is
 * none; FOUND_TROUBLE with *why. */
enum found sql_account(const struct span *columns, size_t count, struct account *ret,
		       struct why *why);

#endif
