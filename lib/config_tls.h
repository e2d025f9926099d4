/* What the keys about TLS mean together: those of up-imapproxy go on meaning what they did. */
#ifndef LIB_CONFIG_TLS_H
#define LIB_CONFIG_TLS_H

#include "lib/config.h"

/* How connections to mail hosts are protected: server_tls, or where that is not set force_tls. */
enum tls_mode config_tls_mode(const struct config *c);

/* May there be TLS with a mail host: by server_tls, or since a directory may ask for it? */
bool config_tls_possible(const struct config *c);

/* Must their certificates be good? tls_verify_server; where that is not set yes, unless only the
 * old force_tls asks for TLS: a site that comes from up-imapproxy goes on working. */
bool config_tls_verifies(const struct config *c);

/* The oldest version of TLS toward them: 12 or 13. */
uint32_t config_tls_min_version(const struct config *c);

/* The port of a mail host that has none of its own: server_port; where that is not set 993 with
 * implicit TLS (RFC 8314 section 3.2). */
uint32_t config_server_port(const struct config *c);

/* The same for POP3: pop3_server_port, or 995. */
uint32_t config_pop3_server_port(const struct config *c);

/* Gives the keys that others decide about the values that they have by that, so that what is
 * printed of c means the same. */
void config_tls_settle(struct config *c);

/* Is EXTERNAL, which goes by a client's certificate, among auth_mechanisms? */
bool config_offers_external(const struct config *c);

/* Is there any TLS, so that tlsrelayd has work? */
bool config_tls_used(const struct config *c);

#endif
