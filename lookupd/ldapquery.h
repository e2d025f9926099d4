/* What an authldaprc asks, and what the entry's attributes mean. Pure. */
#ifndef LOOKUPD_LDAPQUERY_H
#define LOOKUPD_LDAPQUERY_H

#include "lookupd/authrc.h"

#define LDAP_FILTER_MAX	    8192
#define LDAP_AUXOPTIONS_MAX 32

/* The pairs of LDAP_AUXOPTIONS: attribute=option. */
struct ldap_options {
	size_t count;
	struct {
		char attribute[64], option[64];
	} pairs[LDAP_AUXOPTIONS_MAX];
};

/* Reads "attribute=option,attribute=option". 0 or -EINVAL. */
int ldap_options_parse(const char *text, struct ldap_options *ret);

/* Appends the text as it may stand for a value in a filter (RFC 4515 section 3): whatever could
 * mean something, and all that is not ASCII, as \XX. 0 or -ENOBUFS. */
int ldap_filter_quote(struct buf *out, struct span text);

/* Appends the filter for this account. 0 or -ENOBUFS. */
int ldap_filter_build(const struct authrc *rc, struct span user, struct buf *out);

/* Where LDAP_EMAILMAP is set an account is found in two steps: the first search has that filter,
 * with the parts of its name for @user@ and @realm@, and finds an entry with a handle; the second
 * one finds the account by that. Append the filters of both. 0; -ENOENT for a name that has not two
 * parts; -ENOBUFS. */
bool ldap_has_emailmap(const struct authrc *rc);
int ldap_emailmap_build(const struct authrc *rc, struct span user, struct buf *out);
int ldap_handle_build(const struct authrc *rc, struct span handle, struct buf *out);

/* Adds option=value to the account. 0, or -EINVAL for a value that would be several options. */
int ldap_option_add(struct account *a, const char *option, struct span value);

#endif
