/* http, https: the protocol of nginx's mail module (auth_http). The question is a GET with the name
 * in headers, the answer is headers as well. nginx asks with the password in it, and so do we where
 * a password is to be checked; else it is Auth-Method none, which nginx uses where a login needs
 * none.
 *
 * Names are escaped as nginx does it (control characters, blanks and percent signs as %XX), so no
 * name can be a header of its own.
 *
 * Servers are slow with wrong passwords on purpose, or with one account. So a question with a
 * password that is not answered in time says nothing about others: only when several names in a row
 * have come to nothing the server is taken for silent.
 */
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/config_directory.h"
#include "lookupd/drivers.h"
#include "lookupd/password.h"

#define CONNECT_MS	  2000L
#define HEADERS_BYTES_MAX 16384
#define SILENT_NAMES	  3

enum header {
	AUTH_STATUS,
	AUTH_SERVER,
	AUTH_PORT,
	AUTH_USER,
	AUTH_PASS,
	AUTH_ERROR_CODE,
	CACHE_CONTROL,
	HEADERS
};

static const char *const header_names[HEADERS] = {
	[AUTH_STATUS] = "Auth-Status", [AUTH_SERVER] = "Auth-Server",
	[AUTH_PORT] = "Auth-Port",     [AUTH_USER] = "Auth-User",
	[AUTH_PASS] = "Auth-Pass",     [AUTH_ERROR_CODE] = "Auth-Error-Code",
	[CACHE_CONTROL] = "Cache-Control",
};

struct http {
	CURL *curl;
	char *url;
	char *own_header; /* the site's, "NAME: VALUE"; NULL: it has none */
	char values[HEADERS][ACCOUNT_USER_MAX + 1]; /* of the answer */
	bool given[HEADERS];
	size_t bytes;
	bool odd; /* the answer is too long somewhere */
	unsigned unheard; /* names in a row whose password was not judged in time, */
	char last[ACCOUNT_USER_MAX + 1]; /* and the last one of them */
};

static void take_header(struct http *h, enum header which, struct span value)
{
	while (value.n > 0 && (value.p[0] == ' ' || value.p[0] == '\t'))
		value = span_from(value, 1);
	while (value.n > 0 && strchr(" \t\r\n", value.p[value.n - 1]))
		value.n--;
	if (value.n >= sizeof(h->values[which]) || memchr(value.p, '\0', value.n)) {
		h->odd = h->odd || which != CACHE_CONTROL; /* which is advice, and not ours alone */
		return;
	}
	memcpy(h->values[which], value.p, value.n);
	h->values[which][value.n] = '\0';
	h->given[which] = true;
}

static size_t on_header(char *data, size_t size, size_t n, void *context)
{
	struct http *h = context;
	const struct span line = { data, size * n };
	const char *colon = line.n > 0 ? memchr(line.p, ':', line.n) : NULL;

	h->bytes += line.n;
	if (h->bytes > HEADERS_BYTES_MAX)
		return 0;
	for (size_t i = 0; colon && i < HEADERS; i++)
		if (span_ieq((struct span){ line.p, (size_t)(colon - line.p) },
			     span_str(header_names[i])))
			take_header(h, (enum header)i,
				    span_from(line, (size_t)(colon - line.p) + 1));
	return line.n;
}

static size_t on_body(char *data, size_t size, size_t n, void *context)
{
	struct http *h = context;

	(void)data;
	h->bytes += size * n;
	return h->bytes > HEADERS_BYTES_MAX ? 0 : size * n;
}

static void close_http(void *source)
{
	struct http *h = source;

	if (h->curl)
		curl_easy_cleanup(h->curl);
	free(h->url);
	if (h->own_header)
		explicit_bzero(h->own_header, strlen(h->own_header));
	free(h->own_header);
	explicit_bzero(h, sizeof(*h));
	free(h);
}

static int set_options(struct http *h)
{
	const char *allowed = strncmp(h->url, "https:", 6) == 0 ? "https" : "http";
	CURL *curl = h->curl;

	/* No proxy of the environment, no other protocol, nowhere else. */
	return curl_easy_setopt(curl, CURLOPT_URL, h->url) ||
			       curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, allowed) ||
			       curl_easy_setopt(curl, CURLOPT_PROXY, "") ||
			       curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L) ||
			       curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L) ||
			       curl_easy_setopt(curl, CURLOPT_USERAGENT, "keepwarm") ||
			       curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS) ||
			       curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS,
						(long)DRIVER_TIMEOUT_MS) ||
			       curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header) ||
			       curl_easy_setopt(curl, CURLOPT_HEADERDATA, h) ||
			       curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body) ||
			       curl_easy_setopt(curl, CURLOPT_WRITEDATA, h)
		       ? -EINVAL
		       : 0;
}

/* auth_http_header, which was judged with the configuration. 0 or -EINVAL. */
static int make_own_header(struct http *h, const char *setting)
{
	struct span name, value;

	if (!*setting)
		return 0;
	if (config_directory_header(setting, &name, &value) ||
	    asprintf(&h->own_header, "%.*s: %.*s", (int)name.n, name.p, (int)value.n, value.p) < 0)
		return -EINVAL;
	return 0;
}

static int open_url(const char *scheme, const char *place, const struct config *c, void **ret,
		    struct why *why)
{
	struct http *h = calloc(1, sizeof(*h));

	if (h && make_own_header(h, c->auth_http_header) < 0) {
		h->own_header = NULL;
		close_http(h);
		why_say(why, "auth_http_header is not NAME VALUE");
		return -EINVAL;
	}
	if (h && asprintf(&h->url, "%s:%s", scheme, place) < 0)
		h->url = NULL;
	if (h && h->url)
		h->curl = curl_easy_init();
	if (!h || !h->curl || set_options(h) < 0) {
		if (h)
			close_http(h);
		why_say(why, "libcurl does not take it");
		return -EINVAL;
	}
	*ret = h;
	return 0;
}

static int open_http(const char *place, const struct config *c, void **ret, struct why *why)
{
	return open_url("http", place, c, ret, why);
}

static int open_https(const char *place, const struct config *c, void **ret, struct why *why)
{
	return open_url("https", place, c, ret, why);
}

/* "NAME: value", the value escaped. 0 or -errno. */
static int add_header(struct curl_slist **list, const char *name, struct span value)
{
	static const char hex[] = "0123456789ABCDEF";
	static char data[40 + 3 * PASSWORD_TYPED_MAX];
	struct buf line = { .data = data, .cap = sizeof(data) - 1 };
	int r = buf_add_str(&line, name) || buf_add_str(&line, ": ");

	for (size_t i = 0; r == 0 && i < value.n; i++) {
		unsigned char u = (unsigned char)value.p[i];
		const char escaped[3] = { '%', hex[u >> 4], hex[u & 15] };
		bool plain = u > ' ' && u != '%' && u != 0x7f;

		r = plain ? buf_add_char(&line, value.p[i])
			  : buf_add(&line, (struct span){ escaped, sizeof(escaped) });
	}
	if (r != 0)
		return -ENOBUFS;
	data[line.len] = '\0';
	struct curl_slist *longer = curl_slist_append(*list, data);

	explicit_bzero(data, line.len);
	if (!longer)
		return -ENOMEM;
	*list = longer;
	return 0;
}

static int add_own_header(struct curl_slist **list, const struct http *h)
{
	struct curl_slist *longer = h->own_header ? curl_slist_append(*list, h->own_header) : *list;

	if (h->own_header && !longer)
		return -ENOMEM;
	*list = longer;
	return 0;
}

static void free_headers(struct curl_slist *list)
{
	for (struct curl_slist *one = list; one; one = one->next)
		explicit_bzero(one->data, strlen(one->data));
	curl_slist_free_all(list);
}

/* What a password is checked with, as nginx asks. 0 or -errno. */
static int add_check(struct curl_slist **list, const struct driver_question *q)
{
	int r;

	(void)((r = add_header(list, "Auth-Method", SPAN("plain"))) ||
	       (r = add_header(list, "Auth-Pass", q->secret)) ||
	       (r = *q->client ? add_header(list, "Client-IP", span_str(q->client)) : 0));
	return r;
}

/* What nginx says of the client besides: Auth-SSL only where there is TLS. 0 or -errno. */
static int add_client(struct curl_slist **list, const struct driver_question *q)
{
	char digits[12];
	int n = snprintf(digits, sizeof(digits), "%u", q->attempt > 0 ? q->attempt : 1u);
	int r = add_header(list, "Auth-Login-Attempt", (struct span){ digits, (size_t)n });

	return r == 0 && q->tls ? add_header(list, "Auth-SSL", SPAN("on")) : r;
}

static CURLcode ask(struct http *h, const struct driver_question *q, long *ret_status)
{
	struct curl_slist *headers = NULL;
	CURLcode r = CURLE_OUT_OF_MEMORY;

	memset(h->given, 0, sizeof(h->given));
	h->bytes = 0;
	h->odd = false;
	if ((q->check ? add_check(&headers, q)
		      : add_header(&headers, "Auth-Method", SPAN("none"))) == 0 &&
	    add_header(&headers, "Auth-User", q->user) == 0 &&
	    add_header(&headers, "Auth-Protocol", span_str(q->service)) == 0 &&
	    add_client(&headers, q) == 0 && add_own_header(&headers, h) == 0 &&
	    curl_easy_setopt(h->curl, CURLOPT_HTTPHEADER, headers) == CURLE_OK)
		r = curl_easy_perform(h->curl);
	if (r == CURLE_OK)
		r = curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, ret_status);
	(void)curl_easy_setopt(h->curl, CURLOPT_HTTPHEADER, NULL);
	free_headers(headers);
	return r;
}

/* Server and port, as a record writes them. 0 or -EINVAL. */
static int add_host(const struct http *h, struct account *ret)
{
	char host[sizeof(h->values[0]) + 16];
	bool bare_v6 = h->values[AUTH_SERVER][0] != '[' &&
		       strstr(h->values[AUTH_SERVER], "://") == NULL &&
		       strchr(h->values[AUTH_SERVER], ':') != NULL;

	if (!h->given[AUTH_PORT])
		(void)snprintf(host, sizeof(host), "%s", h->values[AUTH_SERVER]);
	else
		(void)snprintf(host, sizeof(host), bare_v6 ? "[%s]:%.8s" : "%s:%.8s",
			       h->values[AUTH_SERVER], h->values[AUTH_PORT]);
	return account_add_hosts(ret, span_str(host));
}

/* How long the answer is good, where it says so: many programs forbid to keep any answer of theirs
 * (no-store, max-age=0) without a thought, which nginx does not heed either. */
static void take_lifetime(const struct http *h, struct account *ret)
{
	const struct span max_age = SPAN("max-age=");
	struct span rest = span_str(h->values[CACHE_CONTROL]), part;

	while ((part = span_word(&rest, ',')).n > 0) {
		while (part.n > 0 && part.p[0] == ' ')
			part = span_from(part, 1);
		if (span_istarts(part, max_age))
			account_set_lifetime(ret, span_from(part, max_age.n));
	}
}

static enum found read_record(const struct http *h, const struct driver_question *q,
			      struct account *ret, struct why *why)
{
	/* nginx hands the status text to the client: whatever is not OK is a refusal */
	if (strcasecmp(h->values[AUTH_STATUS], "OK") != 0) {
		if (!h->given[AUTH_ERROR_CODE] || h->values[AUTH_ERROR_CODE][0] != '4')
			return q->check ? FOUND_DENIED : FOUND_NOT;
		why_say(why, "it says that it cannot answer now");
		return FOUND_TROUBLE;
	}
	if ((h->given[AUTH_SERVER] ? add_host(h, ret) < 0 : h->given[AUTH_PORT]) ||
	    (h->given[AUTH_USER] && account_set_user(ret, span_str(h->values[AUTH_USER])) < 0) ||
	    (h->given[AUTH_PASS] &&
	     account_set_password(ret, span_str(h->values[AUTH_PASS])) < 0)) {
		why_say(why, "the account's record is wrong");
		return FOUND_TROUBLE;
	}
	take_lifetime(h, ret);
	ret->checked = q->check;
	return FOUND;
}

/* No answer: is it this question, or the server? */
static enum found judge_failure(struct http *h, const struct driver_question *q, CURLcode r,
				struct why *why)
{
	long sent = 0;
	struct buf last = { .data = h->last, .cap = sizeof(h->last) - 1 };

	why_say(why, "%s", curl_easy_strerror(r));
	if (!q->check || r != CURLE_OPERATION_TIMEDOUT ||
	    curl_easy_getinfo(h->curl, CURLINFO_REQUEST_SIZE, &sent) != CURLE_OK || sent <= 0)
		return FOUND_DOWN;
	if (h->unheard == 0 || !span_eq(span_str(h->last), q->user)) {
		h->unheard += h->unheard < SILENT_NAMES;
		h->last[buf_add(&last, q->user) == 0 ? last.len : 0] = '\0';
	}
	return h->unheard < SILENT_NAMES ? FOUND_TROUBLE : FOUND_DOWN;
}

static enum found find_http(void *source, const struct driver_question *q, struct account *ret,
			    struct why *why)
{
	struct http *h = source;
	enum found found = FOUND_TROUBLE;
	long status = 0;
	CURLcode r = ask(h, q, &status);

	if (r != CURLE_OK && r != CURLE_WRITE_ERROR) {
		found = judge_failure(h, q, r, why);
	} else if (r != CURLE_OK || h->odd) {
		why_say(why, "the answer is too long");
	} else if (status != 200 || !h->given[AUTH_STATUS]) {
		why_say(why, "HTTP status %ld%s", status,
			h->given[AUTH_STATUS] ? "" : " without Auth-Status");
	} else {
		found = read_record(h, q, ret, why);
	}
	if (r == CURLE_OK)
		h->unheard = 0;
	explicit_bzero(h->values, sizeof(h->values));
	return found;
}

const struct driver driver_http = { "http", open_http, find_http, close_http };
const struct driver driver_https = { "https", open_https, find_http, close_http };
