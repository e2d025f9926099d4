/* What TLS needs of the configuration: certificates, keys, authorities, ciphers, as OpenSSL's
 * contexts. The only place where certificates are loaded. */
#ifndef TLSRELAYD_CONTEXTS_H
#define TLSRELAYD_CONTEXTS_H

#include "lib/config.h"
#include "lib/span.h"
#include "tlsrelayd/identity.h"

struct ssl_st;
struct contexts;

/* Loads all that c names, files that the archive `bundle` (lib/bundle.h; -1: none) holds from
 * there. Each problem is a log line, beginning with config_path. Returns 0, -EINVAL for a
 * configuration that is not good, -ENOMEM. */
int contexts_load(const struct config *c, const char *config_path, int bundle,
		  struct contexts **ret);

/* NULL is allowed. */
void contexts_free(struct contexts *c);

/* Is there a certificate for clients? Is TLS with mail hosts set up? */
bool contexts_serve(const struct contexts *c);
bool contexts_connect(const struct contexts *c);

/* Frees one half, for a process that is not to hold it. */
void contexts_drop_clients(struct contexts *c);
void contexts_drop_hosts(struct contexts *c);

/* The server's end of a connection from a client of this service (enum msg_service). NULL without
 * memory. */
struct ssl_st *contexts_accept(const struct contexts *c, uint32_t service);

/* The client's end of one to a mail host of this name, or address; `ticket`: a session to resume,
 * or empty. NULL without memory, or for a name that cannot be one. */
struct ssl_st *contexts_dial(const struct contexts *c, const char *host, struct span ticket);

/* Whom the client of this finished handshake is by its certificate (identity.h); 0 where none is
 * asked for. */
int contexts_identify(const struct contexts *c, struct ssl_st *ssl, char ret[IDENTITY_MAX + 1]);

/* Frees what a finished handshake leaves behind and nobody asks for: the peer's chain. */
void contexts_slim(struct ssl_st *ssl);

/* Of a finished handshake with a mail host: a session of TLS 1.2 that was resumed, and is not older
 * than an hour, may be so once more, for the mail host sends no other then. With TLS 1.3 each is
 * for one time (RFC 8446 appendix C.4), and others come. */
void contexts_keep_session(struct ssl_st *ssl);

/* Is told about sessions with mail hosts that may be resumed; `context` is what was set with
 * contexts_set_owner(). */
typedef void contexts_ticket_fn(void *context, struct span ticket);
void contexts_on_ticket(struct contexts *c, contexts_ticket_fn *fn);
void contexts_set_owner(struct ssl_st *ssl, void *context);

#endif
