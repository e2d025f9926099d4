/* Mechanisms that challenge the client (CRAM, SCRAM): lookupd has what is needed to judge the
 * answers, so each message of the client goes to the broker, and what the client is told comes from
 * there.
 */
#ifndef PROXYD_SASL_CHALLENGE_H
#define PROXYD_SASL_CHALLENGE_H

#include "lib/sasl.h"
#include "proxyd/session.h"

#define SASL_CHALLENGE_MOST 4096 /* bytes of a message, as in AUTH_STEP */

/* Converses by this mechanism; the client's first message, if it has one, is in the place of the
 * secret. END_NONE with the result in *ret as with sasl_client_go_on(): 0 means that it is judged,
 * and the credentials are those of a verified client or have a refusal. Or why the session ends. */
enum session_end sasl_challenge_run(struct session *s, enum sasl_mechanism mechanism,
				    int64_t deadline, int *ret);

/* Has the broker make APOP's challenge (RFC 1939 section 7), for the greeting: *ret borrows until
 * the broker is asked again; empty: there is none. END_NONE, or why the session ends. */
enum session_end sasl_challenge_greet(struct session *s, struct span *ret);

/* Has the answer to that judged, which is in the place of the secret. As sasl_challenge_run(). */
enum session_end sasl_challenge_apop(struct session *s, int64_t deadline, int *ret);

#endif
