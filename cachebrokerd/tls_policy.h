/* What TLS with mail hosts is made with, as a number: the settings, and which files they name. A
 * connection made under another one might not be made now.
 */
#ifndef CACHEBROKERD_TLS_POLICY_H
#define CACHEBROKERD_TLS_POLICY_H

#include "lib/config_tls.h"

/* The number of these settings, with the files as they are now. */
uint64_t tls_policy(const struct config *c);

/* The same of the file whose authorities clients' certificates are verified with. */
uint64_t tls_policy_clients(const struct config *c);

#endif
