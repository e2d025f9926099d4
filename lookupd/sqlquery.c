/* The queries of courier-authlib's SQL modules. Names of tables and columns are the site's own and
 * may be expressions; only what comes from a client is quoted, always.
 */
#include "lookupd/sqlquery.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* A setting: PREFIX and the name; its second spelling is what the documentation says. */
static const char *get(const struct authrc *rc, const char *prefix, const char *name,
		       const char *usual)
{
	char full[64];

	(void)snprintf(full, sizeof(full), "%s%s", prefix, name);
	return authrc_get(rc, full, usual);
}

static const char *field(const struct authrc *rc, const char *prefix, const char *name,
			 const char *usual)
{
	char full[64];

	(void)snprintf(full, sizeof(full), "%s_FIELD", name);
	const char *value = get(rc, prefix, full, NULL);

	return value ? value : get(rc, prefix, name, usual);
}

int sql_check(const struct authrc *rc, const char *prefix, struct why *why)
{
	if (get(rc, prefix, "SELECT_CLAUSE", NULL) || get(rc, prefix, "USER_TABLE", NULL))
		return 0;
	why_say(why, "%sUSER_TABLE or %sSELECT_CLAUSE is missing", prefix, prefix);
	return -EINVAL;
}

static void split_user(struct span user, const char *domain, struct span *ret_local,
		       struct span *ret_domain)
{
	const char *at = memrchr(user.p, '@', user.n);

	*ret_local = at ? (struct span){ user.p, (size_t)(at - user.p) } : user;
	*ret_domain = at ? span_from(user, (size_t)(at - user.p) + 1) : span_str(domain);
}

static int add_variable(struct span name, struct span local, struct span domain,
			const char *service, sql_quote_fn *quote, void *context, struct buf *out)
{
	if (span_eq(name, SPAN("local_part")))
		return quote(context, local, out);
	if (span_eq(name, SPAN("domain")))
		return quote(context, domain, out);
	if (span_eq(name, SPAN("service")))
		return quote(context, span_str(service), out);
	return 0;
}

static int fill_clause(const char *clause, struct span local, struct span domain,
		       const char *service, sql_quote_fn *quote, void *context, struct buf *out)
{
	struct span rest = span_str(clause);
	int r = 0;

	while (r == 0 && rest.n > 0) {
		const char *end = rest.n > 2 && rest.p[0] == '$' && rest.p[1] == '('
					  ? memchr(rest.p, ')', rest.n)
					  : NULL;

		if (end) {
			const struct span name = { rest.p + 2, (size_t)(end - rest.p) - 2 };

			r = add_variable(name, local, domain, service, quote, context, out);
			rest = span_from(rest, name.n + 3);
		} else {
			r = buf_add_char(out, rest.p[0]);
			rest = span_from(rest, 1);
		}
	}
	return r;
}

static int add_select(const struct authrc *rc, const char *prefix, struct buf *out)
{
	static const char *const names[SQL_COLUMNS][2] = {
		{ "LOGIN", "id" },	{ "CRYPT_PWFIELD", "''" }, { "CLEAR_PWFIELD", "''" },
		{ "UID", "uid" },	{ "GID", "gid" },	   { "HOME", "home" },
		{ "MAILDIR", "''" },	{ "QUOTA", "''" },	   { "NAME", "''" },
		{ "AUXOPTIONS", "''" },
	};
	int r = buf_add_str(out, "SELECT ");

	for (size_t i = 0; r == 0 && i < SQL_COLUMNS; i++)
		(void)((i > 0 && (r = buf_add_str(out, ", "))) ||
		       (r = buf_add_str(out, field(rc, prefix, names[i][0], names[i][1]))));
	return r;
}

int sql_build(const struct authrc *rc, const char *prefix, const char *service, struct span user,
	      sql_quote_fn *quote, void *context, struct buf *out)
{
	const char *domain = authrc_get(rc, "DEFAULT_DOMAIN", "");
	const char *clause = get(rc, prefix, "SELECT_CLAUSE", NULL);
	const char *where = get(rc, prefix, "WHERE_CLAUSE", "");
	const bool complete = !memchr(user.p, '@', user.n) && *domain;
	struct span local, own_domain;
	int r;

	split_user(user, domain, &local, &own_domain);
	if (clause)
		return fill_clause(clause, local, own_domain, service, quote, context, out);
	(void)((r = add_select(rc, prefix, out)) || (r = buf_add_str(out, " FROM ")) ||
	       (r = buf_add_str(out, get(rc, prefix, "USER_TABLE", ""))) ||
	       (r = buf_add_str(out, " WHERE ")) ||
	       (r = buf_add_str(out, field(rc, prefix, "LOGIN", "id"))) ||
	       (r = buf_add_str(out, " = '")) || (r = quote(context, user, out)) ||
	       (complete && ((r = quote(context, SPAN("@"), out)) ||
			     (r = quote(context, span_str(domain), out)))) ||
	       (r = buf_add_str(out, "' AND (")) ||
	       (r = buf_add_str(out, *where ? where : "1=1")) || (r = buf_add_char(out, ')')));
	return r;
}

static struct span value_of(const struct span *columns, size_t count, size_t i)
{
	return i < count && columns[i].p ? columns[i] : SPAN_NONE;
}

static bool is_id(struct span text)
{
	uint64_t id;

	return span_u64(text, UINT32_MAX, &id) == 0 && id > 0;
}

enum found sql_account(const struct span *columns, size_t count, struct account *ret,
		       struct why *why)
{
	if (count < SQL_COLUMNS_LEAST) {
		why_say(why, "the query gives %zu columns, at least %d are wanted", count,
			SQL_COLUMNS_LEAST);
		return FOUND_TROUBLE;
	}
	if (!is_id(value_of(columns, count, 3)) || !is_id(value_of(columns, count, 4)) ||
	    value_of(columns, count, 5).n == 0)
		return FOUND_NOT;
	if (account_set_user(ret, value_of(columns, count, 0)) < 0 ||
	    account_set_hash(ret, value_of(columns, count, 1)) < 0 ||
	    account_set_password(ret, value_of(columns, count, 2)) < 0 ||
	    account_add_options(ret, value_of(columns, count, 9)) < 0) {
		why_say(why, "the account's record is wrong");
		return FOUND_TROUBLE;
	}
	return FOUND;
}
