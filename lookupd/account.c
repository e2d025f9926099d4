/* The account record. Directories are other people's: every value is checked here, once for all
 * drivers, before anything is made of it. A directory can name hosts and ports, never a path: only
 * the configuration says where this host's own server is.
 */
#include "lookupd/account.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "lib/config_tls.h"
#include "lib/selfhost.h"

/* How a mail host can be written, and what that says. */
static const struct {
	struct span prefix;
	enum msg_service service;
	uint32_t port;
	bool tls; /* from the first byte */
} schemes[] = {
	[SCHEME_NONE] = { { "", 0 }, 0, 0, false },
	[SCHEME_IMAP] = { { "imap://", 7 }, SERVICE_IMAP, 143, false },
	[SCHEME_IMAPS] = { { "imaps://", 8 }, SERVICE_IMAP, 993, true },
	[SCHEME_POP3] = { { "pop3://", 7 }, SERVICE_POP3, 110, false },
	[SCHEME_POP3S] = { { "pop3s://", 8 }, SERVICE_POP3, 995, true },
};

static bool has_control(struct span s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] < ' ' || s.p[i] == 0x7f)
			return true;
	return false;
}

static int set_text(char *text, size_t longest, struct span value)
{
	if (value.n > longest || has_control(value))
		return -EINVAL;
	memcpy(text, value.p, value.n);
	text[value.n] = '\0';
	return 0;
}

int account_init(struct account *a, struct span user)
{
	memset(a, 0, sizeof(*a));
	if (user.n > ACCOUNT_USER_MAX || memchr(user.p, '\0', user.n))
		return -EINVAL;
	memcpy(a->user, user.p, user.n);
	return 0;
}

void account_wipe(struct account *a)
{
	explicit_bzero(a, sizeof(*a));
}

int account_set_user(struct account *a, struct span user)
{
	return user.n > 0 ? set_text(a->user, ACCOUNT_USER_MAX, user) : 0;
}

int account_set_password(struct account *a, struct span password)
{
	return set_text(a->password, ACCOUNT_PASSWORD_MAX, password);
}

int account_set_hash(struct account *a, struct span hash)
{
	return set_text(a->hash, ACCOUNT_HASH_MAX, hash);
}

int account_set_hmac(struct account *a, enum account_hmac which, struct span states)
{
	return set_text(a->hmac[which], ACCOUNT_HMAC_MAX, states);
}

const char *account_hmac_name(enum account_hmac which)
{
	static const char *const names[HMACS] = { [HMAC_MD5] = "md5",
						  [HMAC_SHA1] = "sha1",
						  [HMAC_SHA256] = "sha256" };

	return names[which];
}

static bool cut_prefix(struct span *text, struct span prefix)
{
	if (!span_istarts(*text, prefix))
		return false;
	*text = span_from(*text, prefix.n);
	return true;
}

/* Cuts the port off the end of HOST:PORT. An address without brackets has several colons and no
 * port. */
static int cut_port(struct span *host, uint32_t *ret)
{
	const char *colon = memrchr(host->p, ':', host->n);
	const bool bracketed = host->n > 0 && host->p[0] == '[';
	uint64_t port = 0;

	*ret = 0;
	if (!colon || (bracketed && host->p[host->n - 1] == ']') ||
	    (!bracketed && memchr(host->p, ':', host->n) != colon))
		return 0;
	if (span_u64(span_from(*host, (size_t)(colon - host->p) + 1), 65535, &port) < 0 ||
	    port == 0)
		return -EINVAL;
	host->n = (size_t)(colon - host->p);
	*ret = (uint32_t)port;
	return 0;
}

static int read_host(struct span text, struct account_host *ret)
{
	struct account_host h = { .scheme = SCHEME_NONE };

	for (size_t i = SCHEME_IMAP; i < sizeof(schemes) / sizeof(schemes[0]); i++)
		if (cut_prefix(&text, schemes[i].prefix)) {
			h.scheme = (enum account_scheme)i;
			break;
		}
	if (h.scheme != SCHEME_NONE && text.n > 0 && text.p[text.n - 1] == '/')
		text.n--;
	if (cut_port(&text, &h.port) < 0)
		return -EINVAL;
	if (text.n > 2 && text.p[0] == '[' && text.p[text.n - 1] == ']')
		text = (struct span){ text.p + 1, text.n - 2 };
	if (!route_is_host(text))
		return -EINVAL;
	memcpy(h.name, text.p, text.n);
	*ret = h;
	return 0;
}

int account_add_hosts(struct account *a, struct span hosts)
{
	struct span part, word;

	while (hosts.n > 0) {
		part = span_word(&hosts, ';');
		while ((word = span_word(&part, ' ')).n > 0) {
			if (a->host_count == ROUTE_HOSTS_MOST ||
			    read_host(word, &a->hosts[a->host_count]) < 0)
				return -EINVAL;
			a->host_count++;
		}
	}
	return 0;
}

/* Cuts the next option off the front: its name, and what is behind its = (SPAN_NONE: it has none).
 */
static struct span next_option(struct span *options, struct span *ret_value)
{
	struct span option = span_word(options, ',');
	const char *equals = option.n > 0 ? memchr(option.p, '=', option.n) : NULL;

	*ret_value = SPAN_NONE;
	if (equals) {
		*ret_value = span_from(option, (size_t)(equals - option.p) + 1);
		option.n = (size_t)(equals - option.p);
	}
	return option;
}

int account_add_options(struct account *a, struct span options)
{
	const size_t used = strlen(a->options);
	struct buf all = { .data = a->options, .cap = ACCOUNT_OPTIONS_MAX, .len = used };
	struct span rest = options, value;
	int r = 0;

	if (has_control(options) || (used > 0 && options.n > 0 && buf_add_char(&all, ',')) ||
	    buf_add(&all, options)) {
		a->options[used] = '\0';
		return -EINVAL;
	}
	a->options[all.len] = '\0';
	while (r == 0 && rest.n > 0)
		if (span_eq(next_option(&rest, &value), SPAN("mailhost")))
			r = account_add_hosts(a, value);
	return r;
}

int account_add_defaults(struct account *a, struct span options)
{
	/* what is added behind must not count as its own: of two mail hosts both are meant */
	struct account own;
	struct span rest = options, value, has;
	char name[ACCOUNT_OPTIONS_MAX];
	int r = 0;

	memcpy(&own, a, sizeof(own));
	while (r == 0 && rest.n > 0) {
		const struct span option = next_option(&rest, &value);
		const struct span whole = { option.p, option.n + (value.n > 0) + value.n };

		if (option.n >= sizeof(name))
			return -EINVAL;
		memcpy(name, option.p, option.n);
		name[option.n] = '\0';
		if (!account_option(&own, name, &has) &&
		    (own.host_count == 0 || strcmp(name, "mailhost") != 0))
			r = account_add_options(a, whole);
	}
	account_wipe(&own);
	return r;
}

void account_set_lifetime(struct account *a, struct span seconds)
{
	uint64_t number;

	if (span_u64(seconds, UINT32_MAX, &number) == 0 && number > 0)
		a->lifetime = (uint32_t)number;
}

int account_set_field(struct account *a, struct span name, struct span value)
{
	static const struct {
		struct span name;
		int (*set)(struct account *, struct span);
	} fields[] = {
		{ SPAN("ADDRESS"), account_set_user },
		{ SPAN("PASSWD"), account_set_hash },
		{ SPAN("PASSWD2"), account_set_password },
		{ SPAN("OPTIONS"), account_add_options },
	};

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		if (span_eq(name, fields[i].name))
			return fields[i].set(a, value);
	for (size_t i = 0; i < HMACS && span_istarts(name, SPAN("HMAC-")); i++)
		if (span_ieq(span_from(name, 5), span_str(account_hmac_name(i))))
			return account_set_hmac(a, i, value);
	return 0;
}

int account_set_lines(struct account *a, struct span lines)
{
	int r = 0;

	while (r == 0 && lines.n > 0) {
		const struct span line = span_word(&lines, '\n');
		const char *equals = line.n > 0 ? memchr(line.p, '=', line.n) : NULL;
		size_t n = equals ? (size_t)(equals - line.p) : 0;

		if (equals)
			r = account_set_field(a, (struct span){ line.p, n },
					      span_from(line, n + 1));
	}
	return r;
}

bool account_option(const struct account *a, const char *name, struct span *ret)
{
	struct span rest = span_str(a->options), value;

	while (rest.n > 0)
		if (span_eq(next_option(&rest, &value), span_str(name))) {
			*ret = value;
			return true;
		}
	return false;
}

bool account_option_is_on(const struct account *a, const char *name)
{
	struct span value;

	if (!account_option(a, name, &value) || value.n == 0)
		return false;
	if (strchr("tTyY", value.p[0]))
		return true;
	for (size_t i = 0; i < value.n && value.p[i] >= '0' && value.p[i] <= '9'; i++)
		if (value.p[i] != '0')
			return true;
	return false;
}

static uint32_t usual_port(const struct config *c, enum msg_service service)
{
	return service == SERVICE_POP3 ? config_pop3_server_port(c) : config_server_port(c);
}

/* A host without a scheme is for every service. */
static bool is_of_service(const struct account_host *h, enum msg_service service)
{
	return h->scheme == SCHEME_NONE || schemes[h->scheme].service == service;
}

/* imap:// is never less than what server_tls asks for, and never TLS from the first byte. */
static void fill_route(const struct account_host *h, const struct config *c,
		       enum msg_service service, struct route *ret)
{
	const enum tls_mode usual = config_tls_mode(c);
	bool from_the_first = schemes[h->scheme].tls;

	*ret = (struct route){ .host = span_str(h->name), .port = h->port, .tls = usual };
	if (from_the_first)
		ret->tls = TLS_IMPLICIT;
	else if (h->scheme != SCHEME_NONE && usual == TLS_IMPLICIT)
		ret->tls = TLS_STARTTLS;
	if (ret->port == 0)
		ret->port =
			h->scheme == SCHEME_NONE ? usual_port(c, service) : schemes[h->scheme].port;
}

static bool is_named_as_we_are(const struct config *c, struct span name)
{
	char hostname[256];

	if (gethostname(hostname, sizeof(hostname)) < 0)
		hostname[0] = '\0';
	hostname[sizeof(hostname) - 1] = '\0';
	return selfhost_has_name(c, span_str(hostname), name);
}

/* Is it this very host? One that was named without a port is meant to be where its mail is, so
 * this host's own server takes its place wherever that is known; a port says which server is meant,
 * and only one that is ours leads to us. `names_port`: it was named with one. */
static bool is_self(const struct route *r, bool names_port, const struct config *c,
		    enum msg_service service)
{
	struct route server;

	return (selfhost_listens_on(c, r->port) ||
		(!names_port && selfhost_server(c, service, &server) == 0)) &&
	       is_named_as_we_are(c, r->host);
}

int account_routes(const struct account *a, const struct config *c, enum msg_service service,
		   struct buf *text)
{
	struct route route = { .host = span_str(c->server_hostname),
			       .port = usual_port(c, service),
			       .tls = config_tls_mode(c) };
	int r = -ENOENT;

	route.local = a->is_local || is_self(&route, true, c, service);
	if (a->host_count == 0)
		r = route_add(text, &route);

	for (size_t i = 0; i < a->host_count && (r == 0 || r == -ENOENT); i++) {
		if (!is_of_service(&a->hosts[i], service))
			continue;
		fill_route(&a->hosts[i], c, service, &route);
		route.local = is_self(&route,
				      a->hosts[i].port > 0 || a->hosts[i].scheme != SCHEME_NONE,
				      c, service);
		r = route_add(text, &route);
	}
	return r;
}
