/* courier-authlib's LDAP settings: filter and options. */
#include "lookupd/ldapquery.h"

#include <errno.h>
#include <string.h>

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

int ldap_filter_build(const struct authrc *rc, struct span user, struct buf *out)
{
	const char *filter = authrc_get(rc, "LDAP_FILTER", "");
	const char *domain = authrc_get(rc, "LDAP_DOMAIN", "");
	bool complete = *domain && !memchr(user.p, '@', user.n);
	int r = 0;

	(void)((*filter && ((r = buf_add_str(out, "(&")) || (r = buf_add_str(out, filter)))) ||
	       (r = buf_add_char(out, '(')) ||
	       (r = buf_add_str(out, authrc_get(rc, "LDAP_MAIL", "mail"))) ||
	       (r = buf_add_char(out, '=')) || (r = ldap_filter_quote(out, user)) ||
	       (complete &&
		((r = buf_add_char(out, '@')) || (r = ldap_filter_quote(out, span_str(domain))))) ||
	       (r = buf_add_char(out, ')')) || (*filter && (r = buf_add_char(out, ')'))));
	return r;
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
