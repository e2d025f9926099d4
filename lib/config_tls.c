/* The keys about TLS, where several decide together. */
#include "lib/config_tls.h"

#define IMAPS_PORT 993

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
