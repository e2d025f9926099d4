/* Whom a client's certificate names. */
#ifndef TLSRELAYD_IDENTITY_H
#define TLSRELAYD_IDENTITY_H

#include <stdint.h>

#define IDENTITY_MAX 255 /* bytes: of a user's name */

struct ssl_st;

/* The identity in the certificate that the client of this finished handshake, or of the session
 * that it resumes, has shown: the name of this kind (enum tls_name of lib/config.h), as a string.
 * 1; 0: it has shown none, or one whose time is over since; -EINVAL: no name in it is one that a
 * user can have. */
int identity_of(struct ssl_st *ssl, uint32_t kind, char ret[IDENTITY_MAX + 1]);

#endif
