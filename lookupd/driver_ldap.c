/* ldap: an LDAP directory, by an authldaprc as it is. One connection, kept; a search that finds it
 * dead is made once more on a new one. Referrals are not followed: they would take the bind
 * password to a server that somebody else names.
 *
 * Unlike courier-authlib, a server that is down is no "unknown user".
 */
#include <errno.h>
#include <ldap.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/clock.h"
#include "lookupd/drivers.h"
#include "lookupd/ldapquery.h"

#define NETWORK_SECONDS 2
#define SEARCH_SECONDS	3
#define SECONDS_MOST	(DRIVER_TIMEOUT_MS / 1000)
#define SLOW_MS		500 /* a connection that was dead shows so sooner */
#define ENTRIES_MOST	2 /* several are as good as none */
#define URI_MAX		2048
#define DN_MAX		2048

struct ldap_source {
	struct authrc rc;
	struct ldap_options options;
	char uri[URI_MAX];
	const char *home; /* the attribute that an account must have, if the file names it */
	const char *attributes[LDAP_AUXOPTIONS_MAX + 4];
	LDAP *ld;	 /* NULL: none */
	char dn[DN_MAX]; /* of the entry that was found, where passwords are checked by a bind */
};

static void drop(struct ldap_source *s)
{
	if (s->ld)
		(void)ldap_unbind_ext_s(s->ld, NULL, NULL);
	s->ld = NULL;
}

static void close_ldap(void *source)
{
	struct ldap_source *s = source;

	drop(s);
	authrc_wipe(&s->rc);
	free(s);
}

static void choose_attributes(struct ldap_source *s)
{
	static const char *const names[] = { "LDAP_CLEARPW", "LDAP_CRYPTPW", "LDAP_HOMEDIR" };
	size_t n = 0;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *attribute = authrc_get(&s->rc, names[i], "");

		if (*attribute)
			s->attributes[n++] = attribute;
	}
	for (size_t i = 0; i < s->options.count; i++)
		s->attributes[n++] = s->options.pairs[i].attribute;
	if (n == 0)
		s->attributes[n++] = LDAP_NO_ATTRS;
}

static const char *judge_settings(struct ldap_source *s)
{
	struct buf uri = { .data = s->uri, .cap = sizeof(s->uri) - 1 };

	if (!*authrc_get(&s->rc, "LDAP_URI", ""))
		return "LDAP_URI is missing";
	if (!*authrc_get(&s->rc, "LDAP_BASEDN", ""))
		return "LDAP_BASEDN is missing";
	if (ldap_options_parse(authrc_get(&s->rc, "LDAP_AUXOPTIONS", ""), &s->options) < 0)
		return "LDAP_AUXOPTIONS is not attribute=option,...";
	if (buf_add_str(&uri, authrc_get(&s->rc, "LDAP_URI", "")))
		return "LDAP_URI is too long";
	/* libldap wants spaces where the file may have commas */
	for (char *p = s->uri; *p; p++)
		if (*p == ',')
			*p = ' ';
	return NULL;
}

static int open_ldap(const char *place, const struct config *c, void **ret, struct why *why)
{
	struct ldap_source *s = calloc(1, sizeof(*s));

	(void)c;
	if (!s)
		return -ENOMEM;
	int r = authrc_read(place, &s->rc, why);
	const char *problem = r == 0 ? judge_settings(s) : NULL;

	if (problem) {
		why_say(why, "%s: %s", place, problem);
		r = -EINVAL;
	}
	if (r < 0) {
		close_ldap(s);
		return r;
	}
	s->home = authrc_get(&s->rc, "LDAP_HOMEDIR", NULL);
	choose_attributes(s);
	*ret = s;
	return 0;
}

static int deref_of(const char *word)
{
	static const struct {
		const char *word;
		int value;
	} rows[] = { { "searching", LDAP_DEREF_SEARCHING },
		     { "finding", LDAP_DEREF_FINDING },
		     { "always", LDAP_DEREF_ALWAYS } };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strcasecmp(word, rows[i].word) == 0)
			return rows[i].value;
	return LDAP_DEREF_NEVER;
}

/* LDAP_TIMEOUT is both for the network and for a search; what no worker may wait for, and 0, is as
 * long as one may. */
static struct timeval timeout_of(const struct ldap_source *s, long usual)
{
	const long seconds = authrc_number(&s->rc, "LDAP_TIMEOUT", usual);

	return (struct timeval){ .tv_sec = seconds > 0 && seconds < SECONDS_MOST ? seconds
										 : SECONDS_MOST };
}

static void set_options(const struct ldap_source *s, LDAP *ld)
{
	const struct timeval network = timeout_of(s, NETWORK_SECONDS);
	const int version = (int)authrc_number(&s->rc, "LDAP_PROTOCOL_VERSION", LDAP_VERSION3);
	const int deref = deref_of(authrc_get(&s->rc, "LDAP_DEREF", "never"));

	(void)ldap_set_option(ld, LDAP_OPT_PROTOCOL_VERSION, &version);
	(void)ldap_set_option(ld, LDAP_OPT_NETWORK_TIMEOUT, &network);
	(void)ldap_set_option(ld, LDAP_OPT_TIMEOUT, &network);
	(void)ldap_set_option(ld, LDAP_OPT_REFERRALS, LDAP_OPT_OFF);
	(void)ldap_set_option(ld, LDAP_OPT_DEREF, &deref);
}

static int bind_as(LDAP *ld, const char *dn, struct span password)
{
	struct berval secret = { .bv_len = password.n, .bv_val = (void *)(uintptr_t)password.p };

	return ldap_sasl_bind_s(ld, dn, LDAP_SASL_SIMPLE, &secret, NULL, NULL, NULL);
}

/* A connection, with TLS where that is wanted. An LDAP result; *ret is the caller's in any case. */
static int open_connection(const struct ldap_source *s, LDAP **ret)
{
	int r = ldap_initialize(ret, s->uri);

	if (r != LDAP_SUCCESS)
		return r;
	set_options(s, *ret);
	return authrc_number(&s->rc, "LDAP_TLS", 0) != 0 ? ldap_start_tls_s(*ret, NULL, NULL)
							 : LDAP_SUCCESS;
}

static int connect_to(struct ldap_source *s, struct why *why)
{
	int r = open_connection(s, &s->ld);

	if (r == LDAP_SUCCESS && authrc_number(&s->rc, "LDAP_INITBIND", 0) != 0)
		r = bind_as(s->ld, authrc_get(&s->rc, "LDAP_BINDDN", ""),
			    span_str(authrc_get(&s->rc, "LDAP_BINDPW", "")));
	if (r == LDAP_SUCCESS)
		return 0;
	why_say(why, "%s", ldap_err2string(r));
	drop(s);
	return -ENOTCONN;
}

/* The first value of an attribute. The caller frees *ret_all. */
static bool first_value(LDAP *ld, LDAPMessage *entry, const char *attribute,
			struct berval ***ret_all, struct span *ret)
{
	struct berval **values = ldap_get_values_len(ld, entry, attribute);

	*ret_all = values;
	if (!values || !values[0])
		return false;
	*ret = (struct span){ values[0]->bv_val, values[0]->bv_len };
	return true;
}

static int add_options(const struct ldap_source *s, LDAPMessage *entry, struct account *ret)
{
	struct berval **all;
	struct span value;
	int r = 0;

	for (size_t i = 0; r == 0 && i < s->options.count; i++) {
		if (first_value(s->ld, entry, s->options.pairs[i].attribute, &all, &value))
			r = ldap_option_add(ret, s->options.pairs[i].option, value);
		ldap_value_free_len(all);
	}
	return r;
}

/* Overwrites an attribute where it lies in the message, which libldap frees as it is. */
static void wipe_in_message(LDAP *ld, LDAPMessage *entry, const char *attribute)
{
	BerElement *ber = NULL;
	struct berval name, *values = NULL;
	const struct span wanted = span_str(attribute);

	if (ldap_get_dn_ber(ld, entry, &ber, &name) != LDAP_SUCCESS)
		return;
	while (ldap_get_attribute_ber(ld, entry, ber, &name, &values) == LDAP_SUCCESS &&
	       name.bv_val) {
		bool is_it = span_ieq((struct span){ name.bv_val, name.bv_len }, wanted);

		for (size_t i = 0; is_it && values && values[i].bv_val; i++)
			explicit_bzero(values[i].bv_val, values[i].bv_len);
		ber_memfree(values); /* the values themselves are the message's */
		values = NULL;
	}
	ber_free(ber, 0);
}

/* When all is read: both settings may name one attribute. Of an answer that is not ours as well. */
static void wipe_secrets(const struct ldap_source *s, LDAPMessage *answer)
{
	for (LDAPMessage *entry = ldap_first_entry(s->ld, answer); entry;
	     entry = ldap_next_entry(s->ld, entry)) {
		wipe_in_message(s->ld, entry, authrc_get(&s->rc, "LDAP_CLEARPW", ""));
		wipe_in_message(s->ld, entry, authrc_get(&s->rc, "LDAP_CRYPTPW", ""));
	}
}

/* A password attribute; the copy of it is wiped. */
static int take_secret(const struct ldap_source *s, LDAPMessage *entry, const char *setting,
		       int (*set)(struct account *, struct span), struct account *ret)
{
	const char *attribute = authrc_get(&s->rc, setting, "");
	struct berval **all = NULL;
	struct span value;
	int r = 0;

	if (*attribute && first_value(s->ld, entry, attribute, &all, &value))
		r = set(ret, value);
	for (size_t i = 0; all && all[i]; i++)
		explicit_bzero(all[i]->bv_val, all[i]->bv_len);
	ldap_value_free_len(all);
	return r;
}

static enum found read_entry(const struct ldap_source *s, LDAPMessage *entry, struct account *ret,
			     struct why *why)
{
	struct berval **all = NULL;
	struct span value;
	bool has_home = !s->home || !*s->home || first_value(s->ld, entry, s->home, &all, &value);

	ldap_value_free_len(all);
	if (!has_home)
		return FOUND_NOT;
	if (take_secret(s, entry, "LDAP_CLEARPW", account_set_password, ret) < 0 ||
	    take_secret(s, entry, "LDAP_CRYPTPW", account_set_hash, ret) < 0 ||
	    add_options(s, entry, ret) < 0) {
		why_say(why, "the account's record is wrong");
		return FOUND_TROUBLE;
	}
	return FOUND;
}

static enum found judge_error(int r, struct why *why)
{
	why_say(why, "%s", ldap_err2string(r));
	switch (r) {
	case LDAP_SERVER_DOWN:
	case LDAP_CONNECT_ERROR:
	case LDAP_TIMEOUT:
	case LDAP_TIMELIMIT_EXCEEDED:
	case LDAP_UNAVAILABLE:
	case LDAP_BUSY:
		return FOUND_DOWN;
	default:
		return FOUND_TROUBLE;
	}
}

static bool binds_to_check(const struct ldap_source *s)
{
	return authrc_number(&s->rc, "LDAP_AUTHBIND", 0) != 0;
}

/* Whose entry is it? Kept for the bind. */
static enum found note_dn(struct ldap_source *s, LDAPMessage *entry, struct why *why)
{
	char *dn = ldap_get_dn(s->ld, entry);
	struct buf text = { .data = s->dn, .cap = sizeof(s->dn) - 1 };
	/* an empty one would be nobody's, who may bind everywhere */
	bool good = dn && *dn && buf_add_str(&text, dn) == 0;

	s->dn[good ? text.len : 0] = '\0';
	ldap_memfree(dn);
	if (good)
		return FOUND;
	why_say(why, "the entry's name is empty or too long");
	return FOUND_TROUBLE;
}

/* The check is a bind as that entry, once: servers count wrong passwords. On a connection of its
 * own, since the one that searches has other rights. */
static enum found check_by_bind(const struct ldap_source *s, struct span secret,
				struct account *ret, struct why *why)
{
	LDAP *ld = NULL;
	enum found found = FOUND_REFUSED;
	int r = open_connection(s, &ld);
	bool asked = r == LDAP_SUCCESS;

	if (asked)
		r = bind_as(ld, s->dn, secret);
	switch (r) {
	case LDAP_SUCCESS:
		ret->checked = true;
		found = FOUND;
		break;
	case LDAP_INVALID_CREDENTIALS:
	case LDAP_INAPPROPRIATE_AUTH: /* it has no password */
	case LDAP_UNWILLING_TO_PERFORM:
	case LDAP_INSUFFICIENT_ACCESS:
	case LDAP_CONSTRAINT_VIOLATION: /* locked */
		why_say(why, "the directory refused the password");
		break;
	default:
		found = judge_error(r, why);
		/* servers are slow with wrong passwords on purpose: that is no word on others */
		if (asked && found == FOUND_DOWN)
			found = FOUND_TROUBLE;
	}
	if (ld)
		(void)ldap_unbind_ext_s(ld, NULL, NULL);
	return found;
}

/* FOUND: *ret_answer is one entry. It is the caller's in any case, and may be NULL. */
static enum found search(const struct ldap_source *s, const char *base, const char *filter,
			 const char *const *attributes, LDAPMessage **ret_answer, struct why *why)
{
	struct timeval time = timeout_of(s, SEARCH_SECONDS);
	int r = ldap_search_ext_s(s->ld, base, LDAP_SCOPE_SUBTREE, filter,
				  (char **)(uintptr_t)attributes, 0, NULL, NULL, &time,
				  ENTRIES_MOST, ret_answer);

	if (r == LDAP_SIZELIMIT_EXCEEDED)
		return FOUND_NOT;
	if (r != LDAP_SUCCESS)
		return judge_error(r, why);
	return ldap_count_entries(s->ld, *ret_answer) == 1 ? FOUND : FOUND_NOT;
}

/* What a filter that could not be built says of the account. */
static enum found judge_filter(int r, struct why *why)
{
	if (r == -ENOENT)
		return FOUND_NOT;
	why_say(why, "the filter is too long");
	return r < 0 ? FOUND_TROUBLE : FOUND;
}

/* LDAP_EMAILMAP's search: appends the filter that finds the account by its handle. */
static enum found map_name(const struct ldap_source *s, struct span user, struct buf *out,
			   struct why *why)
{
	const char *const attributes[] = { authrc_get(&s->rc, "LDAP_EMAILMAP_ATTRIBUTE", "handle"),
					   NULL };
	const char *usual = authrc_get(&s->rc, "LDAP_BASEDN", "");
	char data[LDAP_FILTER_MAX];
	struct buf filter = { .data = data, .cap = sizeof(data) - 1 };
	struct berval **all = NULL;
	LDAPMessage *answer = NULL;
	struct span handle;
	enum found found = judge_filter(ldap_emailmap_build(&s->rc, user, &filter), why);

	data[filter.len] = '\0';
	if (found == FOUND)
		found = search(s, authrc_get(&s->rc, "LDAP_EMAILMAP_BASEDN", usual), data,
			       attributes, &answer, why);
	if (found == FOUND) {
		if (first_value(s->ld, ldap_first_entry(s->ld, answer), attributes[0], &all,
				&handle))
			found = judge_filter(ldap_handle_build(&s->rc, handle, out), why);
		else
			found = FOUND_NOT;
		ldap_value_free_len(all);
	}
	if (answer)
		(void)ldap_msgfree(answer);
	return found;
}

static enum found ask(struct ldap_source *s, struct span user, struct account *ret, struct why *why)
{
	char data[LDAP_FILTER_MAX];
	struct buf filter = { .data = data, .cap = sizeof(data) - 1 };
	LDAPMessage *answer = NULL;
	enum found found = ldap_has_emailmap(&s->rc)
				   ? map_name(s, user, &filter, why)
				   : judge_filter(ldap_filter_build(&s->rc, user, &filter), why);

	data[filter.len] = '\0';
	if (found == FOUND)
		found = search(s, authrc_get(&s->rc, "LDAP_BASEDN", ""), data, s->attributes,
			       &answer, why);
	if (found == FOUND)
		found = read_entry(s, ldap_first_entry(s->ld, answer), ret, why);
	if (found == FOUND && binds_to_check(s))
		found = note_dn(s, ldap_first_entry(s->ld, answer), why);
	if (answer) {
		wipe_secrets(s, answer);
		(void)ldap_msgfree(answer);
	}
	return found;
}

/* The account as Courier's module has it: a clear password counts before a hash. */
static enum found find_entry(struct ldap_source *s, struct span user, struct account *ret,
			     struct why *why)
{
	const struct account empty = *ret;

	for (bool had_one = true; had_one;) {
		had_one = s->ld != NULL;
		if (!had_one && connect_to(s, why) < 0)
			return FOUND_DOWN;
		const int64_t began = clock_ms();
		enum found found = ask(s, user, ret, why);

		if (found != FOUND_DOWN)
			return found;
		drop(s);
		*ret = empty;
		if (clock_ms() - began > SLOW_MS) /* it is not dead, it is slow */
			return FOUND_DOWN;
	}
	return FOUND_DOWN;
}

static enum found find_ldap(void *source, const struct driver_question *q, struct account *ret,
			    struct why *why)
{
	struct ldap_source *s = source;
	enum found found = find_entry(s, q->user, ret, why);

	ret->prefers_password = true;
	if (found == FOUND && q->check && binds_to_check(s))
		found = check_by_bind(s, q->secret, ret, why);
	return found;
}

const struct driver driver_ldap = { "ldap", open_ldap, find_ldap, close_ldap };
