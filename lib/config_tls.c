/* The keys about TLS, where several decide together, and what is wrong with them together.
 *
 * Each rule speaks about a key that the file sets, so that there is a line to point at.
 */
#include "lib/config_tls.h"

#include <string.h>

#include "lib/config_rows.h"
#include "lib/sasl.h"
#include "lib/span.h"

#define IMAPS_PORT 993
#define POP3S_PORT 995

static bool is_set(const struct config *c, const char *key)
{
	return config_line_of(c, key) > 0;
}

enum tls_mode config_tls_mode(const struct config *c)
{
	if (is_set(c, "server_tls"))
		return (enum tls_mode)c->server_tls;
	return c->force_tls ? TLS_STARTTLS : TLS_NONE;
}

bool config_tls_possible(const struct config *c)
{
	return config_tls_mode(c) != TLS_NONE || c->directory.count > 0;
}

bool config_tls_verifies(const struct config *c)
{
	if (is_set(c, "tls_verify_server"))
		return c->tls_verify_server;
	return is_set(c, "server_tls") || !c->force_tls;
}

uint32_t config_tls_min_version(const struct config *c)
{
	return c->tls_no_tlsv1_2 ? 13 : c->tls_min_version;
}

uint32_t config_server_port(const struct config *c)
{
	return config_tls_mode(c) == TLS_IMPLICIT && !is_set(c, "server_port") ? IMAPS_PORT
									       : c->server_port;
}

uint32_t config_pop3_server_port(const struct config *c)
{
	return config_tls_mode(c) == TLS_IMPLICIT && !is_set(c, "pop3_server_port")
		       ? POP3S_PORT
		       : c->pop3_server_port;
}

void config_tls_settle(struct config *c)
{
	enum tls_mode mode = config_tls_mode(c);
	bool verifies = config_tls_verifies(c);

	c->server_port = config_server_port(c);
	c->pop3_server_port = config_pop3_server_port(c);
	c->tls_min_version = config_tls_min_version(c);
	c->server_tls = mode;
	c->tls_verify_server = verifies;
}

bool config_tls_used(const struct config *c)
{
	return config_tls_possible(c) || *c->tls_server_cert_file || c->imaps_listen_port != 0 ||
	       c->pop3s_listen_port != 0;
}

/* --- what is wrong with them together ---------------------------------------------------- */

static bool port_without_certificate(const struct config *c)
{
	return c->imaps_listen_port != 0 && !*c->tls_server_cert_file;
}

static bool same_port_twice(const struct config *c)
{
	return c->imaps_listen_port != 0 && c->imaps_listen_port == c->listen_port;
}

static bool pop3_port_without_certificate(const struct config *c)
{
	return c->pop3s_listen_port != 0 && !*c->tls_server_cert_file;
}

/* Is the port that of a key before it? */
static bool same_port_as_imap(const struct config *c, uint32_t port)
{
	return port != 0 && (port == c->listen_port || port == c->imaps_listen_port);
}

static bool pop3_port_twice(const struct config *c)
{
	return same_port_as_imap(c, c->pop3_listen_port);
}

static bool pop3s_port_twice(const struct config *c)
{
	return same_port_as_imap(c, c->pop3s_listen_port) ||
	       (c->pop3s_listen_port != 0 && c->pop3s_listen_port == c->pop3_listen_port);
}

static bool required_without_certificate(const struct config *c)
{
	return c->require_tls && !*c->tls_server_cert_file;
}

static size_t count_words(const char *text)
{
	struct span rest = span_str(text);
	size_t n = 0;

	while (rest.n > 0)
		n += span_word(&rest, ' ').n > 0;
	return n;
}

static bool other_number_of_keys(const struct config *c)
{
	return *c->tls_server_key_file &&
	       count_words(c->tls_server_key_file) != count_words(c->tls_server_cert_file);
}

static bool forced_and_none(const struct config *c)
{
	return c->force_tls && is_set(c, "server_tls") && c->server_tls == TLS_NONE;
}

static bool forced_alone(const struct config *c)
{
	return config_tls_mode(c) != TLS_NONE && !is_set(c, "tls_verify_server") &&
	       !config_tls_verifies(c);
}

static bool not_verified(const struct config *c)
{
	return config_tls_possible(c) && is_set(c, "tls_verify_server") &&
	       !c->tls_verify_server;
}

static bool old_version(const struct config *c)
{
	return !c->tls_no_tlsv1;
}

static bool old_version_too(const struct config *c)
{
	return !c->tls_no_tlsv1_1;
}

static bool key_without_certificate(const struct config *c)
{
	return *c->tls_key_file && !*c->tls_cert_file;
}

static bool authorities_without_certificate(const struct config *c)
{
	return *c->tls_client_ca_file && !*c->tls_server_cert_file;
}

bool config_offers_external(const struct config *c)
{
	struct span bad;
	uint32_t set = 0;

	return sasl_list_read(span_str(c->auth_mechanisms), &set, &bad) == 0 &&
	       (set & SASL_EXTERNAL);
}

static bool external_without_authorities(const struct config *c)
{
	return config_offers_external(c) && !*c->tls_client_ca_file;
}

static bool external_without_master(const struct config *c)
{
	return config_offers_external(c) && c->directory.count == 0 &&
	       !(*c->auth_sasl_plain_username && *c->auth_sasl_plain_password);
}

static bool imaps_without_tls(const struct config *c)
{
	return config_tls_mode(c) == TLS_NONE && c->server_port == IMAPS_PORT;
}

static bool pop3s_without_tls(const struct config *c)
{
	return config_tls_mode(c) == TLS_NONE && c->pop3_server_port == POP3S_PORT;
}

static const struct {
	const char *key;
	bool (*is_wrong)(const struct config *c);
	bool is_error;
	const char *text;
} rules[] = {
	{ "imaps_listen_port", port_without_certificate, true,
	  "needs a certificate; name it with tls_server_cert_file" },
	{ "imaps_listen_port", same_port_twice, true,
	  "is the same as listen_port; give each its own" },
	{ "pop3_listen_port", pop3_port_twice, true,
	  "is the same as listen_port or imaps_listen_port; give each its own" },
	{ "pop3s_listen_port", pop3_port_without_certificate, true,
	  "needs a certificate; name it with tls_server_cert_file" },
	{ "pop3s_listen_port", pop3s_port_twice, true,
	  "is the same as another port to listen on; give each its own" },
	{ "require_tls", required_without_certificate, true,
	  "nobody could log in without a certificate; name it with tls_server_cert_file" },
	{ "tls_server_key_file", other_number_of_keys, true,
	  "there must be one for each certificate of tls_server_cert_file, in the same order; "
	  "leave it out if the keys are in the same files" },
	{ "force_tls", forced_and_none, true,
	  "yes wants TLS and server_tls none wants none; remove one of them" },
	{ "force_tls", forced_alone, false,
	  "certificates of mail hosts are not verified, as it was with up-imapproxy, so that "
	  "somebody in between can read everything; set server_tls starttls in its place to have "
	  "them verified" },
	{ "tls_verify_server", not_verified, false,
	  "certificates of mail hosts are not verified, so that somebody in between can read "
	  "everything; better say with tls_ca_file who signs them" },
	{ "tls_no_tlsv1", old_version, false, "TLS 1.0 is never used; remove the line" },
	{ "tls_no_tlsv1_1", old_version_too, false, "TLS 1.1 is never used; remove the line" },
	{ "tls_key_file", key_without_certificate, false, "has no effect without tls_cert_file" },
	{ "tls_client_ca_file", authorities_without_certificate, false,
	  "has no effect without tls_server_cert_file" },
	{ "auth_mechanisms", external_without_authorities, false,
	  "EXTERNAL is offered to nobody without tls_client_ca_file" },
	{ "auth_mechanisms", external_without_master, false,
	  "EXTERNAL: nobody could log in at the mail host; name a master user with "
	  "auth_sasl_plain_username and auth_sasl_plain_password" },
	{ "server_port", imaps_without_tls, false,
	  "993 is for TLS from the first byte on; set server_tls implicit" },
	{ "pop3_server_port", pop3s_without_tls, false,
	  "995 is for TLS from the first byte on; set server_tls implicit" },
};

static const char *written(const char *key)
{
	for (size_t i = 0; i < config_row_count; i++)
		if (strcmp(config_rows[i].key, key) == 0)
			return config_written_key(&config_rows[i]);
	return key;
}

void config_tls_judge(struct config_problems *p)
{
	unsigned line = p->line;

	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		if (!rules[i].is_wrong(p->config))
			continue;
		p->line = config_line_of(p->config, rules[i].key);
		config_say(p, rules[i].is_error, "%s: %s", written(rules[i].key), rules[i].text);
	}
	p->line = line;
}
