/* The messages of the token mechanisms: OAUTHBEARER (RFC 7628 section 3.1) and XOAUTH2, Google's
 * older one. Pure.
 *
 *	XOAUTH2      user=NAME ^A auth=Bearer TOKEN ^A ^A
 *	OAUTHBEARER  n,a=NAME, ^A host=… ^A port=… ^A auth=Bearer TOKEN ^A ^A
 *
 * Whoever holds a message or what was read from it holds a secret: the caller wipes.
 */
#ifndef PROXYD_SASL_OAUTH_H
#define PROXYD_SASL_OAUTH_H

#include "lib/buf.h"
#include "lib/msg.h"

/* A message is never longer than name and token by more than this, but for OAUTHBEARER's escapes in
 * the name, each three bytes for one. */
#define SASL_OAUTH_EXTRA 40

/* Reads a client's message of this kind, PROOF_XOAUTH2 or PROOF_OAUTHBEARER: appends the name to
 * user and sets *token, which borrows message. 0; -ENODATA when it names no user; -ENOBUFS for a
 * name that does not fit; -EINVAL for anything else that is not exactly one such message, of a name
 * without control characters and a Bearer token of visible ASCII. */
int sasl_oauth_read(enum msg_proof kind, struct span message, struct buf *user, struct span *token);

/* Appends the message for this name and token. 0; -EINVAL for a name with control characters;
 * -ENOBUFS. */
int sasl_oauth_write(enum msg_proof kind, struct span user, struct span token, struct buf *out);

/* What a client says, in base64, to the server's report of an error, before the tagged NO comes. */
struct span sasl_oauth_answer(enum msg_proof kind);

#endif
