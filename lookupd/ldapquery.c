/* courier-authlib's LDAP settings: filter and options. */
#include "lookupd/ldapquery.h"

#include <errno.h>
#include <string.h>

#define LDAP_NAME_MAX 1024

static int copy_name(char *name, size_t cap, struct span text)
{
	if (text.n == 0 || text.n >= cap)
		return -EINVAL;
	memcpy(name, text.p, text.n);
	name[text.n] = '\0';
	return 0;
}

int ldap_options_parse(const char *text, struct ldap_options *ret)
{
	struct span rest = span_str(text);

	ret->count = 0;
	while (rest.n > 0) {
		struct span pair = span_word(&rest, ',');

		while (pair.n > 0 && pair.p[0] == ' ')
			pair = span_from(pair, 1);
		while (pair.n > 0 && pair.p[pair.n - 1] == ' ')
			pair.n--;
		if (pair.n == 0)
			continue;
		struct span attribute = span_word(&pair, '=');
		struct span option = pair.n > 0 ? span_from(pair, pair.p[0] == '=') : attribute;

		if (ret->count == LDAP_AUXOPTIONS_MAX ||
		    copy_name(ret->pairs[ret->count].attribute, sizeof(ret->pairs[0].attribute),
			      attribute) < 0 ||
		    copy_name(ret->pairs[ret->count].option, sizeof(ret->pairs[0].option), option) <
			    0)
			return -EINVAL;
		ret->count++;
	}
	return 0;
}

int ldap_filter_quote(struct buf *out, struct span text)
{
	static const char hex[] = "0123456789abcdef";
	int r = 0;

	for (size_t i = 0; r == 0 && i < text.n; i++) {
		unsigned char u = (unsigned char)text.p[i];
		const char escaped[3] = { '\\', hex[u >> 4], hex[u & 15] };
		bool plain = u > ' ' && u < 0x7f && !strchr("*()\\", text.p[i]);

		r = plain || u == ' ' ? buf_add_char(out, text.p[i])
				      : buf_add(out, (struct span){ escaped, sizeof(escaped) });
	}
	return r;
}

/* The name, with LDAP_DOMAIN where it has none. */
static int add_name(const struct authrc *rc, struct span user, struct buf *out)
{
	const char *domain = authrc_get(rc, "LDAP_DOMAIN", "");
	bool complete = *domain && !memchr(user.p, '@', user.n);
	int r;

	(void)((r = buf_add(out, user)) ||
	       (complete &&
		((r = buf_add_char(out, '@')) || (r = buf_add_str(out, domain)))));
	return r;
}

/* LDAP_FILTER, and that the attribute has the value. */
static int add_filter(const struct authrc *rc, const char *attribute, struct span value,
		      struct buf *out)
{
	const char *filter = authrc_get(rc, "LDAP_FILTER", "");
	int r = 0;

	(void)((*filter && ((r = buf_add_str(out, "(&")) || (r = buf_add_str(out, filter)))) ||
	       (r = buf_add_char(out, '(')) || (r = buf_add_str(out, attribute)) ||
	       (r = buf_add_char(out, '=')) || (r = ldap_filter_quote(out, value)) ||
	       (r = buf_add_char(out, ')')) || (*filter && (r = buf_add_char(out, ')'))));
	return r;
}

int ldap_filter_build(const struct authrc *rc, struct span user, struct buf *out)
{
	char data[LDAP_NAME_MAX];
	struct buf name = BUF_OVER(data);
	int r = add_name(rc, user, &name);

	return r < 0 ? r
		     : add_filter(rc, authrc_get(rc, "LDAP_MAIL", "mail"), buf_span(&name), out);
}

bool ldap_has_emailmap(const struct authrc *rc)
{
	return *authrc_get(rc, "LDAP_EMAILMAP", "") != '\0';
}

int ldap_emailmap_build(const struct authrc *rc, struct span user, struct buf *out)
{
	struct span rest = span_str(authrc_get(rc, "LDAP_EMAILMAP", "")), parts[2];
	const struct span marks[2] = { SPAN("@user@"), SPAN("@realm@") };
	char data[LDAP_NAME_MAX];
	struct buf name = BUF_OVER(data);
	int r = add_name(rc, user, &name);
	const char *at = r == 0 && name.len > 0 ? memchr(data, '@', name.len) : NULL;

	if (r < 0)
		return r;
	if (!at)
		return -ENOENT;
	parts[0] = (struct span){ data, (size_t)(at - data) };
	parts[1] = span_from(buf_span(&name), parts[0].n + 1);
	while (r == 0 && rest.n > 0) {
		size_t i = 0;

		while (i < 2 && !span_istarts(rest, marks[i]))
			i++;
		r = i < 2 ? ldap_filter_quote(out, parts[i]) : buf_add_char(out, rest.p[0]);
		rest = span_from(rest, i < 2 ? marks[i].n : 1);
	}
	return r;
}

int ldap_handle_build(const struct authrc *rc, struct span handle, struct buf *out)
{
	const char *usual = authrc_get(rc, "LDAP_MAIL", "mail");

	return add_filter(rc, authrc_get(rc, "LDAP_EMAILMAP_MAIL", usual), handle, out);
}

int ldap_option_add(struct account *a, const char *option, struct span value)
{
	char text[ACCOUNT_OPTIONS_MAX];
	struct buf out = BUF_OVER(text);

	if (value.n > 0 && memchr(value.p, ',', value.n))
		return -EINVAL;
	if (buf_add_str(&out, option) || buf_add_char(&out, '=') || buf_add(&out, value))
		return -EINVAL;
	return account_add_options(a, buf_span(&out));
}
